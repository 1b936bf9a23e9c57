"""The column to predict: which task it makes, its labels, and what it must not be."""

from __future__ import annotations

import difflib

import numpy as np
import pyarrow as pa

from ai.ml.core.errors import DataRefused
from ai.ml.core.input_contract import InputContract
from ai.ml.core.tables.cells import as_texts, level_text, one_array, read_number, read_numbers
from ai.ml.core.types import TaskType, TrainingConfig

MOST_NUMBER_CLASSES = 20
"""Distinct numbers that are still taken for classes, such as a grade."""
REMEDY = "; --missing-target drop leaves them out"


def find_task(table: pa.Table, config: TrainingConfig) -> tuple[TaskType, list[str] | None]:
    """The task and, for a classification, its labels in order.

    Raises:
        DataRefused: the target isn't there, has missing cells, is constant, can't be what the config says, or a class
            has a single row.
    """
    array = target_array(table, config.target_column)
    name = config.target_column
    codes, labels = _labels(array, name, REMEDY)
    if len(labels) == 1:
        raise DataRefused(f"target {name!r} is {labels[0]!r} in all {len(array)} rows: there is nothing to learn")
    are_numbers = _are_numbers(array, labels)
    task = _task(config, are_numbers, labels)
    if task == "regression":
        _regression_values(array, name)
        return task, None
    counts = np.bincount(codes, minlength=len(labels))
    single = [labels[code] for code in np.flatnonzero(counts < 2)]
    if single:
        shown = ", ".join(map(repr, single[:10])) + (f" and {len(single) - 10} more" if len(single) > 10 else "")
        hint = "; if these are amounts, say --task regression" if are_numbers else ""
        raise DataRefused(
            f"target {name!r}: a class needs at least 2 rows, these have one: {shown}; drop or merge them{hint}"
        )
    return task, sorted(labels)


def task_of(table: pa.Table, config: TrainingConfig) -> TaskType:
    """The task: as the config says, or by the target's values.

    Numbers of more than `MOST_NUMBER_CLASSES` distinct values are a regression, however many rows have them: a table
    that grows must not turn amounts into classes.

    Raises:
        DataRefused: the target isn't there or has missing cells.
    """
    array = target_array(table, config.target_column)
    labels = _labels(array, config.target_column, REMEDY)[1]
    return _task(config, _are_numbers(array, labels), labels)


def class_rows(table: pa.Table, name: str) -> dict[str, int]:
    """How many rows each value of a target has, in the order of the values.

    Raises:
        DataRefused: the target isn't there or has missing cells.
    """
    codes, labels = _labels(target_array(table, name), name, REMEDY)
    counts = np.bincount(codes, minlength=len(labels))
    return {label: int(count) for label, count in sorted(zip(labels, counts, strict=True))}


def unreadable_numbers(table: pa.Table, name: str) -> int:
    """How many rows of a target are no finite number.

    Raises:
        DataRefused: the target isn't there.
    """
    return int((~np.isfinite(read_numbers(target_array(table, name))[0])).sum())


def target_values(contract: InputContract, table: pa.Table) -> np.ndarray:
    """The target of a table's rows: `(n_rows,)`, object of labels for a classification, float64 for a regression.

    Raises:
        DataRefused: the target isn't there, has missing cells, or isn't a number in a regression.
    """
    array = target_array(table, contract.target_column)
    if contract.task == "regression":
        return _regression_values(array, contract.target_column)
    codes, labels = _labels(array, contract.target_column)
    return np.array(labels, dtype=object)[codes] if len(codes) else np.empty(0, dtype=object)


def _are_numbers(array: pa.Array, labels: list[str]) -> bool:
    return all(read_number(label) is not None for label in labels) and not pa.types.is_boolean(array.type)


def _task(config: TrainingConfig, are_numbers: bool, labels: list[str]) -> TaskType:
    if config.task != "auto":
        return config.task
    return "regression" if are_numbers and len(labels) > MOST_NUMBER_CLASSES else "classification"


def with_known_target(table: pa.Table, name: str) -> pa.Table:
    """The rows whose target isn't missing, in order.

    Raises:
        DataRefused: the target isn't there, missing in every row, or neither numbers nor texts.
    """
    missing = _missing(target_array(table, name), name)[0]
    if len(missing) and missing.all():
        raise DataRefused(f"target {name!r} is missing in all {len(missing)} rows: there is nothing to learn")
    return table.filter(pa.array(~missing)) if missing.any() else table


def target_array(table: pa.Table, name: str) -> pa.Array:
    """The target's column, by name or else by name without outer blanks.

    Raises:
        DataRefused: it isn't there.
    """
    names = table.column_names
    match = [other for other in names if other == name] or [other for other in names if other.strip() == name.strip()]
    if len(match) != 1:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = (
            f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; there are {', '.join(map(repr, names))}"
        )
        raise DataRefused(f"there is no target column {name!r}{hint}")
    return one_array(table.column(match[0]), decode=False)


def _missing(array: pa.Array, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Where the target is missing, `(n_rows,)` bool; codes `(n_rows,)` int64 into labels that are all different."""
    kind = array.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise DataRefused(f"target {name!r} holds {kind}, expected numbers or texts")
    codes, texts = as_texts(array)
    places: dict[str, int] = {}
    code_places = np.array([places.setdefault(level_text(text or ""), len(places)) for text in texts] + [-1])
    row_places = code_places[codes]
    missing = row_places == places.get("", -1)
    return missing | (row_places < 0), row_places, list(places)


def _labels(array: pa.Array, name: str, remedy: str = "") -> tuple[np.ndarray, list[str]]:
    """Codes `(n_rows,)` int64 into labels that are all different."""
    missing, row_places, labels = _missing(array, name)
    if missing.any():
        first = int(np.flatnonzero(missing)[0])
        came = array[first].as_py()
        said = f"{came!r} counts as missing" if came else "blank"
        raise DataRefused(
            f"target {name!r} is missing in {int(missing.sum())} of {len(array)} rows, first in row {first} ({said}): "
            f"fill or drop these rows{remedy}"
        )
    return row_places, labels


def _regression_values(array: pa.Array, name: str) -> np.ndarray:
    numbers, _ = read_numbers(array)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        came = array[int(bad[0])].as_py()
        raise DataRefused(
            f"target {name!r} must be a finite number for a regression: {len(bad)} of {len(array)} rows aren't, "
            f"first row {int(bad[0])} with {came!r}"
        )
    return numbers
