"""The one split of a training: training, validation and holdout rows."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ai.ml.core.contract import Finding, InputContract
from ai.ml.core.errors import DataRefused
from ai.ml.core.splits.by_hash import other_keys, sides_by_keys
from ai.ml.core.splits.by_time import sides_by_time
from ai.ml.core.splits.hints import split_hints
from ai.ml.core.splits.instants import Instants, read_instants
from ai.ml.core.splits.repeats import find_repeats
from ai.ml.core.splits.rule import SplitRule, keys_of
from ai.ml.core.types import TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.trainer.data.random_split import (
    MIN_FITTING_ROWS,
    MIN_SPLIT_ROWS,
    MIN_VALIDATION_ROWS,
    split_holdout,
    split_validation,
    wants_validation,
)


@dataclass(frozen=True)
class Split:
    """Row numbers, and the rule behind them."""

    train_rows: np.ndarray
    """`(n_train,)` int64: row numbers of the table, validation rows included."""
    holdout_rows: np.ndarray
    """`(n_holdout,)` int64: row numbers of the table that nothing is fitted on."""
    validation: tuple[np.ndarray, np.ndarray] | None
    """Indices into `train_rows` of the rows to fit on and of those for validation; None where there are too few."""
    rule: SplitRule
    """Whether a row may have been learned from, for whoever compares the model later."""
    findings: tuple[Finding, ...] = ()


def split_rows(table: pa.Table, contract: InputContract, labels: np.ndarray, config: TrainingConfig) -> Split:
    """Split a table by the config's rule.

    Args:
        table: raw.
        contract: its columns are the cells that a row goes by where it has no key.
        labels: `(n_rows,)` the target.
        config: rule, shares, and the seed of a random split.

    Raises:
        DataRefused: both sides can't have rows.
        UsageError: a column of the rule isn't there, or a span doesn't fit it.
    """
    config.split.check_columns(table.column_names, contract.target_column)
    cells = tuple(column.name for column in contract.columns)
    if config.split.kind == "random":
        sides = split_holdout(contract.task, labels, config.test_size, config.random_seed)
        validation = split_validation(contract.task, labels[sides[0]], config.validation_size, config.random_seed)
        repeats = find_repeats(keys_of(table, (), cells, "")[0], labels, *sides)
        return Split(*sides, validation, SplitRule("random", config.test_size, cells), tuple(repeats))
    if not table.num_rows:
        raise DataRefused("the table has no rows to split")
    split = _by_time if config.split.kind == "time" else _by_keys
    found = split(table, contract, labels, config)
    hints = (*_early_stopping_findings(found, contract, config), *split_hints(table, contract, config))
    return dataclasses.replace(found, findings=(*found.findings, *hints))


def _by_keys(table: pa.Table, contract: InputContract, labels: np.ndarray, config: TrainingConfig) -> Split:
    """The split by the hashed numbers of rows or groups."""
    settings = config.split
    cells = tuple(column.name for column in contract.columns)
    key = (settings.group,) if settings.group is not None else settings.key
    keys, named = keys_of(table, key, cells, settings.salt)
    classes = _class_codes(contract.task, labels)
    sides = sides_by_keys(keys, config.test_size, classes)
    train, holdout = np.flatnonzero(~sides.held), np.flatnonzero(sides.held)
    if not len(holdout):
        what = f"in {' and '.join(map(repr, key))}" if key else "in the columns that the model reads"
        raise DataRefused(f"no row can be held out: all {len(keys)} are the same {what}")
    _require_rows(train, labels, contract.task, "of the training side")
    validation = _validation_by_keys(keys[train], classes[train], contract.task, config)
    rule = SplitRule(settings.kind, config.test_size, cells, key, settings.salt, sides.lent, sides.kept)
    by_cells = keys_of(table, (), cells, settings.salt)[0] if key else keys
    repeats = find_repeats(by_cells, labels, train, holdout)
    findings = (*_key_findings(keys, named, sides.held, labels, contract, key), *repeats)
    return Split(train, holdout, validation, rule, findings)


def _early_stopping_findings(split: Split, contract: InputContract, config: TrainingConfig) -> list[Finding]:
    """A finding if there are no validation rows although they are configured and there are enough rows."""
    rows = len(split.train_rows)
    if split.validation is not None or _min_validation_rows(rows, contract.task, config.validation_size) is None:
        return []
    reason = "no part of them is newer than what would be left" if config.split.kind == "time" else "they are too alike"
    message = f"none of the {rows:,} training rows are watched for early stopping: {reason}"
    return [Finding("split", None, message)]


def _key_findings(
    keys: np.ndarray,
    named: np.ndarray,
    held: np.ndarray,
    labels: np.ndarray,
    contract: InputContract,
    key: tuple[str, ...],
) -> list[Finding]:
    found: list[Finding] = []
    if not named.all():
        message = (
            f"{(~named).sum():,} of {len(keys):,} rows have no {' or '.join(map(repr, key))}: split by their cells"
        )
        found.append(Finding("split", key[0], message))
    if contract.task == "classification":
        absent = sorted({str(label) for label in labels} - {str(label) for label in labels[held]})
        if absent:
            named_classes = ", ".join(map(repr, absent[:5])) + (", …" if len(absent) > 5 else "")
            message = f"no row of class {named_classes} is held out: there is one to learn from and none to spare"
            found.append(Finding("split", None, message))
    return found


def _validation_by_keys(
    keys: np.ndarray, classes: np.ndarray, task: TaskType, config: TrainingConfig
) -> tuple[np.ndarray, np.ndarray] | None:
    """Among the training rows, by other numbers made of the same ones: equal rows and groups stay together."""
    min_rows = _min_validation_rows(len(keys), task, config.validation_size)
    if min_rows is None:
        return None
    sides = sides_by_keys(other_keys(keys, "validation"), config.validation_size, classes, min_rows)
    return _parts(sides.held, ~sides.held)


def _by_time(table: pa.Table, contract: InputContract, labels: np.ndarray, config: TrainingConfig) -> Split:
    """The newest rows are held out, the newest of the rest are for validation."""
    settings = config.split
    entry, column = settings.time or "", settings.time_column or ""
    times = read_instants(entry, table.column(column))
    if not times.known.any():
        raise DataRefused(f"no row has a time in {column!r}: nothing can be split by it")
    cells = tuple(each.name for each in contract.columns)
    groups = None if settings.group is None else keys_of(table, (settings.group,), cells, "")[0]
    sides = sides_by_time(times, settings, config.test_size, groups)
    if sides is None:
        raise DataRefused(f"all rows are of one instant in {column!r}: none is newer than the rest, split by hash")
    train, holdout = np.flatnonzero(sides.learned), np.flatnonzero(sides.held)
    if not len(holdout):
        raise DataRefused(f"no row of {column!r} is as new as the holdout from {sides.cutoff} on")
    before = f"before {sides.cutoff}" + (f" by the gap of {settings.gap}" if settings.gap else "")
    _require_rows(train, labels, contract.task, before + (" and of other groups" if groups is not None else ""))
    validation = _validation_by_time(
        Instants(times.values[train], 0), None if groups is None else groups[train], contract, config
    )
    before = str(sides.learned_before)
    rule = SplitRule("time", config.test_size, cells, time=entry, learned_before=before, group=settings.group)
    repeats = find_repeats(keys_of(table, (), cells, "")[0], labels, train, holdout)
    finding = _time_finding(times, sides.learned, sides.held, sides.cutoff, column)
    return Split(train, holdout, validation, rule, (finding, *repeats))


def _time_finding(times: Instants, learned: np.ndarray, held: np.ndarray, cutoff: object, column: str) -> Finding:
    unknown = int((~times.known).sum())
    unused = len(held) - int(learned.sum()) - int(held.sum()) - unknown
    message = f"held out are the {held.sum():,} rows from {column} {cutoff} on"
    if unknown:
        message += f"; {unknown:,} rows whose time is missing or can't be read are used by nobody"
    if unused:
        message += (
            f"; nor are {unused:,} older ones within the gap or of groups that are held out"
            if unknown
            else (f"; {unused:,} older ones within the gap or of groups that are held out are used by nobody")
        )
    return Finding("split", column, message)


def _validation_by_time(
    times: Instants, groups: np.ndarray | None, contract: InputContract, config: TrainingConfig
) -> tuple[np.ndarray, np.ndarray] | None:
    min_rows = _min_validation_rows(len(times.values), contract.task, config.validation_size)
    if min_rows is None:
        return None
    settings = dataclasses.replace(config.split, holdout=None)
    sides = sides_by_time(times, settings, config.validation_size, groups, min_rows)
    return None if sides is None else _parts(sides.held, sides.learned)


def _min_validation_rows(rows: int, task: TaskType, validation_size: float) -> int | None:
    """The smallest number of validation rows; None where there are to be none."""
    if not wants_validation(rows, validation_size):
        return None
    if math.ceil(rows * validation_size) < MIN_VALIDATION_ROWS and rows < MIN_SPLIT_ROWS[task]:
        return None
    return MIN_VALIDATION_ROWS


def _parts(held: np.ndarray, learned: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    fitting, validation = np.flatnonzero(learned), np.flatnonzero(held)
    return (fitting, validation) if len(fitting) >= MIN_FITTING_ROWS and len(validation) else None


def _class_codes(task: TaskType, labels: np.ndarray) -> np.ndarray:
    """`(n_rows,)` int64 of the classes; one for all in a regression."""
    if task == "regression":
        return np.zeros(len(labels), dtype=np.int64)
    encoded = pa.array(labels, pa.string()).dictionary_encode()
    # By their names: the order of the rows must not matter.
    rank = np.argsort(np.argsort(np.array(encoded.dictionary.to_pylist(), dtype=object)))
    return rank[encoded.indices.to_numpy(zero_copy_only=False)].astype(np.int64)


def _require_rows(train: np.ndarray, labels: np.ndarray, task: TaskType, which: str) -> None:
    if len(train) < MIN_FITTING_ROWS:
        raise DataRefused(f"{len(train)} rows {which} are left to learn from; {MIN_FITTING_ROWS} are needed")
    if task == "classification" and len({str(label) for label in labels[train]}) < MIN_FITTING_ROWS:
        raise DataRefused(
            f"all {len(train)} rows {which} are of class {str(labels[train][0])!r}: nothing to tell apart"
        )
