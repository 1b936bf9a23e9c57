"""One answer file, whatever the number of parts: they are kept in a folder beside it until the last one is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ai.ml.core.errors import DataRefused, UsageError, storage_failed
from ai.ml.core.files.atomic import MAX_NAME_BYTES, fsync_dir, temp_path, write_atomic
from ai.ml.retraining.batch.outputs.folder import FolderLocation, read_manifest_path
from ai.ml.retraining.batch.outputs.job_record import JobRecord, manifest_json, read_manifest_file
from ai.ml.retraining.batch.outputs.join import COPY_BYTES, join_parts
from ai.ml.retraining.batch.outputs.layout import FILE_SUFFIXES, PROGRESS
from ai.ml.retraining.batch.outputs.resumable import ResumableOutput, has_same_input
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.receipts import Content, Receipt, file_content
from ai.ml.retraining.settings.predict import BatchSettings

_JOINED = f"{PROGRESS}/joined"
_KEPT = f"{PROGRESS}/finished.json"


@dataclass(frozen=True)
class FileOutput(ResumableOutput):
    """`OUT.parquet` with `OUT.parquet.manifest.json`; an older file stays until the new one takes its name.

    ::

        .OUT.parquet.parts/                            the parts, as in a folder of parts; gone when all is done
        .OUT.parquet.parts/_progress/joined.json       what the file will hold: written before it takes its name
        .OUT.parquet.parts/_progress/finished.json     the manifest of a file that this job finished before
    """

    location: FolderLocation = field(init=False)
    """The folder beside the file where the parts wait to become one."""
    target: str
    """Absolute: workers may have another working directory."""

    def __post_init__(self) -> None:
        path = Path(self.target).absolute()
        object.__setattr__(self, "target", str(path))
        if path.suffix.lower() not in FILE_SUFFIXES:
            raise UsageError(
                f"can't write {path}: a file's name must end in .csv, .tsv or .parquet, and a folder's in a slash"
            )
        if len(os.fsencode(self._manifest().name)) > MAX_NAME_BYTES:
            raise UsageError(f"can't write {path}: its name leaves no room for the manifest's, which is longer")
        if not path.parent.is_dir():
            raise UsageError(f"can't write {path}: there is no folder {path.parent}")
        if path.is_dir():
            raise UsageError(f"can't write {path}: it is a folder")
        parts = FolderLocation(str(path.with_name(f".{path.name}.parts")), partition_columns=True)
        object.__setattr__(self, "location", parts)

    def part_format(self, settings: BatchSettings) -> str:
        """The file's format: `csv`, `tsv` or `parquet`."""
        return self._path().suffix.lower()[1:]

    def check_input(self, source: str, query: str | None, parts: Sequence[Part]) -> None:
        """Refuse parts that can't become one table, as far as their names tell.

        Raises:
            DataRefused: they have other partition columns.
        """
        first = parts[0]
        for part in parts:
            if [name for name, _ in part.partition] != [name for name, _ in first.partition]:
                raise DataRefused(
                    f"{first.name} has {_folders(first)} and {part.name} has {_folders(part)}: they can't become one "
                    "file; write a folder"
                )

    def begin(self, job: JobRecord, *, overwrite: bool) -> None:
        """As `ResumableOutput.begin`; a file that is there must be this job's, or is replaced if `overwrite`."""
        finished = not overwrite and self._is_finished(job)
        super().begin(job, overwrite=overwrite)
        self._kept_manifest().unlink(missing_ok=True)
        if finished:
            write_atomic(self._kept_manifest(), self._manifest().read_bytes())

    def done(self, part: Part) -> Receipt | None:
        """As `ResumableOutput.done`; of a file that was finished before, only the input is read."""
        kept = self._kept_manifest()
        if not kept.is_file():
            return super().done(part)
        receipt = _receipts(kept, kept.stat().st_mtime_ns)[part.name]
        return receipt if has_same_input(receipt, part) else None

    def finish(self, job: JobRecord, receipts: Sequence[Receipt]) -> None:
        """Join the parts, publish the file, then its manifest; then the parts go.

        Raises:
            DataRefused: the parts don't go into one table; they stay.
        """
        folder = Path(self.location.root)
        if not self._kept_manifest().is_file():
            joined, content = self._join(folder, receipts)
            write_atomic(folder / f"{_JOINED}.json", content.model_dump_json().encode())
            _publish(joined, self._path())
            write_atomic(self._manifest(), manifest_json(job, receipts, content))
        _remove_parts(folder)

    def clean_up_if_empty(self) -> None:
        """As `ResumableOutput.clean_up_if_empty`; only for who holds the lock: `finish` has let another run begin."""
        if self.location.has_claimed() and not self.location.has_receipts():
            _remove_parts(Path(self.location.root))

    def _path(self) -> Path:
        return Path(self.target)

    def _manifest(self) -> Path:
        return Path(f"{self.target}.manifest.json")

    def _kept_manifest(self) -> Path:
        """The manifest of a file that this job finished before."""
        return Path(self.location.root) / _KEPT

    def _is_finished(self, job: JobRecord) -> bool:
        """This job made the file that is there, and its manifest says so; raises UsageError if it is another's."""
        path, manifest = self._path(), self._manifest()
        recorded = read_manifest_path(manifest) if os.path.lexists(manifest) else None
        if not os.path.lexists(path):
            return False
        content = file_content(path) if path.is_file() else None
        is_whole = recorded is not None and content is not None and content == read_manifest_file(manifest.read_bytes())
        is_ours = recorded is not None and recorded[0] == job
        if content is not None and content == self._joined() and not (is_whole and is_ours):
            # A run was killed after the file took its name, and before the manifest did.
            return False
        if recorded is None:
            raise UsageError(f"{path} is there already, and no batch made it: give another output, or --overwrite")
        job.refuse_another(recorded[0], str(path))
        if not is_whole:
            raise UsageError(f"{path} isn't what its manifest says: give another output, or --overwrite")
        # Whether a query would give the same rows again is unknown.
        return all(receipt.source is not None for receipt in recorded[1])

    def _joined(self) -> Content | None:
        """The manifest that an earlier run was about to publish."""
        try:
            return Content.model_validate_json((Path(self.location.root) / f"{_JOINED}.json").read_bytes())
        except (OSError, ValueError):
            return None

    def _join(self, folder: Path, receipts: Sequence[Receipt]) -> tuple[Path, Content]:
        """All rows in one file in the folder of parts: the only part itself, or a new one."""
        names = [receipt.part for receipt in receipts]
        if len(receipts) == 1 and receipts[0].content is not None:
            return folder / names[0], receipts[0].content
        joined = folder / f"{_JOINED}{self._path().suffix.lower()}"
        try:
            return joined, join_parts(folder, names, joined)
        except DataRefused as error:
            raise DataRefused(
                f"{error}: they can't become one file; write a folder, or keep other columns (the scored parts stay "
                f"in {folder} until --overwrite)"
            ) from None


def _remove_parts(folder: Path) -> None:
    """The record of the job last: a run that is killed here leaves no unrecorded parts."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name != PROGRESS:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _publish(joined: Path, target: Path) -> None:
    """The file under the target's name as well: until the manifest is written both names hold it."""
    if target.exists() and target.samefile(joined) and not target.is_symlink():
        return
    link = temp_path(target)
    try:
        os.link(joined, link)
    except OSError:
        # No hard links on this file system.
        with joined.open("rb") as source:
            write_atomic(target, lambda stream: shutil.copyfileobj(source, stream, COPY_BYTES))
        return
    try:
        link.replace(target)
        fsync_dir(target.parent)
    except OSError as error:
        raise storage_failed(f"writing {target}", error, "the scored parts stay") from error
    finally:
        link.unlink(missing_ok=True)


def _folders(part: Part) -> str:
    names = [name for name, _ in part.partition]
    return f"the partition columns {', '.join(map(repr, names))}" if names else "no partition columns"


@lru_cache(maxsize=2)
def _receipts(manifest: Path, _changed_ns: int) -> dict[str, Receipt]:
    return {receipt.part: receipt for receipt in read_manifest_path(manifest)[1]}
