"""A folder as output, locked: each part, receipt and manifest is published by a rename, in the layout of `layout`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from ai.ml.core.errors import Busy, UsageError, storage_failed
from ai.ml.core.files.atomic import MAX_NAME_BYTES, fsync_dir, make_dirs, sha256_bytes, sweep_temps, write_atomic
from ai.ml.core.files.lock import locked
from ai.ml.retraining.batch.outputs.job_record import JobRecord, read_job_json, read_manifest_json
from ai.ml.retraining.batch.outputs.layout import JOB, MANIFEST, PROGRESS, RECEIPTS, SUCCESS, receipt_name
from ai.ml.retraining.batch.outputs.location import OutputLocation
from ai.ml.retraining.batch.receipts import RECEIPT_FORMAT, Receipt, file_content
from ai.ml.retraining.batch.score_part import ScoredPart, write_scored

_FINISHED = "_progress.finished"


@dataclass(frozen=True)
class FolderLocation(OutputLocation):
    """A folder on a disk that all workers see."""

    root: str
    partition_columns: bool = False
    """Write partition columns into the parts as well."""

    @property
    def name(self) -> str:
        """The folder's path."""
        return self.root

    @property
    def exclusive(self) -> bool:
        """True: the folder is locked."""
        return True

    @contextmanager
    def lock(self) -> Generator[None]:
        """Held by the run that writes here.

        Raises:
            Busy: another one writes there.
            UsageError: the path leads through a file.
            StorageFailed: the disk refused.
        """
        root = Path(self.root)
        file = next((path for path in (root, *root.parents) if path.exists() and not path.is_dir()), None)
        if file is not None:
            raise UsageError(f"can't write into {root}: {file} is a file, not a folder; give another output")
        make_dirs(root)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(root, 0.0))
            except FileNotFoundError:
                raise Busy(f"another process has just finished with {root}; try again") from None
            except OSError as error:
                raise storage_failed(f"opening {root}", error, "nothing was written") from error
            yield

    def read_job(self) -> JobRecord | None:
        """As `OutputLocation.read_job`."""
        job = self._recorded_job()
        if job is None and (foreign := self._foreign_files()):
            raise UsageError(
                f"{self.root} holds {min(foreign)!r} and no record of a batch: give an empty or a new folder"
            )
        return job

    def existing(self, names: Iterable[str]) -> set[str]:
        """As `OutputLocation.existing`."""
        return {name for name in names if os.path.lexists(self._path(name))}

    def claim(self, job: JobRecord, replaced: JobRecord | None) -> None:
        """As `OutputLocation.claim`; removes temporary files of killed workers."""
        if replaced is not None:
            self.remove(replaced)
        self._sweep(job)
        shutil.rmtree(self._path(_FINISHED), ignore_errors=True)
        if not self._is_finished():
            make_dirs(self._path(PROGRESS))
            sweep_temps(self._path(PROGRESS))
            write_atomic(self._path(JOB), job.model_dump_json().encode())

    def has_claimed(self) -> bool:
        """As `OutputLocation.has_claimed`: whoever holds the lock has made every claim here, or taken it over."""
        try:
            self.read_job()
        except UsageError:  # the run has said so
            return False
        return True

    def release(self) -> None:
        """As `OutputLocation.release`."""
        job = self._recorded_job()
        if job is None or not self.existing(job.parts):
            shutil.rmtree(self._path(PROGRESS), ignore_errors=True)

    def has_receipts(self) -> bool:
        """As `OutputLocation.has_receipts`."""
        return self._path(MANIFEST).is_file() or any(files for _, _, files in os.walk(self._path(RECEIPTS)))

    def read_receipt(self, part: str) -> Receipt | None:
        """As `OutputLocation.read_receipt`."""
        path = self._receipt_path(part)
        if not path.is_file():
            manifest = self._path(MANIFEST)
            return _manifest(manifest, manifest.stat().st_mtime_ns)[1].get(part) if manifest.is_file() else None
        try:
            receipt = Receipt.model_validate_json(path.read_bytes())
        except ValueError:
            return None
        return receipt if receipt.format == RECEIPT_FORMAT else None

    def holds(self, receipt: Receipt) -> bool:
        """As `OutputLocation.holds`; reads the part in full."""
        path = self._path(receipt.part)
        return path.is_file() and file_content(path) == receipt.content

    def write(self, scored: ScoredPart) -> Receipt:
        """As `OutputLocation.write`."""
        scored.partition_columns = self.partition_columns
        self._refuse_another_job(scored)
        scored.last_check = partial(self._refuse_another_job, scored)
        # A finished output whose part is damaged: it isn't finished while that is mended.
        _remove(self._path(SUCCESS))
        receipt = write_scored(scored, self._path(scored.part.name))
        if self._path(SUCCESS).exists():
            # The owner of this worker is gone, and a later run has finished everything, this part too.
            return receipt
        path = self._receipt_path(scored.part.name)
        try:
            make_dirs(path.parent)
        except OSError as error:
            raise storage_failed(f"making {path.parent}", error, "the part will be scored again") from error
        write_atomic(path, receipt.model_dump_json().encode())
        return receipt

    def finished_manifest(self) -> bytes | None:
        """As `OutputLocation.finished_manifest`."""
        return self._path(MANIFEST).read_bytes() if self._is_finished() else None

    def publish_manifest(self, manifest: bytes, job: JobRecord, receipts: Sequence[Receipt]) -> None:
        """As `OutputLocation.publish_manifest`."""
        # A worker that was killed while this run went on has left what it was writing.
        self._sweep(job)
        write_atomic(self._path(MANIFEST), manifest)
        write_atomic(self._path(SUCCESS), b"")

    def remove_progress(self) -> None:
        """As `OutputLocation.remove_progress`."""
        if self._path(PROGRESS).is_dir():
            # At once, so that half a record of progress is never taken for a whole one.
            self._path(PROGRESS).rename(self._path(_FINISHED))
            fsync_dir(Path(self.root))
            shutil.rmtree(self._path(_FINISHED), ignore_errors=True)

    def remove(self, job: JobRecord) -> None:
        """As `OutputLocation.remove`."""
        _remove(self._path(SUCCESS))
        for name in job.parts:
            _unlink(self._path(name))
        _remove(self._path(MANIFEST))
        shutil.rmtree(self._path(PROGRESS), ignore_errors=True)

    def _path(self, name: str) -> Path:
        return Path(self.root, name)

    def _foreign_files(self) -> list[str]:
        root = Path(self.root)
        return [path.name for path in root.iterdir() if not _is_ours(path)] if root.is_dir() else []

    def _recorded_job(self) -> JobRecord | None:
        """The job that the records here are of."""
        job, manifest = self._path(JOB), self._path(MANIFEST)
        if job.is_file():
            return read_job_json(job.read_bytes(), str(job))
        return read_manifest_path(manifest)[0] if manifest.is_file() else None

    def _refuse_another_job(self, scored: ScoredPart) -> None:
        """Raise UsageError unless the folder is still this job's: the owner of this worker may be gone."""
        job, manifest = self._path(JOB), self._path(MANIFEST)
        found = None
        with suppress(FileNotFoundError):
            found = _job(job, _stamp(job))
        if found is None and manifest.is_file():
            found = _manifest(manifest, manifest.stat().st_mtime_ns)[0]
        if found is None or not found.is_of(scored):
            raise UsageError(f"another run has taken {self.root}, or removed it, while this one wrote there")

    def _is_finished(self) -> bool:
        return self._path(SUCCESS).is_file() and self._path(MANIFEST).is_file() and not self._path(PROGRESS).is_dir()

    def _receipt_path(self, part: str) -> Path:
        path = self._path(receipt_name(part))
        if len(os.fsencode(path.name)) <= MAX_NAME_BYTES:
            return path
        return path.with_name(f"{sha256_bytes(os.fsencode(path.name))}.json")

    def _sweep(self, job: JobRecord) -> None:
        for folder in {self._path(""), *(self._path(name).parent for name in job.parts)}:
            if folder.is_dir():
                sweep_temps(folder)


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


@lru_cache(maxsize=2)
def _manifest(manifest: Path, _changed_ns: int) -> tuple[JobRecord, dict[str, Receipt]]:
    job, receipts = read_manifest_path(manifest)
    return job, {receipt.part: receipt for receipt in receipts}


@lru_cache(maxsize=2)
def _job(record: Path, _stamp: tuple[int, int, int]) -> JobRecord:
    return read_job_json(record.read_bytes(), str(record))


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _remove(path: Path) -> None:
    if path.exists():
        _unlink(path)
        fsync_dir(path.parent)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_failed(f"removing {path}", error, "what was there is there") from error


def _is_ours(path: Path) -> bool:
    return path.name in (PROGRESS, _FINISHED, MANIFEST, SUCCESS) or path.name.startswith(".") or _is_empty(path)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(files for _, _, files in os.walk(path))
