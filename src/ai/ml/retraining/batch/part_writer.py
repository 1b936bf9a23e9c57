"""Writing one part as a stream: the same rows give the same bytes, however they were cut into pieces."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from ai.ml.core.errors import DataRefused, storage_failed
from ai.ml.core.files.atomic import make_dirs, write_atomic
from ai.ml.core.files.hashing import HashingStream
from ai.ml.core.files.scratch import scratch_folder
from ai.ml.core.tables.type_promotion import widened, wider_type
from ai.ml.retraining.batch.receipts import Content

ROW_GROUP_CELLS = 1 << 20
ROW_GROUP_ROWS = (1 << 12, 1 << 17)
"""Minimum and maximum rows of a row group: a reader holds one in memory, and so does this writer."""
_SPOOL_ROWS = 1 << 15
_COPY_BYTES = 8 << 20


def write_part(path: Path, tables: Iterable[pa.Table]) -> Content:
    """Write tables of the same columns, at least one, as Parquet or CSV by the name's suffix; whole or not at all.

    A column may come in another type later, as texts after nothing but nulls or fractions after whole numbers: CSV has
    no types, and in Parquet the column is of the type that holds all of its cells as they are.

    Raises:
        StorageFailed: the disk refused; what was at `path` is as it was.
        DataRefused: the format can't hold a column's type.
    """
    try:
        make_dirs(path.parent)
    except OSError as error:
        raise storage_failed(f"making {path.parent}", error, "nothing was written") from error
    written: list[Content] = []

    def write(stream: BinaryIO) -> None:
        written.append((_write_parquet if path.suffix == ".parquet" else _write_csv)(stream, iter(tables), path))

    write_atomic(path, write)
    return written[0]


def _write_parquet(stream: BinaryIO, tables: Iterator[pa.Table], path: Path) -> Content:
    first = next(tables)
    with ExitStack() as spools:
        while True:
            schema, late, written = first.schema, list[pa.Table](), HashingStream(stream)
            try:
                with (
                    pa.PythonFile(written, mode="w") as sink,
                    pq.ParquetWriter(sink, schema, write_page_checksum=True) as writer,
                ):
                    for group in row_groups(first, _fitting(tables, schema, late)):
                        writer.write_table(group, row_group_size=max(1, group.num_rows))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise DataRefused(f"{path.name}: Parquet can't hold these rows: {error}") from None
            if not late:
                return Content(sha256=written.sha256, size=written.size)
            # What is written goes through once more, in a schema that holds this table too.
            spool = spools.enter_context(scratch_folder()) / "rows.parquet"
            _move(stream, spool)
            first = _wider_schema(schema, late[0]).empty_table()
            tables = chain(_spooled(spool), late, tables)


def _write_csv(stream: BinaryIO, tables: Iterator[pa.Table], path: Path) -> Content:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    written = HashingStream(stream)
    with pa.PythonFile(written, mode="w") as sink:
        for index, (_, run) in enumerate(groupby(tables, key=lambda table: table.schema)):
            options = csv.WriteOptions(delimiter=delimiter, include_header=index == 0)
            try:
                first = next(run)
                with csv.CSVWriter(sink, first.schema, write_options=options) as writer:
                    for table in chain([first], run):
                        writer.write_table(table)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise DataRefused(f"{path.name}: CSV can't hold these rows: {error}") from None
    return Content(sha256=written.sha256, size=written.size)


def _fitting(tables: Iterator[pa.Table], schema: pa.Schema, late: list[pa.Table]) -> Iterator[pa.Table]:
    """The tables in one schema, up to the first one whose cells it can't hold as they are: that goes into `late`."""
    for table in tables:
        if table.schema.equals(schema):
            yield table
            continue
        columns = [_fitted(column, kind) for column, kind in zip(table.columns, schema.types, strict=True)]
        exact = [column for column in columns if column is not None]
        if len(exact) < len(columns):
            late.append(table)
            return
        yield pa.table(exact, schema=schema)


def _fitted(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    if wider_type(kind, column.type) != kind:
        return None
    pieces = [widened(piece, kind) for piece in column.chunks]
    exact = [piece for piece in pieces if piece is not None]
    return pa.chunked_array(exact, kind) if len(exact) == len(pieces) else None


def _wider_schema(schema: pa.Schema, table: pa.Table) -> pa.Schema:
    """A schema for the rows so far and for a table that doesn't fit theirs."""
    kinds = [wider_type(kind, column.type) for kind, column in zip(schema.types, table.columns, strict=True)]
    return pa.schema(
        (name, pa.string() if _fitted(column, kind) is None else kind)
        for name, kind, column in zip(schema.names, kinds, table.columns, strict=True)
    )


def _move(stream: BinaryIO, target: Path) -> None:
    stream.seek(0)
    with target.open("wb") as copy:
        shutil.copyfileobj(stream, copy, _COPY_BYTES)
    stream.seek(0)
    stream.truncate()


def _spooled(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_SPOOL_ROWS, use_threads=False):
            yield pa.Table.from_batches([batch])


def row_groups(first: pa.Table, rest: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, tables of one schema, in groups of one fixed size, the last one shorter."""
    minimum, maximum = ROW_GROUP_ROWS
    size = min(maximum, max(minimum, ROW_GROUP_CELLS // max(1, first.num_columns)))
    waiting = first
    for table in rest:
        while waiting.num_rows >= size:
            yield waiting.slice(0, size)
            waiting = waiting.slice(size)
        waiting = pa.concat_tables([waiting, table])
    while waiting.num_rows > size:
        yield waiting.slice(0, size)
        waiting = waiting.slice(size)
    yield waiting
