"""One answer file, whatever the number of parts: they are kept in a folder beside it until the last one is there."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from ai.ml.core.errors import DataRefused, UsageError, storage_failed
from ai.ml.core.files.atomic import MAX_NAME_BYTES, fsync_dir, temp_path, write_atomic
from ai.ml.core.tables.reader import read_batches
from ai.ml.retraining.batch.outputs.base import (
    JobRecord,
    has_same_input,
    manifest_json,
    read_manifest_file,
    read_manifest_path,
)
from ai.ml.retraining.batch.outputs.folder import PROGRESS, FolderOutput
from ai.ml.retraining.batch.part_writer import write_part
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.receipts import Content, Receipt, file_content
from ai.ml.retraining.batch.score_part import ScoredPart

SUFFIXES = (".csv", ".tsv", ".parquet")
_COPY_BYTES = 1 << 22
_JOINED = f"{PROGRESS}/joined"
_KEPT = f"{PROGRESS}/finished.json"


@dataclass(frozen=True)
class FileOutput:
    """`OUT.parquet` with `OUT.parquet.manifest.json`; an older file stays until the new one takes its name.

    ::

        .OUT.parquet.parts/                            the parts, as in a folder of parts; gone when all is done
        .OUT.parquet.parts/_progress/joined.json       what the file will hold: written before it takes its name
        .OUT.parquet.parts/_progress/finished.json     the manifest of a file that this job finished before
    """

    target: str
    """Absolute: workers may stand elsewhere."""

    def __post_init__(self) -> None:
        path = Path(self.target).absolute()
        object.__setattr__(self, "target", str(path))
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"can't write {path}: a file's name must end in .csv, .tsv or .parquet, and a folder's in a slash"
            )
        if len(os.fsencode(self._manifest().name)) > MAX_NAME_BYTES:
            raise UsageError(f"can't write {path}: its name leaves no room for the manifest's, which is longer")
        if not path.parent.is_dir():
            raise UsageError(f"can't write {path}: there is no folder {path.parent}")
        if path.is_dir():
            raise UsageError(f"can't write {path}: it is a folder")

    @property
    def parts(self) -> FolderOutput:
        """The folder beside the file where the parts wait to become one."""
        return FolderOutput(str(self._path().with_name(f".{self._path().name}.parts")), partition_columns=True)

    @property
    def format(self) -> str:
        """The file's format: `csv`, `tsv` or `parquet`."""
        return self._path().suffix.lower()[1:]

    def check(self, parts: Sequence[Part]) -> None:
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

    def lock(self) -> AbstractContextManager[None]:
        """The lock of the folder of parts."""
        return self.parts.lock()

    def begin(self, job: JobRecord, *, overwrite: bool) -> None:
        """As `Destination.begin`; a file that is there must be this job's, or is replaced if `overwrite`."""
        finished = not overwrite and self._is_finished(job)
        self.parts.begin(job, overwrite=overwrite)
        kept = Path(self.parts.root) / _KEPT
        kept.unlink(missing_ok=True)
        if finished:
            write_atomic(kept, self._manifest().read_bytes())

    def receipt(self, name: str) -> Receipt | None:
        """As `Destination.receipt`; a finished file has none."""
        return self.parts.receipt(name)

    def discard(self, job: JobRecord) -> None:
        """As `Destination.discard`; a finished file stays until the new one takes its name."""
        self.parts.discard(job)

    def done(self, part: Part) -> Receipt | None:
        """As `Destination.done`; of a file that was finished before, only the input is read."""
        kept = Path(self.parts.root) / _KEPT
        if not kept.is_file():
            return self.parts.done(part)
        receipt = _receipts(kept, kept.stat().st_mtime_ns)[part.name]
        return receipt if has_same_input(receipt, part) else None

    def write(self, scored: ScoredPart) -> Receipt:
        """As `Destination.write`."""
        return self.parts.write(scored)

    def finish(self, job: JobRecord, receipts: Sequence[Receipt]) -> None:
        """Join the parts, publish the file, then its manifest; then the parts go.

        Raises:
            DataRefused: the parts don't go into one table; they stay.
        """
        folder = Path(self.parts.root)
        if not (folder / _KEPT).is_file():
            joined, content = self._join(folder, receipts)
            write_atomic(folder / f"{_JOINED}.json", content.model_dump_json().encode())
            _publish(joined, self._path())
            write_atomic(self._manifest(), manifest_json(job, receipts, content))
        _remove_parts(folder)

    def tidy(self) -> None:
        """As `Destination.tidy`; only for who holds the lock: `finish` has let another run begin there."""
        folder = Path(self.parts.root)
        if self.parts.is_strangers():
            return
        if not self.parts.has_receipts():
            _remove_parts(folder)

    def _path(self) -> Path:
        return Path(self.target)

    def _manifest(self) -> Path:
        return Path(f"{self.target}.manifest.json")

    def _is_finished(self, job: JobRecord) -> bool:
        """This job made the file that is there, and its manifest says so; raises UsageError if it is another's."""
        path, manifest = self._path(), self._manifest()
        told = read_manifest_path(manifest) if os.path.lexists(manifest) else None
        if not os.path.lexists(path):
            return False
        content = file_content(path) if path.is_file() else None
        is_told = told is not None and content is not None and content == read_manifest_file(manifest.read_bytes())
        is_ours = told is not None and told[0] == job
        if content is not None and content == self._joined() and not (is_told and is_ours):
            # A run was killed after the file took its name, and before the manifest did.
            return False
        if told is None:
            raise UsageError(f"{path} is there already, and no batch made it: give another output, or --overwrite")
        job.refuse_another(told[0], str(path))
        if not is_told:
            raise UsageError(f"{path} isn't what its manifest says: give another output, or --overwrite")
        # Whether a query would give the same rows again can't be told.
        return all(receipt.source is not None for receipt in told[1])

    def _joined(self) -> Content | None:
        """What an earlier run was about to publish."""
        try:
            return Content.model_validate_json((Path(self.parts.root) / f"{_JOINED}.json").read_bytes())
        except (OSError, ValueError):
            return None

    def _join(self, folder: Path, receipts: Sequence[Receipt]) -> tuple[Path, Content]:
        """All rows in one file in the folder of parts: the only part itself, or a new one."""
        names = [receipt.part for receipt in receipts]
        if len(receipts) == 1 and receipts[0].content is not None:
            return folder / names[0], receipts[0].content
        joined = folder / f"{_JOINED}.{self.format}"
        try:
            if self.format == "parquet":
                return joined, write_part(joined, _join_parquet(folder, names))
            write_atomic(joined, lambda stream: _join_csv(folder, names, stream))
        except DataRefused as error:
            raise DataRefused(
                f"{error}: they can't become one file; write a folder, or keep other columns (the scored parts stay "
                f"in {folder} until --overwrite)"
            ) from None
        return joined, file_content(joined)


