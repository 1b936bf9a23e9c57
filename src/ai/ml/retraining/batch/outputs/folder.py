"""A folder of answer parts, resumable: each part and its receipt are published by a rename, `_SUCCESS` comes last.

::

    OUT/year=2024/part-0.parquet               a part, under its input's name
    OUT/_progress/job.json                     what is being done; gone when all is done
    OUT/_progress/receipts/….parquet.json      a part that is whole, with sha-256
    OUT/_manifest.json                         the job, every part, totals
    OUT/_SUCCESS                               empty; only beside a manifest whose every part is there

Readers of datasets skip names that begin with `_`. A part without a receipt counts as absent and is written again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from ai.ml.core.errors import Busy, UsageError, storage_failed
from ai.ml.core.files.atomic import MAX_NAME_BYTES, fsync_dir, make_dirs, sha256_bytes, sweep_temps, write_atomic
from ai.ml.core.files.lock import locked
from ai.ml.retraining.batch.outputs.base import (
    JobRecord,
    has_same_input,
    manifest_json,
    read_job_path,
    read_manifest_path,
)
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.receipts import RECEIPT_FORMAT, Receipt, file_content
from ai.ml.retraining.batch.score_part import ScoredPart, write_scored

PROGRESS = "_progress"
MANIFEST = "_manifest.json"
SUCCESS = "_SUCCESS"
_FINISHED = "_progress.finished"


@dataclass(frozen=True)
class FolderOutput:
    """A folder on a disk that all workers see."""

    root: str
    partition_columns: bool = False
    """Write partition columns into the parts as well."""

    @contextmanager
    def lock(self) -> Generator[None]:
        """Held by the run that writes there.

        Raises:
            Busy: another one writes there.
            UsageError: the path leads through a file.
            StorageFailed: the disk refused.
        """
        root = self._path()
        file = next((place for place in (root, *root.parents) if place.exists() and not place.is_dir()), None)
        if file is not None:
            raise UsageError(f"can't write into {root}: {file} is a file, not a folder; give another output")
        make_dirs(root)
        with ExitStack() as held:
            try:
                held.enter_context(locked(root, 0.0))
            except FileNotFoundError:
                raise Busy(f"another process has just finished with {root}; try again") from None
            except OSError as error:
                raise storage_failed(f"opening {root}", error, "nothing was written") from error
            yield

    def begin(self, job: JobRecord, *, overwrite: bool) -> None:
        """As `Destination.begin`."""
        root = self._path()
        found = self._found()
        if found is None and (strangers := self._strangers()):
            raise UsageError(f"{root} holds {min(strangers)!r} and no record of a batch: give an empty or a new folder")
        if found is not None and found != job and (overwrite or not self.has_receipts()):
            self._refuse_others_files(job, found)
            self.discard(found)
            found = None
        if found is not None:
            job.refuse_another(found, str(root))
        self._sweep(job)
        shutil.rmtree(root / _FINISHED, ignore_errors=True)
        if not self._is_finished():
            make_dirs(root / PROGRESS)
            sweep_temps(root / PROGRESS)
            write_atomic(root / PROGRESS / "job.json", job.model_dump_json().encode())

    def done(self, part: Part) -> Receipt | None:
        """As `Destination.done`; reads the part and its input in full."""
        receipt = self.receipt(part.name)
        path = self._path() / part.name
        if receipt is None or not has_same_input(receipt, part) or not path.is_file():
            return None
        return receipt if file_content(path) == receipt.content else None

    def write(self, scored: ScoredPart) -> Receipt:
        """As `Destination.write`."""
        scored.partition_columns = self.partition_columns
        self._refuse_another_job(scored)
        scored.last_check = partial(self._refuse_another_job, scored)
        # A finished output whose part is damaged: it isn't finished while that is mended.
        self._remove(self._path() / SUCCESS)
        receipt = write_scored(scored, self._path() / scored.part.name)
        if (self._path() / SUCCESS).exists():
            # The owner of this worker is gone, and a later run has finished everything, this part too.
            return receipt
        place = self._receipt_path(scored.part.name)
        try:
            make_dirs(place.parent)
        except OSError as error:
            raise storage_failed(f"making {place.parent}", error, "the part will be scored again") from error
        write_atomic(place, receipt.model_dump_json().encode())
        return receipt

    def finish(self, job: JobRecord, receipts: Sequence[Receipt]) -> None:
        """As `Destination.finish`; changes nothing where all was finished before."""
        root = self._path()
        # A worker that was killed while this run went on has left what it was writing.
        self._sweep(job)
        content = manifest_json(job, receipts)
        if not (self._is_finished() and (root / MANIFEST).read_bytes() == content):
            write_atomic(root / MANIFEST, content)
            write_atomic(root / SUCCESS, b"")
        if (root / PROGRESS).is_dir():
            # At once, so that half a record of progress is never taken for a whole one.
            (root / PROGRESS).rename(root / _FINISHED)
            fsync_dir(root)
            shutil.rmtree(root / _FINISHED, ignore_errors=True)

    def tidy(self) -> None:
        """As `Destination.tidy`; the job's record stays as long as an answer of it does."""
        try:
            found = self._found()
        except UsageError:  # `begin` has said so
            return
        answers = () if found is None else found.parts
        if not self.has_receipts() and not any((self._path() / name).exists() for name in answers):
            shutil.rmtree(self._path() / PROGRESS, ignore_errors=True)

    def is_strangers(self) -> bool:
        """Whether there is something here, and nothing that says a batch made it."""
        try:
            return self._found() is None and bool(self._strangers())
        except UsageError:  # what says so can't be read
            return True

    def _path(self) -> Path:
        return Path(self.root)

    def _strangers(self) -> list[str]:
        root = self._path()
        return [path.name for path in root.iterdir() if not _is_ours(path)] if root.is_dir() else []

    def _refuse_others_files(self, job: JobRecord, found: JobRecord) -> None:
        """Raise UsageError if a part would replace what the job that was found here didn't write."""
        strange = [name for name in {*job.parts} - {*found.parts} if os.path.lexists(self._path() / name)]
        if strange:
            raise UsageError(
                f"{self._path() / min(strange)} is there already, and the batch that wrote into {self._path()} didn't "
                "make it: give another output, or move it away"
            )

    def has_receipts(self) -> bool:
        """Whether a former run has finished a part."""
        receipts = self._path() / PROGRESS / "receipts"
        return (self._path() / MANIFEST).is_file() or any(files for _, _, files in os.walk(receipts))

    def _found(self) -> JobRecord | None:
        """The job that this folder belongs to."""
        progress, manifest = self._path() / PROGRESS / "job.json", self._path() / MANIFEST
        if progress.is_file():
            return read_job_path(progress)
        return read_manifest_path(manifest)[0] if manifest.is_file() else None

    def _refuse_another_job(self, scored: ScoredPart) -> None:
        """Raise UsageError unless the folder is still this job's: the owner of this worker may be gone."""
        progress, manifest = self._path() / PROGRESS / "job.json", self._path() / MANIFEST
        found = None
        with suppress(FileNotFoundError):
            found = _begun(progress, _stamp(progress))
        if found is None and manifest.is_file():
            found = _manifest(manifest, manifest.stat().st_mtime_ns)[0]
        if found is None or not found.is_of(scored):
            raise UsageError(f"another run has taken {self.root}, or removed it, while this one wrote there")

    def _is_finished(self) -> bool:
        root = self._path()
        return (root / SUCCESS).is_file() and (root / MANIFEST).is_file() and not (root / PROGRESS).is_dir()

    def _receipt_path(self, name: str) -> Path:
        place = self._path() / PROGRESS / "receipts" / f"{name}.json"
        if len(os.fsencode(place.name)) <= MAX_NAME_BYTES:
            return place
        return place.with_name(f"{sha256_bytes(os.fsencode(place.name))}.json")

    def receipt(self, name: str) -> Receipt | None:
        """As `Destination.receipt`."""
        place = self._receipt_path(name)
        if not place.is_file():
            manifest = self._path() / MANIFEST
            return _manifest(manifest, manifest.stat().st_mtime_ns)[1].get(name) if manifest.is_file() else None
        try:
            receipt = Receipt.model_validate_json(place.read_bytes())
        except ValueError:
            return None
        return receipt if receipt.format == RECEIPT_FORMAT else None

    def discard(self, job: JobRecord) -> None:
        """As `Destination.discard`: the mark of success first; what isn't the job's own stays."""
        root = self._path()
        self._remove(root / SUCCESS)
        for name in job.parts:
            _unlink(root / name)
        self._remove(root / MANIFEST)
        shutil.rmtree(root / PROGRESS, ignore_errors=True)

    def _sweep(self, job: JobRecord) -> None:
        root = self._path()
        for folder in {root, *(root / Path(name).parent for name in job.parts)}:
            if folder.is_dir():
                sweep_temps(folder)

    @staticmethod
    def _remove(path: Path) -> None:
        if path.exists():
            _unlink(path)
            fsync_dir(path.parent)


@lru_cache(maxsize=2)
def _manifest(manifest: Path, _changed_ns: int) -> tuple[JobRecord, dict[str, Receipt]]:
    job, receipts = read_manifest_path(manifest)
    return job, {receipt.part: receipt for receipt in receipts}


@lru_cache(maxsize=2)
def _begun(progress: Path, _stamp: tuple[int, int, int]) -> JobRecord:
    return read_job_path(progress)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_failed(f"removing {path}", error, "what was there is there") from error


def _is_ours(path: Path) -> bool:
    return path.name in (PROGRESS, _FINISHED, MANIFEST, SUCCESS) or path.name.startswith(".") or _is_empty(path)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(files for _, _, files in os.walk(path))
