"""Counts of contract violations per column, and the limits beyond which a table is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ai.ml.core.errors import DataRefused
from ai.ml.core.input_contract import InputContract


@dataclass(frozen=True)
class ColumnCounts:
    """Cells of one column."""

    missing: int = 0
    """Blank, null, a missing token, or a key that isn't there."""
    unseen: int = 0
    """A category that training hadn't: scored as none of the known ones."""
    coerced: int = 0
    """Content that isn't of the column's kind: unreadable or infinite, and so missing; or `True` among numbers."""
    out_of_range: int = 0
    """A number or date below the least or above the greatest of training."""

    def __add__(self, other: ColumnCounts) -> ColumnCounts:
        return ColumnCounts(
            self.missing + other.missing,
            self.unseen + other.unseen,
            self.coerced + other.coerced,
            self.out_of_range + other.out_of_range,
        )


@dataclass(frozen=True)
class ContractCounts:
    """Counts over all rows that were checked against a contract."""

    rows: int = 0
    columns: dict[str, ColumnCounts] = field(default_factory=dict[str, ColumnCounts])
    empty_rows: int = 0
    """Rows without a single cell that the model could read."""
    notes: tuple[str, ...] = ()
    """What was read under another name or left aside, one sentence each."""

    def merge(self, other: ContractCounts) -> ContractCounts:
        """The counts of two sets of rows together."""
        names = dict.fromkeys((*self.columns, *other.columns))
        none = ColumnCounts()
        return ContractCounts(
            self.rows + other.rows,
            {name: self.columns.get(name, none) + other.columns.get(name, none) for name in names},
            self.empty_rows + other.empty_rows,
            tuple(dict.fromkeys((*self.notes, *other.notes))),
        )

    def to_json(self) -> dict[str, Any]:
        """The counts as plain JSON values, as manifests and receipts hold them."""
        return {
            "rows": self.rows,
            "empty_rows": self.empty_rows,
            "columns": {name: dict(vars(counts)) for name, counts in self.columns.items()},
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ContractCounts:
        """Read what `to_json` wrote; KeyError or TypeError for what isn't such a record."""
        columns = {str(name): ColumnCounts(**counts) for name, counts in record["columns"].items()}
        return cls(int(record["rows"]), columns, int(record["empty_rows"]), tuple(record["notes"]))


@dataclass(frozen=True)
class Limits:
    """Most that is allowed; `None` allows everything. Shares are of the rows, per column."""

    missing: float | None = None
    """Beyond the share that was missing at training."""
    unseen: float | None = None
    coerced: float | None = None
    out_of_range: float | None = None
    empty_rows: int | None = 0
    """Rows with nothing recognisable in them."""
    from_rows: int = 0
    """Shares of fewer rows are let pass: one blank cell is the whole column of one row."""
    remedy: str = ""
    """What a refusal ends with."""

    def check(self, counts: ContractCounts, contract: InputContract) -> None:
        """Refuse a table that goes beyond a limit.

        Raises:
            DataRefused: names every column, its figure and the limit.
        """
        sentences: list[str] = []
        if self.empty_rows is not None and counts.empty_rows > self.empty_rows:
            sentences.append(f"{counts.empty_rows} of {counts.rows} rows hold nothing that the model reads")
        for column in contract.columns if counts.rows >= self.from_rows else ():
            found = counts.columns.get(column.name)
            for what in ("missing", "unseen", "coerced", "out_of_range"):
                limit = getattr(self, what)
                share = getattr(found, what) / counts.rows if found and counts.rows else 0.0
                allowed = None if limit is None else limit + (column.missing_share if what == "missing" else 0.0)
                if allowed is not None and share > allowed:
                    words = what.replace("_", " ")
                    sentences.append(
                        f"{column.name!r}: {share:.2%} of the cells are {words}, the limit is {allowed:.2%}"
                    )
        if sentences:
            raise DataRefused(
                "the table is beyond the limits: " + "; ".join((*sentences, *filter(None, [self.remedy])))
            )


USUAL = Limits(missing=0.9, from_rows=10, remedy="--allow-empty-columns scores the rows all the same")
"""Without a word: a column that training knew filled and that is all but empty now is an export that lost it."""
STRICT = Limits(missing=0.1, unseen=0.01, coerced=0.0, out_of_range=0.05, empty_rows=0)
"""What `--strict` means."""
