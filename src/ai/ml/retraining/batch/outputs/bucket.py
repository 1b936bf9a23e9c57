"""A prefix in a bucket as output, resumable: the layout of `layout`, each object complete or absent.

A part is written to the local disk and put by one request, its receipt after it; manifest, then `_SUCCESS` come last.

There is no lock. The job's record is created only where there is none, and another job takes a prefix with `overwrite`
only, even while a run writes there. Such a run stops at its next part: a part is put over the object that was there
when the record was last its own, and over no other. What is too long for one request can't be put so: there it looks
again afterwards, and takes the mark of success away if the record is another's. A receipt names its job and counts for
no other one, and `_SUCCESS` is written only where each object is the one that its receipt tells of. Two runs of one
job write the same bytes under the same names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ai.ml.core.errors import UsageError
from ai.ml.core.files.atomic import dump_json
from ai.ml.core.files.bucket import Objects, open_objects
from ai.ml.core.files.scratch import scratch_folder
from ai.ml.retraining.batch.outputs.job_record import JobRecord, read_job_json, read_manifest_json
from ai.ml.retraining.batch.outputs.layout import (
    FILE_SUFFIXES,
    JOB,
    MANIFEST,
    PROGRESS,
    RECEIPTS,
    SUCCESS,
    receipt_name,
)
from ai.ml.retraining.batch.outputs.location import OutputLocation
from ai.ml.retraining.batch.receipts import RECEIPT_FORMAT, Receipt
from ai.ml.retraining.batch.score_part import ScoredPart, write_scored
from ai.ml.retraining.records import Record

CONDITIONAL_BYTES = 64 << 20
"""Maximum bytes of a part that is put by one request, which may have a condition; it is held in memory."""
_KEPT = "what was scored stays: run it again"
_REDONE = "the part will be scored again"
_TAKEN = "another job has taken {} while this one wrote there: give another output"


class PutReceipt(Record):
    """A receipt below `_progress/receipts`."""

    job: str
    """Key of the job that put the part."""
    tag: str | None
    """Version tag that the storage gave the object."""
    receipt: Receipt


@dataclass
class BucketLocation(OutputLocation):
    """`s3://BUCKET/PREFIX`; workers get a copy made after `claim`."""

    root: str
    job: str | None = None
    """Key of the job that the prefix was taken for, set by `claim`."""
    record_tag: str | None = None
    """Version tag of the job's record in the bucket."""
    has_created_record: bool = False

    def __post_init__(self) -> None:
        if self.root.lower().endswith(FILE_SUFFIXES):
            raise UsageError(
                f"an output in a bucket is a prefix with an object per part: no suffix, unlike {self.root}"
            )

    @property
    def name(self) -> str:
        """The prefix's URL."""
        return self.root

    @property
    def exclusive(self) -> bool:
        """False: a bucket has no lock."""
        return False

    def lock(self) -> AbstractContextManager[None]:
        """Locks nothing: conditional puts replace the lock."""
        return nullcontext()

    def read_job(self) -> JobRecord | None:
        """As `OutputLocation.read_job`."""
        job = self._recorded_job()
        if job is None:
            self._refuse_foreign_objects()
        return job

    def existing(self, names: Iterable[str]) -> set[str]:
        """As `OutputLocation.existing`."""
        return {*names}.intersection(self._objects.names())

    def claim(self, job: JobRecord, replaced: JobRecord | None) -> None:
        """As `OutputLocation.claim`."""
        if replaced is not None:
            self.remove(replaced)
        if not self._is_finished():
            try:
                self._objects.put_over(JOB, job.model_dump_json().encode(), None)
                self.has_created_record = True
            except FileExistsError:
                # Another run began between the look and the put, or this one goes on.
                job.refuse_another(self._recorded_job() or job, self.root)
        self.job = _job_key(job)
        self.record_tag = self._objects.tag(JOB)

    def has_claimed(self) -> bool:
        """As `OutputLocation.has_claimed`."""
        return self.has_created_record

    def release(self) -> None:
        """As `OutputLocation.release`; nothing where the record is another run's by now."""
        if self._objects.tag(JOB) == self.record_tag:
            self._objects.delete([JOB])

    def has_receipts(self) -> bool:
        """As `OutputLocation.has_receipts`."""
        return self._objects.tag(MANIFEST) is not None or bool(self._below(RECEIPTS))

    def read_receipt(self, part: str) -> Receipt | None:
        """As `OutputLocation.read_receipt`."""
        put = self._read_put(part)
        if put is not None:
            return put.receipt
        manifest = self._objects.tag(MANIFEST)
        if manifest is None:
            return None
        job, receipts = _manifest_receipts(self.root, manifest)
        return receipts.get(part) if job == self.job else None

    def holds(self, receipt: Receipt) -> bool:
        """As `OutputLocation.holds`; reads the part in full."""
        return receipt.content is not None and self._objects.sha256(receipt.part) == receipt.content.sha256

    def write(self, scored: ScoredPart) -> Receipt:
        """As `OutputLocation.write`."""
        with scratch_folder() as folder:
            file = folder / scored.part.name.rpartition("/")[2]
            receipt = write_scored(scored, file)
            # Asked before the record is: what another job puts after that is another object.
            found = self._objects.tag(scored.part.name)
            self._refuse_another_job()
            self._objects.delete([SUCCESS])
            tag = self._put_over(found, file, receipt)
        try:
            self._refuse_another_job()
        except UsageError:
            # The other job may have finished just before the put.
            self._objects.delete([SUCCESS])
            raise
        put = PutReceipt(job=self.job or "", tag=tag, receipt=receipt)
        self._objects.put(receipt_name(scored.part.name), put.model_dump_json().encode(), _REDONE)
        return receipt

    def finished_manifest(self) -> bytes | None:
        """As `OutputLocation.finished_manifest`."""
        return self._objects.read(MANIFEST) if self._is_finished() else None

    def publish_manifest(self, manifest: bytes, job: JobRecord, receipts: Sequence[Receipt]) -> None:
        """As `OutputLocation.publish_manifest`."""
        self._refuse_another_job()
        self._refuse_changed_parts(receipts)
        self._objects.put(MANIFEST, manifest, _KEPT)
        self._objects.put(SUCCESS, b"", _KEPT)

    def remove_progress(self) -> None:
        """As `OutputLocation.remove_progress`: the job's record last, which says whose receipts these are."""
        for name in sorted(self._below(PROGRESS), key=lambda name: name == JOB):
            self._objects.delete([name])

    def remove(self, job: JobRecord) -> None:
        """As `OutputLocation.remove`."""
        for name in (SUCCESS, *job.parts, MANIFEST, *self._below(RECEIPTS), JOB):
            self._objects.delete([name])

    def _refuse_another_job(self) -> None:
        """Raise UsageError unless the prefix is still this job's, which another run of it may have finished."""
        tag = self._objects.tag(JOB)
        if tag is not None and tag == self.record_tag:
            return
        found = self._recorded_job()
        if found is None or _job_key(found) != self.job:
            raise UsageError(_TAKEN.format(self.root))

    def _refuse_changed_parts(self, receipts: Sequence[Receipt]) -> None:
        """Raise UsageError unless each object is the one that was put with its receipt, or has that one's bytes."""
        tags = {entry.name: entry.tag for entry in self._objects.entries()}
        for receipt in receipts:
            put = self._read_put(receipt.part)
            tag = None if put is None or put.receipt != receipt else put.tag
            if tag is not None and tags.get(receipt.part) == tag:
                continue
            if self._objects.sha256(receipt.part) != receipt.sha256:
                raise UsageError(
                    f"{self.root}/{receipt.part} was changed by somebody else since it was written: run again, or give "
                    "another output"
                )

    def _read_put(self, part: str) -> PutReceipt | None:
        """The receipt of a part that this job put, with the object's version."""
        data = self._objects.read(receipt_name(part))
        try:
            put = None if data is None else PutReceipt.model_validate_json(data)
        except ValueError:
            return None
        return put if put is not None and put.job == self.job and put.receipt.format == RECEIPT_FORMAT else None

    def _recorded_job(self) -> JobRecord | None:
        """The job that the records here are of."""
        job = self._objects.read(JOB)
        if job is not None:
            return read_job_json(job, f"{self.root}/{JOB}")
        manifest = self._objects.read(MANIFEST)
        return None if manifest is None else read_manifest_json(manifest, f"{self.root}/{MANIFEST}")[0]

    def _refuse_foreign_objects(self) -> None:
        foreign = sorted(name for name in self._objects.names() if not name.startswith(f"{PROGRESS}/"))
        if foreign:
            raise UsageError(
                f"{self.root} holds {foreign[0]!r} and no record of a batch: give an empty or a new prefix"
            )

    def _is_finished(self) -> bool:
        objects = self._objects
        return objects.tag(SUCCESS) is not None and objects.tag(MANIFEST) is not None and objects.tag(JOB) is None

    @property
    def _objects(self) -> Objects:
        return open_objects(self.root)

    def _below(self, prefix: str) -> list[str]:
        """The keys below a prefix, relative to the output's."""
        return [f"{prefix}/{name}" for name in self._objects.names(prefix)]

    def _put(self, name: str, content: Path | bytes, *, found: str | None = None) -> str | None:
        """Put a part: bytes over the object of version `found`, or where there is none; a file whatever is there."""
        if isinstance(content, Path):
            return self._objects.put(name, content, _REDONE)
        return self._objects.put_over(name, content, found, _REDONE)

    def _put_over(self, found: str | None, file: Path, receipt: Receipt) -> str | None:
        """Put a part over the object of that version tag, or where there is none, and give the new tag.

        Raises:
            UsageError: there is another object by now.
        """
        if file.stat().st_size > CONDITIONAL_BYTES:
            return self._put(receipt.part, file)
        try:
            return self._put(receipt.part, file.read_bytes(), found=found)
        except (FileExistsError, FileNotFoundError):
            # The answer to a first try may have got lost.
            if self._objects.sha256(receipt.part) != receipt.sha256:
                raise UsageError(_TAKEN.format(self.root)) from None
            return self._objects.tag(receipt.part)


def _job_key(job: JobRecord) -> str:
    return hashlib.sha256(dump_json(job.model_dump(mode="json"))).hexdigest()


@lru_cache(maxsize=2)
def _manifest_receipts(root: str, _tag: str) -> tuple[str, dict[str, Receipt]]:
    """The key of a manifest's job, and its receipts by part."""
    data = open_objects(root).read(MANIFEST) or b""
    job, receipts = read_manifest_json(data, f"{root}/{MANIFEST}")
    return _job_key(job), {receipt.part: receipt for receipt in receipts}
