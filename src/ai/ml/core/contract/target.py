"""The column to predict: which task it makes, its labels, and what it must not be."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ai.ml.core.errors import DataRefused
from ai.ml.core.input_contract import InputContract
from ai.ml.core.tables.cells import as_texts, level_text, one_array, read_number, read_numbers
from ai.ml.core.tables.csv.preamble import lone_name_hint
from ai.ml.core.types import TaskType

MOST_NUMBER_CLASSES = 20
"""Distinct numbers that are still taken for classes, such as a grade."""


@dataclass(frozen=True)
class TargetColumn:
    """The target of a training table, read once: every row has one."""

    name: str
    array: pa.Array
    """`(n_rows,)` as it came."""
    codes: np.ndarray
    """`(n_rows,)` int64 into `labels`."""
    labels: list[str]
    """All different, in the order in which they come."""

    @classmethod
    def read(cls, table: pa.Table, name: str) -> TargetColumn:
        """Read it.

        Raises:
            DataRefused: the target isn't there, has missing cells, or is neither numbers nor texts.
        """
        array = target_array(table, name)
        return cls(name, array, *_labels(array, name, "; --missing-target drop leaves them out"))

    @property
    def are_numbers(self) -> bool:
        """Whether every label reads as a number; truth values don't."""
        return not pa.types.is_boolean(self.array.type) and all(read_number(text) is not None for text in self.labels)

    def task(self, wanted: str) -> TaskType:
        """The task by the values, unless another than `auto` is wanted.

        Numbers of more than `MOST_NUMBER_CLASSES` distinct values are a regression, however many rows have them: a
        table that grows must not turn amounts into classes.
        """
        if wanted != "auto":
            return "regression" if wanted == "regression" else "classification"
        return "regression" if len(self.labels) > MOST_NUMBER_CLASSES and self.are_numbers else "classification"

    @property
    def class_rows(self) -> dict[str, int]:
        """How many rows each label has, in the order of the labels."""
        counts = np.bincount(self.codes, minlength=len(self.labels))
        return {label: int(count) for label, count in sorted(zip(self.labels, counts, strict=True))}

    @property
    def not_numbers(self) -> int:
        """How many rows are no finite number."""
        return int((~np.isfinite(read_numbers(self.array)[0])).sum())

    def find_task(self, wanted: str) -> TaskType:
        """The task that it makes, see `task`, where it can be learned.

        Args:
            wanted: `auto`, or the task that it is to be.

        Raises:
            DataRefused: it is constant, or a class has a single row.
        """
        name, labels, rows = self.name, self.labels, len(self.array)
        if len(labels) == 1:
            raise DataRefused(f"target {name!r} is {labels[0]!r} in all {rows} rows: there is nothing to learn")
        if self.task(wanted) == "regression":
            return "regression"
        counts = np.bincount(self.codes, minlength=len(labels))
        single = [labels[code] for code in np.flatnonzero(counts < 2)]
        if single:
            shown = ", ".join(map(repr, single[:10])) + (f" and {len(single) - 10} more" if len(single) > 10 else "")
            hint = "; if these are amounts, say --task regression" if self.are_numbers else ""
            raise DataRefused(
                f"target {name!r}: a class needs at least 2 rows, these have one: {shown}; drop or merge them{hint}"
            )
        return "classification"

    def values(self, task: TaskType) -> np.ndarray:
        """`(n_rows,)`, object of labels for a classification, float64 for a regression.

        Raises:
            DataRefused: a cell isn't a number in a regression.
        """
        if task == "regression":
            return _regression_values(self.array, self.name)
        return _by_codes(self.codes, self.labels)


def target_values(contract: InputContract, table: pa.Table) -> np.ndarray:
    """The target of a table's rows: `(n_rows,)`, object of labels for a classification, float64 for a regression.

    Raises:
        DataRefused: the target isn't there, has missing cells, or isn't a number in a regression.
    """
    array = target_array(table, contract.target_column)
    if contract.task == "regression":
        return _regression_values(array, contract.target_column)
    codes, labels = _labels(array, contract.target_column)
    return _by_codes(codes, labels)


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
        raise DataRefused(f"there is no target column {name!r}{hint}{lone_name_hint(names)}")
    return one_array(table.column(match[0]), decode=False)


def _missing(array: pa.Array, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Where the target is missing, `(n_rows,)` bool; codes `(n_rows,)` int64 into labels that are all different."""
    kind = array.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise DataRefused(f"target {name!r} holds {kind}, expected numbers or texts")
    codes, texts = as_texts(array)
    indices: dict[str, int] = {}
    code_indices = np.array([indices.setdefault(level_text(text or ""), len(indices)) for text in texts] + [-1])
    label_codes = code_indices[codes]
    missing = label_codes == indices.get("", -1)
    return missing | (label_codes < 0), label_codes, list(indices)


def _labels(array: pa.Array, name: str, remedy: str = "") -> tuple[np.ndarray, list[str]]:
    """Codes `(n_rows,)` int64 into labels that are all different."""
    missing, codes, labels = _missing(array, name)
    if missing.any():
        first = int(np.flatnonzero(missing)[0])
        cell = array[first].as_py()
        reason = f"{cell!r} counts as missing" if cell else "blank"
        count = int(missing.sum())
        raise DataRefused(
            f"target {name!r} is missing in {count} of {len(array)} rows, first in row {first} ({reason}): "
            f"fill or drop these rows{remedy}"
        )
    return codes, labels


def _by_codes(codes: np.ndarray, labels: list[str]) -> np.ndarray:
    return np.array(labels, dtype=object)[codes] if len(codes) else np.empty(0, dtype=object)


def _regression_values(array: pa.Array, name: str) -> np.ndarray:
    numbers, _ = read_numbers(array)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        cell = array[int(bad[0])].as_py()
        raise DataRefused(
            f"target {name!r} must be a finite number for a regression: {len(bad)} of {len(array)} rows aren't, "
            f"first row {int(bad[0])} with {cell!r}"
        )
    return numbers
