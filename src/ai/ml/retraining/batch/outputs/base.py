"""Where answers go: what every kind of output can do, and the record by which a run knows an earlier one's job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from pydantic import field_validator

from ai.ml.core.errors import UsageError
from ai.ml.core.files.atomic import dump_json
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.receipts import Content, Receipt, total_answers, total_counts
from ai.ml.retraining.batch.score_part import ScoredPart, source_content
from ai.ml.retraining.records import Record

JOB_FORMAT = 1
"""Raise it when a key changes its meaning: outputs of another number are then refused, not resumed."""


class JobRecord(Record):
    """What a job is: two runs with equal records write the same bytes, so one may go on where the other stopped."""

    format: int = JOB_FORMAT
    bundle: str
    """Digest."""
    settings: dict[str, Any]
    parts: tuple[str, ...]
    """Names in the output, in their order."""
    source: str | None = None
    """Of a query: the database, without a password. Files are known by what they hold, wherever they lie."""

    @field_validator("parts")
    @classmethod
    def _within(cls, parts: tuple[str, ...]) -> tuple[str, ...]:
        """What is read from an output names files to remove: none of them may lie outside."""
        for name in parts:
            if name.startswith("/") or ".." in name.split("/"):
                raise ValueError(f"the part {name!r} would lie outside the output")
        return parts

    @classmethod
    def beginning(cls, scored: ScoredPart) -> str:
        """How the record of a part's job begins as JSON: all but the names of its parts."""
        record = cls(bundle=scored.proven.pin.digest, settings=scored.settings.identity(), parts=())
        return record.model_dump_json().partition('"parts":')[0]

    def is_of(self, scored: ScoredPart) -> bool:
        """Whether a part is scored for this job, as far as bundle and settings tell."""
        return (self.bundle, self.settings) == (scored.proven.pin.digest, scored.settings.identity())

    def refuse_another(self, found: JobRecord, place: str) -> None:
        """Raise UsageError if `found`, which lies at `place`, isn't this job; the sentence says what differs."""
        if found == self:
            return
        if found.bundle != self.bundle:
            difference = f"bundle {found.bundle[:12]}, now it is {self.bundle[:12]}"
        elif found.parts != self.parts:
            difference = f"another input: {_difference(found.parts, self.parts)}"
        elif found.source != self.source:
            difference = f"another input: {found.source or 'files'}, now {self.source or 'files'}"
        else:
            keys = sorted(key for key in self.settings if self.settings[key] != found.settings.get(key))
            difference = f"other settings ({', '.join(keys)})"
        raise UsageError(
            f"{place} was begun with {difference}; one output never mixes two jobs: give another output, or --overwrite"
        )


class Destination(Protocol):
    """An output. Picklable: workers get a copy, made after `begin`."""

    def lock(self) -> AbstractContextManager[None]:
        """Held by the one run that writes there; raises Busy if another one does."""
        ...

    def begin(self, job: JobRecord, *, overwrite: bool) -> None:
        """Take the output for this job, anew or to go on with it, and write down what the job is.

        Raises:
            UsageError: it belongs to another job, or holds what isn't ours.
        """
        ...

    def receipt(self, name: str) -> Receipt | None:
        """What an earlier run, or this one, wrote down about a part, whether the part is still there or not."""
        ...

    def discard(self, job: JobRecord) -> None:
        """Remove what was written for this job, its record too; after `begin`, and with another `begin` to follow."""
        ...

    def done(self, part: Part) -> Receipt | None:
        """The receipt of a part that is whole and whose input is as it was; None if it must be scored.

        Raises:
            UsageError: the input part has changed since it was scored.
        """
        ...

    def write(self, scored: ScoredPart) -> Receipt:
        """Score a part and publish it whole or not at all, then its receipt."""
        ...

    def tidy(self) -> None:
        """After a run that ended early: where no part was done, leave nothing behind."""
        ...

    def finish(self, job: JobRecord, receipts: Sequence[Receipt]) -> None:
        """Publish manifest and `_SUCCESS`, in that order; every part must have a receipt."""
        ...


def _difference(before: Sequence[str], now: Sequence[str]) -> str:
    gone, new = (sorted({*some} - {*others}) for some, others in ((before, now), (now, before)))
    said = [f"{names[0]} {what}" for names, what in ((gone, "is gone"), (new, "is new")) if names]
    count = f"{len(before)} parts, now {len(now)}; " if len(before) != len(now) else ""
    return f"{count}{' and '.join(said) or 'its parts are in another order'}"


def manifest_json(job: JobRecord, receipts: Sequence[Receipt], file: Content | None = None) -> bytes:
    """The manifest of a finished output: the job, every part, and the totals. Nothing volatile.

    Args:
        job: what was done.
        receipts: of all parts, in their order.
        file: what the parts were joined to, where the output is one file.
    """
    counts = total_counts(receipts)
    record = ({} if file is None else {"file": file.model_dump(mode="json")}) | {
        "job": job.model_dump(mode="json"),
        "rows": sum(receipt.rows for receipt in receipts),
        "counts": None if counts is None else counts.to_json(),
        "answers": total_answers(receipts).model_dump(mode="json"),
        "parts": [receipt.model_dump(mode="json") for receipt in receipts],
    }
    return dump_json(record)


def read_manifest_json(data: bytes, place: str) -> tuple[JobRecord, list[Receipt]]:
    """Read the job and its receipts from a manifest's bytes.

    Raises:
        UsageError: it is no such manifest.
    """
    try:
        record = json.loads(data)
        receipts = [Receipt.model_validate(receipt) for receipt in record["parts"]]
        return JobRecord.model_validate(record["job"]), receipts
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{place} is no manifest of a batch ({type(error).__name__}): give another output") from None


def read_job_path(record: Path) -> JobRecord:
    """A job that was written down.

    Raises:
        UsageError: it is no such record.
    """
    try:
        return JobRecord.model_validate_json(record.read_bytes())
    except ValueError:
        raise UsageError(f"{record} is no record of a batch: give another output") from None


def read_manifest_path(manifest: Path) -> tuple[JobRecord, list[Receipt]]:
    """Read the job and its receipts from a manifest's file.

    Raises:
        UsageError: it is no such manifest, or can't be read.
    """
    try:
        data = manifest.read_bytes()
    except OSError as error:
        raise UsageError(f"{manifest} is no manifest of a batch ({error.strerror}): give another output") from None
    return read_manifest_json(data, str(manifest))


def read_manifest_file(data: bytes) -> Content | None:
    """What the file beside a manifest holds; None if the manifest doesn't tell."""
    try:
        return Content.model_validate(json.loads(data)["file"])
    except (ValueError, KeyError, TypeError):
        return None


def has_same_input(receipt: Receipt, part: Part) -> bool:
    """Whether a part's input is proven to be what was scored; False where nothing can prove it, as of a query.

    To be asked before the answers are looked at: a part whose answers are lost must not be scored from another input
    than its neighbours were.

    Raises:
        UsageError: the input holds something else now.
    """
    if has_changed_input(receipt, part):
        raise UsageError(
            f"the input of {receipt.part} has changed since it was scored; one output never mixes two inputs: "
            "give another output, or --overwrite"
        )
    return receipt.source is not None


def has_changed_input(receipt: Receipt, part: Part) -> bool:
    """Whether a part's input is proven to be another than what was scored; reads it in full."""
    return receipt.source is not None and receipt.source != source_content(part)
