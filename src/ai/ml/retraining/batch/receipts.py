"""Receipts of scored parts, by which a later run verifies a part without scoring it again."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import Field

from ai.ml.core.contract import ContractCounts
from ai.ml.core.errors import storage_failed
from ai.ml.core.files.atomic import sha256_file
from ai.ml.retraining.records import Record

RECEIPT_FORMAT = 1
"""Raise it when a key changes its meaning: receipts of another number count as absent, and their parts are redone."""


class Content(Record):
    """The content of a file or object, by its hash or version tag."""

    sha256: str
    """Of its bytes; of a bucket's object, its version tag."""
    size: int


def file_content(path: Path) -> Content:
    """The content of a file, read in full.

    Raises:
        StorageFailed: the disk refused.
    """
    try:
        return Content(sha256=sha256_file(path), size=path.stat().st_size)
    except OSError as error:
        raise storage_failed(f"reading {path}", error, "nothing was written") from error


class AnswerTally(Record):
    """The answers of a part in a few figures."""

    labels: dict[str, int] = Field(default_factory=dict[str, int])
    """Rows per label; classification only."""
    total: float = 0.0
    """Sum of the finite values; regression only, as the rest."""
    minimum: float | None = None
    maximum: float | None = None
    not_finite: int = 0

    def merge(self, other: AnswerTally) -> AnswerTally:
        """The figures of two sets of answers together."""
        names = sorted({*self.labels, *other.labels})
        minima = [value for value in (self.minimum, other.minimum) if value is not None]
        maxima = [value for value in (self.maximum, other.maximum) if value is not None]
        return AnswerTally(
            labels={name: self.labels.get(name, 0) + other.labels.get(name, 0) for name in names},
            total=self.total + other.total,
            minimum=min(minima, default=None),
            maximum=max(maxima, default=None),
            not_finite=self.not_finite + other.not_finite,
        )


class Receipt(Record):
    """One part, scored and published."""

    format: int = RECEIPT_FORMAT
    part: str
    """Its name in the output."""
    rows: int
    content: Content | None
    """Of the part that was written; None where rows went into a database."""
    source: Content | None
    """Of the input part; None where it is unknown, as of a query."""
    counts: dict[str, Any] | None
    """`ContractCounts.to_json` without its zeros; None without a contract."""
    answers: AnswerTally

    @property
    def sha256(self) -> str | None:
        """sha-256 of the part that was written; None if nothing was."""
        return None if self.content is None else self.content.sha256


class Failure(Record):
    """One part that couldn't be scored."""

    part: str
    source: str
    message: str


Outcome = Receipt | Failure


def compact_counts(counts: ContractCounts | None) -> dict[str, Any] | None:
    """Counts as JSON, columns without a violation left out: a manifest may hold them for a hundred thousand parts."""
    if counts is None:
        return None
    record = counts.to_json()
    columns = {name: {what: n for what, n in found.items() if n} for name, found in record["columns"].items()}
    return record | {"columns": {name: found for name, found in columns.items() if found}}


def total_counts(receipts: Iterable[Receipt]) -> ContractCounts | None:
    """The contract's counts of all parts together."""
    counts = [ContractCounts.from_json(receipt.counts) for receipt in receipts if receipt.counts is not None]
    return reduce(ContractCounts.merge, counts) if counts else None


def total_answers(receipts: Iterable[Receipt]) -> AnswerTally:
    """The figures of all parts' answers together."""
    return reduce(AnswerTally.merge, (receipt.answers for receipt in receipts), AnswerTally())
