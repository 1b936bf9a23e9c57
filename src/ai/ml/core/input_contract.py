"""The records of the input contract: found at training, stored in the manifest, checked against every new table.

They stand below `ai.ml.core.types`, whose `ModelBundle` carries one; `ai.ml.core.contract` derives and applies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ai.ml.core.amounts import AmountFormat
from ai.ml.core.errors import BundleRefused
from ai.ml.core.reading import NOTHING_TOLD, Reading

TaskType = Literal["classification", "regression"]

CONTRACT_FORMAT = 2
"""Raise it when a stored contract would be read differently: then add a reader for the old one to `from_json`.

2: `reading`, and `amount` of a column; a contract without them is still written as format 1, which it is.
"""

Kind = Literal["number", "category", "date"]
_KINDS = ("number", "category", "date")


@dataclass(frozen=True)
class ColumnContract:
    """One raw input column."""

    name: str
    kind: Kind
    missing_share: float
    """Of the training rows."""
    minimum: float | None = None
    """Minimum finite number; of a date, days since 1970-01-01. None for a category, or without any."""
    maximum: float | None = None
    quantiles: tuple[float, ...] = ()
    """The 0th, 1st, … 100th percentile, each a value that occurred; empty for a category."""
    levels: dict[str, int] | None = None
    """A category's texts with their counts, in the order of the texts; without missing values."""
    date_format: str | None = None
    """How texts write a date, as `%Y-%m-%d`."""
    amount: AmountFormat | None = None
    """How texts write a number with a unit; None where they are plain numbers."""

    def to_json(self) -> dict[str, Any]:
        """The column as the manifest holds it."""
        record = {
            "name": self.name,
            "kind": self.kind,
            "missing_share": self.missing_share,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "quantiles": list(self.quantiles),
            "levels": self.levels,
            "date_format": self.date_format,
            "amount": None if self.amount is None else self.amount.to_json(),
        }
        return {key: value for key, value in record.items() if value not in (None, [])}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ColumnContract:
        """Parse the output of `to_json`; KeyError, TypeError or ValueError for anything else."""
        kind = record["kind"]
        if kind not in _KINDS:
            raise ValueError(f"column {record['name']!r} has the kind {kind!r}, expected one of {', '.join(_KINDS)}")
        levels = record.get("levels")
        return cls(
            str(record["name"]),
            kind,
            float(record["missing_share"]),
            _number(record.get("minimum")),
            _number(record.get("maximum")),
            tuple(float(value) for value in record.get("quantiles", ())),
            # Sorted again: JSON objects have no order to rely on.
            None if levels is None else {str(text): int(levels[text]) for text in sorted(levels)},
            record.get("date_format"),
            None if record.get("amount") is None else AmountFormat.from_json(record["amount"]),
        )


@dataclass(frozen=True)
class InputContract:
    """The columns that a model reads and the target that it predicts."""

    target_column: str
    task: TaskType
    classes: list[str] | None
    """The labels in the order of `LabelEncoder`; None for regression."""
    columns: tuple[ColumnContract, ...]
    """In the training table's order."""
    rows: int = 0
    """Training rows that the figures come from."""
    target: ColumnContract | None = None
    """The target's own figures: class counts, or percentiles. None for bundles from before they were kept."""
    reading: Reading = NOTHING_TOLD
    """The reading options of the training table; tables to score are read with them."""

    def to_json(self) -> dict[str, Any]:
        """The contract as the manifest holds it: plain JSON values without NaN."""
        reading = self.reading.to_json()
        record = {
            "format": CONTRACT_FORMAT if reading or any(column.amount for column in self.columns) else 1,
            "target_column": self.target_column,
            "task": self.task,
            "classes": self.classes,
            "columns": [column.to_json() for column in self.columns],
            "rows": self.rows,
        }
        target = {} if self.target is None else {"target": self.target.to_json()}
        return record | target | ({"reading": reading} if reading else {})

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> InputContract:
        """Parse the output of `to_json`.

        Raises:
            BundleRefused: it is no contract, or one of a newer bundlegate.
        """
        try:
            if record["format"] > CONTRACT_FORMAT:
                raise BundleRefused(
                    f"the input contract has format {record['format']}, this bundlegate reads {CONTRACT_FORMAT}: "
                    "install the newer one"
                )
            if record["task"] not in ("classification", "regression"):
                raise ValueError(f"task {record['task']!r}")
            classes, target = record["classes"], record.get("target")
            return cls(
                str(record["target_column"]),
                record["task"],
                None if classes is None else [str(label) for label in classes],
                tuple(ColumnContract.from_json(column) for column in record["columns"]),
                int(record["rows"]),
                None if target is None else ColumnContract.from_json(target),
                Reading.from_json(record.get("reading") or {}),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, BundleRefused):
                raise
            raise BundleRefused(f"the input contract can't be read: {error!r}") from None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
