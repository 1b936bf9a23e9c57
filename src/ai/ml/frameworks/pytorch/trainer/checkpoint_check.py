"""Checks of an epoch checkpoint's record before any of it is restored.

It is compared with an example from the very training that would go on with it: the same keys, tensors of the same shape
and dtype, values of the same kind. A file with the right digest may still have been written by somebody else.
"""

from __future__ import annotations

import math
from typing import Any, cast

from torch import Tensor

_REPORT = {"epoch": 0, "epochs": 0, "train_loss": 0.0, "validation_loss": 0.0, "seconds": 0.0, "best": False}


def check_state(record: Any, example: dict[str, Any], max_epochs: int) -> None:
    """Refuse a record that a training can't go on from.

    Args:
        record: of `decode_tree`.
        example: what `TrainingLoop.state_dict` gives there, with optimiser state and best weights as after an epoch.
        max_epochs: of the config.

    Raises:
        ValueError: where in the record, what is expected there and what it holds.
    """
    record = _dict("state", record, example)
    for name, expected in example.items():
        if name == "best_weights" and record[name] is None:
            continue
        if name not in ("optimizer", "history"):
            _check_form(name, record[name], expected)
    epoch, best, spent = record["epoch"], record["best_epoch"], record["spent"]
    if not (1 <= epoch <= max_epochs and 0 <= best <= epoch):
        raise ValueError(f"epoch {epoch}, the best being {best}, of {max_epochs}")
    if not 0 <= spent < math.inf:
        raise ValueError(f"spent: expected seconds, got {spent}")
    _check_history(record["history"], epoch)
    _check_optimizer(record["optimizer"], example["optimizer"])


def _check_history(history: Any, epoch: int) -> None:
    if not isinstance(history, list) or len(cast("list[Any]", history)) != epoch:
        raise ValueError(f"history: expected {epoch} reports")
    for epoch_number, report in enumerate(cast("list[Any]", history), start=1):
        known = _dict(f"history.{epoch_number}", report, _REPORT)
        _check_form(f"history.{epoch_number}", {"validation_loss": 0.0, **_without_none(known)}, _REPORT)
        if known["epoch"] != epoch_number:
            raise ValueError(f"history.{epoch_number}: is of epoch {known['epoch']}")


def _check_optimizer(record: Any, example: dict[str, Any]) -> None:
    record = _dict("optimizer", record, example)
    groups: Any = record["param_groups"]
    if not isinstance(groups, list) or len(cast("list[Any]", groups)) != len(example["param_groups"]):
        raise ValueError(f"optimizer.param_groups: expected {len(example['param_groups'])} of them")
    for group, known in zip(cast("list[Any]", groups), example["param_groups"], strict=True):
        _check_group(_dict("optimizer.param_groups", group, known), known)
    state, known = record["state"], example["state"]
    if not isinstance(state, dict) or not cast("dict[Any, Any]", state).keys() <= known.keys():
        raise ValueError(f"optimizer.state: expected the moments of {len(known)} weights")
    # A weight that got no gradient has none yet.
    for number, moments in cast("dict[Any, Any]", state).items():
        _check_form(f"optimizer.state.{number}", moments, known[number])


def _check_group(group: dict[str, Any], example: dict[str, Any]) -> None:
    """As the settings made it, but for the step size, which a training changes."""
    for name, expected in example.items():
        value, where = group[name], f"optimizer.param_groups: {name}"
        if name == "lr":
            if type(value) not in (int, float) or not 0 <= value < math.inf:
                raise ValueError(f"{where}: expected a step size, got {_form_of(value)}")
            continue
        _check_form(where, value, expected)
        if value != (list(expected) if isinstance(expected, tuple) else expected):
            raise ValueError(f"{where}: expected {expected!r}, got {value!r}")


def _check_form(name: str, value: Any, example: Any) -> None:
    """The same keys and lengths, dtypes and shapes, and types, all the way down."""
    match example:
        case Tensor():
            kind, shape = example.dtype, tuple(example.shape)
            if not isinstance(value, Tensor) or value.dtype != kind or tuple(value.shape) != shape:
                raise ValueError(f"{name}: expected {kind} of shape {shape}, got {_form_of(value)}")
        case dict():
            known = cast("dict[Any, Any]", example)
            for key, item in _dict(name, value, known).items():
                _check_form(f"{name}.{key}", item, known[key])
        case list() | tuple():
            items = cast("list[Any]", example)
            if not isinstance(value, list) or len(cast("list[Any]", value)) != len(items):
                raise ValueError(f"{name}: expected {len(items)} entries, got {_form_of(value)}")
            for index, (item, known) in enumerate(zip(cast("list[Any]", value), items, strict=True)):
                _check_form(f"{name}.{index}", item, known)
        case _:
            if type(value) is not type(example):
                raise ValueError(f"{name}: expected {type(example).__name__}, got {_form_of(value)}")


def _dict(name: str, value: Any, example: dict[Any, Any]) -> dict[Any, Any]:
    if isinstance(value, dict):
        found = cast("dict[Any, Any]", value)
        differing = sorted(map(str, found.keys() ^ example.keys()))
        if not differing:
            return found
        known = differing[0] in map(str, example)
        raise ValueError(f"{name}: {differing[0]!r} is {'missing' if known else 'unknown'}")
    raise ValueError(f"{name}: expected {len(example)} keys, got {_form_of(value)}")


def _without_none(report: dict[str, Any]) -> dict[str, Any]:
    """An epoch without a validation part has no loss there."""
    return {name: value for name, value in report.items() if name != "validation_loss" or value is not None}


def _form_of(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__
