"""A prefix in a bucket as output, resumable: the layout of `folder_output`, each object complete or absent.

A part is written to the local disk and put by one request, its receipt after it; manifest, then `_SUCCESS` come last.

There is no lock. The job's record is created only where there is none, and another job takes a prefix with `overwrite`
only, even while a run writes there. Such a run stops at its next part: a part is put over the object that was there
when the record was last its own, and over no other. What is too long for one request can't be put so: there it looks
again afterwards, and takes the mark of success away if the record is another's. A receipt names its job and counts for
no other one, and `_SUCCESS` is written only where each object is the one that its receipt tells of. Two runs of one
job write the same bytes under the same names.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ai.ml.core.errors import UsageError
from ai.ml.core.files.atomic import dump_json
from ai.ml.core.files.object_store import bucket_errors, open_bucket
from ai.ml.core.files.scratch import scratch_folder
from ai.ml.retraining.batch.outputs.base import JobRecord, has_same_input, manifest_json, read_manifest_json
from ai.ml.retraining.batch.outputs.folder import MANIFEST, PROGRESS, SUCCESS
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.receipts import RECEIPT_FORMAT, Receipt
from ai.ml.retraining.batch.score_part import ScoredPart, write_scored
from ai.ml.retraining.records import Record

_JOB = f"{PROGRESS}/job.json"
_READ_BYTES = 8 << 20
CONDITIONAL_BYTES = 64 << 20
"""Most bytes of a part that is put by one request, which may have a condition; it is in memory meanwhile."""
_TAKEN = "another job has taken {} while this one wrote there: give another output"


class PutReceipt(Record):
    """What lies below `_progress/receipts`."""

    job: str
    """Key of the job that put the part."""
    tag: str | None
    """Version tag that the storage gave the object."""
    receipt: Receipt


@dataclass
class BucketOutput:
    """`s3://BUCKET/PREFIX`; workers get a copy made after `begin`."""

    root: str
    job: str | None = None
    """Key of the job that the prefix was taken for, set by `begin`."""
    record_tag: str | None = None
    """Version tag of the job's record in the bucket."""
    has_created_record: bool = False

    def __post_init__(self) -> None:
        if self.root.lower().endswith((".parquet", ".csv", ".tsv")):
            raise UsageError(
                f"an output in a bucket is a prefix with an object per part: no suffix, unlike {self.root}"
            )

    def lock(self) -> AbstractContextManager[None]:
        """Nothing: see above."""
        return nullcontext()

    def begin(self, job: JobRecord, *, overwrite: bool) -> None:
        """As `Destination.begin`."""
        found = self._found()
        if found is None:
            self._refuse_strangers()
        elif found != job and overwrite:
            self._refuse_strange_parts(job, found)
            self.discard(found)
            found = None
        if found is not None:
            job.refuse_another(found, self.root)
        if not self._is_finished():
            try:
                self._put(_JOB, job.model_dump_json().encode(), mode="create")
                self.has_created_record = True
            except FileExistsError:
                # Another run began between the look and the put, or this one goes on.
                job.refuse_another(self._found() or job, self.root)
        self.job = _job_key(job)
        self.record_tag = self._get(_JOB, tag_only=True)

    def done(self, part: Part) -> Receipt | None:
        """As `Destination.done`; reads the part in full and asks for the version of its input."""
        receipt = self.receipt(part.name)
        if receipt is None or receipt.content is None or not has_same_input(receipt, part):
            return None
        return receipt if self._sha256(part.name) == receipt.content.sha256 else None

    def write(self, scored: ScoredPart) -> Receipt:
        """As `Destination.write`."""
        with scratch_folder() as folder:
            file = folder / scored.part.name.rpartition("/")[2]
            receipt = write_scored(scored, file)
            # Asked before the record is: what another job puts after that is another object.
            found = self._get(scored.part.name, tag_only=True)
            self._refuse_another_job()
            self._delete(SUCCESS)
            tag = self._put_over(found, file, receipt)
        try:
            self._refuse_another_job()
        except UsageError:
            # The other job may have finished just before the put.
            self._delete(SUCCESS)
            raise
        held = PutReceipt(job=self.job or "", tag=tag, receipt=receipt)
        self._put(_receipt_name(scored.part.name), held.model_dump_json().encode())
        return receipt

    def finish(self, job: JobRecord, receipts: Sequence[Receipt]) -> None:
        """As `Destination.finish`; changes nothing where all was finished before.

        Raises:
            UsageError: another job has taken the prefix, or an object isn't what its receipt says.
        """
        content = manifest_json(job, receipts)
        if not (self._is_finished() and self._get(MANIFEST) == content):
            self._refuse_another_job()
            self._refuse_others_objects(receipts)
            self._put(MANIFEST, content)
            self._put(SUCCESS, b"")
        # The job's record goes last: until then a later run still knows whose receipts these are.
        for name in sorted(self._names(PROGRESS), key=lambda name: name == _JOB):
            self._delete(name)

    def tidy(self) -> None:
        """As `Destination.tidy`."""
        if self.has_created_record and not self._has_receipts() and self._get(_JOB, tag_only=True) == self.record_tag:
            self._delete(_JOB)

    def _refuse_another_job(self) -> None:
        """Raise UsageError unless the prefix is still this job's, which another run of it may have finished."""
        tag = self._get(_JOB, tag_only=True)
        if tag is not None and tag == self.record_tag:
            return
        found = self._found()
        if found is None or _job_key(found) != self.job:
            raise UsageError(_TAKEN.format(self.root))

    def _refuse_others_objects(self, receipts: Sequence[Receipt]) -> None:
        """Raise UsageError unless each object is the one that was put with its receipt, or has that one's bytes."""
        with bucket_errors(f"listing {self.root}"):
            tags = {str(entry["path"]): entry["e_tag"] for page in open_bucket(self.root).list() for entry in page}
        for receipt in receipts:
            held = self._held(receipt.part)
            tag = None if held is None or held.receipt != receipt else held.tag
            if tag is not None and tags.get(receipt.part) == tag:
                continue
            if self._sha256(receipt.part) != receipt.sha256:
                raise UsageError(
                    f"{self.root}/{receipt.part} was changed by somebody else since it was written: run again, or give "
                    "another output"
                )

    def _held(self, name: str) -> PutReceipt | None:
        """The receipt of a part that this job put."""
        data = self._get(_receipt_name(name))
        try:
            held = None if data is None else PutReceipt.model_validate_json(data)
        except ValueError:
            return None
        return held if held is not None and held.job == self.job and held.receipt.format == RECEIPT_FORMAT else None

    def _found(self) -> JobRecord | None:
        begun = self._get(_JOB)
        if begun is not None:
            try:
                return JobRecord.model_validate_json(begun)
            except ValueError:
                raise UsageError(f"{self.root}/{_JOB} is no record of a batch: give another output") from None
        manifest = self._get(MANIFEST)
        return None if manifest is None else read_manifest_json(manifest, f"{self.root}/{MANIFEST}")[0]

    def _refuse_strangers(self) -> None:
        strangers = sorted(name for name in self._names() if not name.startswith(f"{PROGRESS}/"))
        if strangers:
            raise UsageError(
                f"{self.root} holds {strangers[0]!r} and no record of a batch: give an empty or a new prefix"
            )

    def _refuse_strange_parts(self, job: JobRecord, found: JobRecord) -> None:
        """Raise UsageError if a part would replace what the job that was found here didn't put."""
        strange = ({*job.parts} - {*found.parts}).intersection(self._names())
        if strange:
            raise UsageError(
                f"{self.root}/{min(strange)} is there already, and the batch that wrote there didn't make it: give "
                "another output, or move it away"
            )

    def _is_finished(self) -> bool:
        return self._get(SUCCESS) is not None and self._get(MANIFEST) is not None and self._get(_JOB) is None

    def _has_receipts(self) -> bool:
        return self._get(MANIFEST) is not None or any(self._names(f"{PROGRESS}/receipts"))

    def receipt(self, name: str) -> Receipt | None:
        """As `Destination.receipt`."""
        held = self._held(name)
        if held is not None:
            return held.receipt
        manifest = self._get(MANIFEST, tag_only=True)
        if manifest is None:
            return None
        job, receipts = _manifest_receipts(self.root, manifest)
        return receipts.get(name) if job == self.job else None

    def discard(self, job: JobRecord) -> None:
        """As `Destination.discard`: the mark of success first; what isn't the job's own stays."""
        for name in (SUCCESS, *job.parts, MANIFEST, *self._names(f"{PROGRESS}/receipts"), _JOB):
            self._delete(name)

    def _names(self, below: str | None = None) -> Iterator[str]:
        with bucket_errors(f"listing {self.root}"):
            pages: list[Any] = list(open_bucket(self.root).list(below))
        return (str(entry["path"]) for page in pages for entry in page)

    def _sha256(self, name: str) -> str | None:
        digest = hashlib.sha256()
        try:
            with bucket_errors(f"reading {self.root}/{name}"):
                for chunk in open_bucket(self.root).get(name).stream(min_chunk_size=_READ_BYTES):
                    digest.update(chunk)
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    def _get(self, name: str, *, tag_only: bool = False) -> Any:
        try:
            with bucket_errors(f"reading {self.root}/{name}"):
                store = open_bucket(self.root)
                return str(store.head(name)["e_tag"]) if tag_only else bytes(store.get(name).bytes())
        except FileNotFoundError:
            return None

    def _put(self, name: str, content: Any, *, mode: Any = None) -> str | None:
        """Write an object and give its version tag."""
        options = {} if mode is None else {"mode": mode, "use_multipart": False}
        with bucket_errors(f"writing {self.root}/{name}"):
            return open_bucket(self.root).put(name, content, **options)["e_tag"]

    def _put_over(self, found: str | None, file: Path, receipt: Receipt) -> str | None:
        """Put a part over the object of that version tag, or where there is none, and give the new tag.

        Raises:
            UsageError: there is another object by now.
        """
        if file.stat().st_size > CONDITIONAL_BYTES:
            return self._put(receipt.part, file)
        try:
            return self._put(receipt.part, file.read_bytes(), mode="create" if found is None else {"e_tag": found})
        except (FileExistsError, FileNotFoundError):
            # The answer to a first try may have got lost.
            if self._sha256(receipt.part) != receipt.sha256:
                raise UsageError(_TAKEN.format(self.root)) from None
            return self._get(receipt.part, tag_only=True)

    def _delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), bucket_errors(f"deleting {self.root}/{name}"):
            open_bucket(self.root).delete(name)


def _job_key(job: JobRecord) -> str:
    return hashlib.sha256(dump_json(job.model_dump(mode="json"))).hexdigest()


def _receipt_name(name: str) -> str:
    return f"{PROGRESS}/receipts/{name}.json"


@lru_cache(maxsize=2)
def _manifest_receipts(root: str, _tag: str) -> tuple[str, dict[str, Receipt]]:
    """The key of a manifest's job, and its receipts by part."""
    data = bytes(open_bucket(root).get(MANIFEST).bytes())
    job, receipts = read_manifest_json(data, f"{root}/{MANIFEST}")
    return _job_key(job), {receipt.part: receipt for receipt in receipts}
