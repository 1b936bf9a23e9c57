"""Writing one part as a stream: the same rows give the same bytes, however they were cut into pieces."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from ai.ml.core.errors import DataRefused
from ai.ml.core.files import make_dirs, storage_failed, write_atomic
from ai.ml.retraining.receipts import Content

ROW_GROUP_CELLS = 1 << 20
ROW_GROUP_ROWS = (1 << 12, 1 << 17)
"""Least and most rows of a row group: a reader holds one in memory, and so does this writer."""


def write_part(path: Path, tables: Iterable[pa.Table]) -> Content:
    """Write tables of one schema, at least one of them, as Parquet or CSV by the name's suffix; whole or not at all.

    Raises:
        StorageFailed: the disk refused; what was at `path` is as it was.
        DataRefused: the format can't hold a column's type.
    """
    try:
        make_dirs(path.parent)
    except OSError as error:
        raise storage_failed(f"making {path.parent}", error, "nothing was written") from error
    written = _Written()

    def write(stream: BinaryIO) -> None:
        written.stream = stream
        with pa.PythonFile(written, mode="w") as sink:
            (_write_parquet if path.suffix == ".parquet" else _write_csv)(sink, iter(tables), path)

    write_atomic(path, write)
    return Content(sha256=written.digest.hexdigest(), size=written.size)


class _Written(io.RawIOBase):
    """Hashes what passes through, so that nothing need be read back."""

    stream: BinaryIO

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.digest.update(data)
        written = self.stream.write(data)
        self.size += written
        return written

    def tell(self) -> int:
        return self.size


def _write_parquet(sink: pa.NativeFile, tables: Iterator[pa.Table], path: Path) -> None:
    first = next(tables)
    try:
        with pq.ParquetWriter(sink, first.schema, write_page_checksum=True) as writer:
            for group in row_groups(first, tables):
                writer.write_table(group, row_group_size=max(1, group.num_rows))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataRefused(f"{path.name}: Parquet can't hold these rows: {error}") from None


def _write_csv(sink: pa.NativeFile, tables: Iterator[pa.Table], path: Path) -> None:
    first = next(tables)
    try:
        options = csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
        with csv.CSVWriter(sink, first.schema, write_options=options) as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(_as_first(table, first.schema))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataRefused(f"{path.name}: CSV can't hold these rows: {error}") from None


def row_groups(first: pa.Table, rest: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in groups of one fixed size, the last one shorter."""
    least, most = ROW_GROUP_ROWS
    size = min(most, max(least, ROW_GROUP_CELLS // max(1, first.num_columns)))
    waiting = first
    for table in rest:
        while waiting.num_rows >= size:
            yield waiting.slice(0, size)
            waiting = waiting.slice(size)
        waiting = pa.concat_tables([waiting, _as_first(table, first.schema)])
    while waiting.num_rows > size:
        yield waiting.slice(0, size)
        waiting = waiting.slice(size)
    yield waiting


def _as_first(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A part has one schema: a column that came as integers first may come as floats later, never the other way."""
    return table if table.schema.equals(schema) else table.cast(schema)
