"""A prefix in a bucket as output, resumable: the layout of `folder_output`, each object complete or absent.

A part is written to the local disk and put by one request, its receipt after it; manifest, then `_SUCCESS` come last.
There is no lock: the job's record is created only where there is none, so two jobs never write to one prefix, and two
runs of one job write the same bytes under the same names.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ai.ml.core.errors import UsageError
from ai.ml.core.object_store import bucket_errors, open_bucket
from ai.ml.retraining.destination import JobRecord, has_same_input, manifest_json, read_manifest_json
from ai.ml.retraining.folder_output import MANIFEST, PROGRESS, SUCCESS
from ai.ml.retraining.partition import ScoredPart, write_scored
from ai.ml.retraining.parts import Part
from ai.ml.retraining.receipts import RECEIPT_FORMAT, Receipt
from ai.ml.retraining.scratch import scratch_folder

_JOB = f"{PROGRESS}/job.json"
_READ_BYTES = 8 << 20


@dataclass(frozen=True)
class BucketOutput:
    """`s3://BUCKET/PREFIX`."""

    root: str

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
        elif found != job and (overwrite or not self._has_receipts()):
            self._clear(found)
            found = None
        if found is not None:
            job.refuse_another(found, self.root)
        if not self._is_finished():
            try:
                self._put(_JOB, job.model_dump_json().encode(), mode="create")
            except FileExistsError:
                # Another run began between the look and the put, or this one goes on.
                job.refuse_another(self._found() or job, self.root)

    def done(self, part: Part) -> Receipt | None:
        """As `Destination.done`; reads the part in full and asks for the version of its input."""
        receipt = self._receipt(part.name)
        if receipt is None or receipt.content is None or not has_same_input(receipt, part):
            return None
        return receipt if self._sha256(part.name) == receipt.content.sha256 else None

    def write(self, scored: ScoredPart) -> Receipt:
        """As `Destination.write`."""
        self._delete(SUCCESS)
        with scratch_folder() as folder:
            file = folder / scored.part.name.rpartition("/")[2]
            receipt = write_scored(scored, file)
            self._put(scored.part.name, file)
        self._put(_receipt_name(scored.part.name), receipt.model_dump_json().encode())
        return receipt

    def finish(self, job: JobRecord, receipts: Sequence[Receipt]) -> None:
        """As `Destination.finish`; changes nothing where all was finished before."""
        content = manifest_json(job, receipts)
        if not (self._is_finished() and self._get(MANIFEST) == content):
            self._put(MANIFEST, content)
            self._put(SUCCESS, b"")
        # The job's record goes last: until then a later run still knows whose receipts these are.
        for name in sorted(self._names(PROGRESS), key=lambda name: name == _JOB):
            self._delete(name)

    def tidy(self) -> None:
        """As `Destination.tidy`."""
        if not self._has_receipts():
            self._delete(_JOB)

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

    def _is_finished(self) -> bool:
        return self._get(SUCCESS) is not None and self._get(MANIFEST) is not None and self._get(_JOB) is None

    def _has_receipts(self) -> bool:
        return self._get(MANIFEST) is not None or any(self._names(f"{PROGRESS}/receipts"))

    def _receipt(self, name: str) -> Receipt | None:
        data = self._get(_receipt_name(name))
        if data is None:
            manifest = self._get(MANIFEST, tag_only=True)
            return None if manifest is None else _manifest_receipts(self.root, manifest).get(name)
        try:
            receipt = Receipt.model_validate_json(data)
        except ValueError:
            return None
        return receipt if receipt.format == RECEIPT_FORMAT else None

    def receipt(self, name: str) -> Receipt | None:
        """As `Destination.receipt`."""
        return self._receipt(name)

    def discard(self, job: JobRecord) -> None:
        """As `Destination.discard`."""
        self._clear(job)

    def _clear(self, found: JobRecord) -> None:
        """Remove what an earlier job wrote, the mark of success first; what isn't its own stays."""
        for name in (SUCCESS, *found.parts, MANIFEST, *self._names(f"{PROGRESS}/receipts"), _JOB):
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

    def _put(self, name: str, content: Any, *, mode: Any = None) -> None:
        with bucket_errors(f"writing {self.root}/{name}"):
            if mode is None:
                open_bucket(self.root).put(name, content)
            else:
                open_bucket(self.root).put(name, content, mode=mode, use_multipart=False)

    def _delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), bucket_errors(f"deleting {self.root}/{name}"):
            open_bucket(self.root).delete(name)


def _receipt_name(name: str) -> str:
    return f"{PROGRESS}/receipts/{name}.json"


@lru_cache(maxsize=2)
def _manifest_receipts(root: str, _tag: str) -> dict[str, Receipt]:
    data = bytes(open_bucket(root).get(MANIFEST).bytes())
    return {receipt.part: receipt for receipt in read_manifest_json(data, f"{root}/{MANIFEST}")[1]}
