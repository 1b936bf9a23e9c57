"""One answer file, whatever the number of parts: they are kept in a folder beside it until the last one is there."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from ai.ml.core.errors import UsageError
from ai.ml.core.files import fsync_dir, temp_path, write_atomic
from ai.ml.core.tables import read_batches
from ai.ml.retraining.destination import JobRecord, manifest_json
from ai.ml.retraining.folder_output import FolderOutput
from ai.ml.retraining.part_writer import write_part
from ai.ml.retraining.partition import ScoredPart
from ai.ml.retraining.parts import Part
from ai.ml.retraining.receipts import Receipt

SUFFIXES = (".csv", ".tsv", ".parquet")
_COPY_BYTES = 1 << 22


@dataclass(frozen=True)
class FileOutput:
    """`OUT.parquet` with `OUT.parquet.manifest.json`; an older file stays until the new one takes its name."""

    target: str

    def __post_init__(self) -> None:
        path = Path(self.target)
        if path.suffix not in SUFFIXES:
            raise UsageError(f"can't write {path}: the name must end in .csv, .tsv or .parquet")
        if not path.absolute().parent.is_dir():
            raise UsageError(f"can't write {path}: there is no folder {path.parent}")
        if path.is_dir():
            raise UsageError(f"can't write {path}: it is a folder")

    @property
    def parts(self) -> FolderOutput:
        """Where the parts wait."""
        path = Path(self.target).absolute()
        return FolderOutput(str(path.with_name(f".{path.name}.parts")), partition_columns=True)

    def lock(self) -> AbstractContextManager[None]:
        """As of the folder of parts."""
        return self.parts.lock()

    def begin(self, job: JobRecord, *, overwrite: bool) -> None:
        """As `Destination.begin`; what was begun there is another job's only until it is finished."""
        self.parts.begin(job, overwrite=overwrite)

    def receipt(self, name: str) -> Receipt | None:
        """As `Destination.receipt`; a finished file has none."""
        return self.parts.receipt(name)

    def discard(self, job: JobRecord) -> None:
        """As `Destination.discard`; a finished file stays until the new one takes its name."""
        self.parts.discard(job)

    def done(self, part: Part) -> Receipt | None:
        """As `Destination.done`."""
        return self.parts.done(part)

    def write(self, scored: ScoredPart) -> Receipt:
        """As `Destination.write`."""
        return self.parts.write(scored)

    def finish(self, job: JobRecord, receipts: Sequence[Receipt]) -> None:
        """Join the parts, publish the file, then its manifest; then the parts go."""
        folder, target = Path(self.parts.root), Path(self.target).absolute()
        paths = [folder / receipt.part for receipt in receipts]
        if len(paths) == 1:
            _publish_only(paths[0], target)
        elif target.suffix == ".parquet":
            write_part(target, _joined(paths))
        else:
            write_atomic(target, lambda stream: _join_csv(paths, stream))
        write_atomic(target.with_name(f"{target.name}.manifest.json"), manifest_json(job, receipts))
        shutil.rmtree(folder, ignore_errors=True)

    def tidy(self) -> None:
        """As `Destination.tidy`."""
        if not self.parts.has_receipts():
            shutil.rmtree(self.parts.root, ignore_errors=True)


def _publish_only(part: Path, target: Path) -> None:
    """The part under the target's name as well: until the manifest is written both names hold it."""
    link = temp_path(target)
    try:
        os.link(part, link)
    except OSError:
        # No hard links on this file system.
        with part.open("rb") as source:
            write_atomic(target, lambda stream: shutil.copyfileobj(source, stream, _COPY_BYTES))
        return
    link.replace(target)
    fsync_dir(target.parent)


def _joined(paths: Sequence[Path]) -> Iterator[pa.Table]:
    """The rows of Parquet parts, in one schema that holds all of them."""
    schemas = [pq.read_schema(path).remove_metadata() for path in paths]
    schema = pa.unify_schemas(schemas, promote_options="permissive")
    yield schema.empty_table()
    for path in paths:
        for batch in read_batches(path):
            table = pa.Table.from_batches([batch])
            plain = [
                column.cast(field.type)
                for column, field in zip(table.select(schema.names).columns, schema, strict=True)
            ]
            yield pa.table(plain, schema=schema)


def _join_csv(paths: Sequence[Path], stream: BinaryIO) -> None:
    """The bytes of CSV parts, with the header of the first one."""
    header = _header(paths[0])
    stream.write(header)
    for path in paths:
        with path.open("rb") as source:
            if source.read(len(header)) != header:
                raise UsageError(f"{path.name} has other columns than {paths[0].name}: write a folder, not one file")
            shutil.copyfileobj(source, stream, _COPY_BYTES)


def _header(path: Path) -> bytes:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with csv.open_csv(path, parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)) as reader:
        names = reader.schema.names
    sink = io.BytesIO()
    schema = pa.schema([(name, pa.string()) for name in names])
    csv.write_csv(schema.empty_table(), sink, csv.WriteOptions(delimiter=delimiter))
    return sink.getvalue()
