"""The record by which a run knows an earlier one's job, and the manifest of a finished one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import field_validator

from ai.ml.core.errors import UsageError
from ai.ml.core.files.atomic import dump_json
from ai.ml.retraining.batch.receipts import Content, Receipt, total_answers, total_counts
from ai.ml.retraining.batch.score_part import ScoredPart
from ai.ml.retraining.records import Record

JOB_FORMAT = 1
"""Raise it when a key changes its meaning: outputs of another number are then refused, not resumed."""


class JobRecord(Record):
    """The identity of a job: runs with equal records write the same bytes, so one may continue another's work."""

    format: int = JOB_FORMAT
    bundle: str
    """Digest."""
    settings: dict[str, Any]
    parts: tuple[str, ...]
    """Names in the output, in their order."""
    source: str | None = None
    """Of a query: the database, without a password. Files are identified by their content, wherever they are."""

    @field_validator("parts")
    @classmethod
    def _within(cls, parts: tuple[str, ...]) -> tuple[str, ...]:
        """A record that is read from an output names files to remove: none of them may be outside."""
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

    def refuse_another(self, found: JobRecord, name: str) -> None:
        """Raise UsageError, which says what differs, unless `found`, the job of the output `name`, is this one."""
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
            f"{name} was begun with {difference}; one output never mixes two jobs: give another output, or --overwrite"
        )


def _difference(before: Sequence[str], now: Sequence[str]) -> str:
    gone, new = (sorted({*some} - {*others}) for some, others in ((before, now), (now, before)))
    changes = [f"{names[0]} {what}" for names, what in ((gone, "is gone"), (new, "is new")) if names]
    count = f"{len(before)} parts, now {len(now)}; " if len(before) != len(now) else ""
    return f"{count}{' and '.join(changes) or 'its parts are in another order'}"


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


def read_manifest_json(data: bytes, name: str) -> tuple[JobRecord, list[Receipt]]:
    """Read the job and its receipts from the bytes of the manifest that messages call `name`.

    Raises:
        UsageError: it is no such manifest.
    """
    try:
        record = json.loads(data)
        receipts = [Receipt.model_validate(receipt) for receipt in record["parts"]]
        return JobRecord.model_validate(record["job"]), receipts
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{name} is no manifest of a batch ({type(error).__name__}): give another output") from None


def read_job_json(data: bytes | str, name: str, other: str = "output") -> JobRecord:
    """Read a job from the bytes of the record that messages call `name`.

    Raises:
        UsageError: it is no such record; the sentence asks for another `other`.
    """
    try:
        return JobRecord.model_validate_json(data)
    except ValueError:
        raise UsageError(f"{name} is no record of a batch: give another {other}") from None


def read_manifest_file(data: bytes) -> Content | None:
    """The content of the file beside a manifest; None if the manifest doesn't record it."""
    try:
        return Content.model_validate(json.loads(data)["file"])
    except (ValueError, KeyError, TypeError):
        return None