def _remove_parts(folder: Path) -> None:
    """The record of the job last: a run that is killed here leaves no parts that nobody knows."""
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
            write_atomic(target, lambda stream: shutil.copyfileobj(source, stream, _COPY_BYTES))
        return
    try:
        link.replace(target)
        fsync_dir(target.parent)
    except OSError as error:
        raise storage_failed(f"writing {target}", error, "the scored parts stay") from error
    finally:
        link.unlink(missing_ok=True)


def _join_parquet(folder: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of Parquet parts, in one schema that holds all of them."""
    schema = _common_schema(folder, names)
    yield schema.empty_table()
    for name in names:
        for batch in read_batches(folder / name):
            table = pa.Table.from_batches([batch])
            yield pa.table([_as(table.column(field.name), field, name) for field in schema], schema=schema)


def _common_schema(folder: Path, names: Sequence[str]) -> pa.Schema:
    first = common = pq.read_schema(folder / names[0]).remove_metadata()
    told = dict.fromkeys(common.names, names[0])
    for name in names[1:]:
        schema = pq.read_schema(folder / name).remove_metadata()
        _refuse_other_columns((names[0], first.names), (name, schema.names))
        for field in schema:
            before = common.field(field.name)
            try:
                both = pa.unify_schemas([pa.schema([before]), pa.schema([field])], promote_options="permissive")
            except (pa.ArrowTypeError, pa.ArrowInvalid):
                raise DataRefused(
                    f"{told[field.name]} has {field.name!r} as {before.type} and {name} as {field.type}"
                ) from None
            if both.field(0).type != before.type:
                told[field.name] = name
                common = common.set(common.get_field_index(field.name), both.field(0))
    return common


def _as(column: pa.ChunkedArray, field: pa.Field, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataRefused(
            f"{name} has {field.name!r} as {column.type}, others as {field.type}, and not every value fits ({error})"
        ) from None


def _refuse_other_columns(first: tuple[str, Sequence[str]], other: tuple[str, Sequence[str]]) -> None:
    if sorted(first[1]) != sorted(other[1]):
        odd = sorted({*first[1]} ^ {*other[1]})
        without = other[0] if odd[0] in first[1] else first[0]
        raise DataRefused(f"{first[0]} and {other[0]} have other columns: {without} has no {odd[0]!r}")


def _join_csv(folder: Path, names: Sequence[str], stream: BinaryIO) -> None:
    """The bytes of CSV parts, with the header of the first one."""
    columns = _columns(folder / names[0])
    header = _header(columns, folder / names[0])
    stream.write(header)
    for name in names:
        with (folder / name).open("rb") as source:
            if source.read(len(header)) != header:
                _refuse_other_columns((names[0], columns), (name, _columns(folder / name)))
                raise DataRefused(f"{names[0]} and {name} have their columns in another order")
            shutil.copyfileobj(source, stream, _COPY_BYTES)


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _columns(path: Path) -> list[str]:
    options = csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True)
    with csv.open_csv(path, parse_options=options) as reader:
        return reader.schema.names


def _header(names: Sequence[str], path: Path) -> bytes:
    sink = io.BytesIO()
    schema = pa.schema([(name, pa.string()) for name in names])
    csv.write_csv(schema.empty_table(), sink, csv.WriteOptions(delimiter=_delimiter(path)))
    return sink.getvalue()


def _folders(part: Part) -> str:
    names = [name for name, _ in part.partition]
    return f"the partition columns {', '.join(map(repr, names))}" if names else "no partition columns"


@lru_cache(maxsize=2)
def _receipts(manifest: Path, _changed_ns: int) -> dict[str, Receipt]:
    return {receipt.part: receipt for receipt in read_manifest_path(manifest)[1]}
