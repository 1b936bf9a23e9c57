"""Joining scored parts into the rows of one file, without holding more than a batch of them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from ai.ml.core.errors import DataRefused
from ai.ml.core.files.atomic import write_atomic
from ai.ml.core.tables.reader import read_batches
from ai.ml.retraining.batch.part_writer import write_part
from ai.ml.retraining.batch.receipts import Content, file_content

COPY_BYTES = 1 << 22


def join_parts(folder: Path, names: Sequence[str], target: Path) -> Content:
    """Write all rows of parts, in this order, into one file; CSV or Parquet by the target's suffix, as the parts are.

    Raises:
        DataRefused: the parts don't go into one table; the sentence names a part and a column.
        StorageFailed: the disk refused.
    """
    if target.suffix == ".parquet":
        return write_part(target, _joined_tables(folder, names))
    write_atomic(target, lambda stream: _join_csv(folder, names, stream))
    return file_content(target)


def _joined_tables(folder: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of Parquet parts, in one schema that holds all of them."""
    schema = _common_schema(folder, names)
    yield schema.empty_table()
    for name in names:
        for batch in read_batches(folder / name):
            table = pa.Table.from_batches([batch])
            yield pa.table([_cast(table.column(field.name), field, name) for field in schema], schema=schema)


def _common_schema(folder: Path, names: Sequence[str]) -> pa.Schema:
    first = common = pq.read_schema(folder / names[0]).remove_metadata()
    typed_by = dict.fromkeys(common.names, names[0])
    for name in names[1:]:
        schema = pq.read_schema(folder / name).remove_metadata()
        _refuse_other_columns((names[0], first.names), (name, schema.names))
        for field in schema:
            before = common.field(field.name)
            try:
                both = pa.unify_schemas([pa.schema([before]), pa.schema([field])], promote_options="permissive")
            except (pa.ArrowTypeError, pa.ArrowInvalid):
                raise DataRefused(
                    f"{typed_by[field.name]} has {field.name!r} as {before.type} and {name} as {field.type}"
                ) from None
            if both.field(0).type != before.type:
                typed_by[field.name] = name
                common = common.set(common.get_field_index(field.name), both.field(0))
    return common


def _cast(column: pa.ChunkedArray, field: pa.Field, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataRefused(
            f"{name} has {field.name!r} as {column.type}, others as {field.type}, and not every value fits ({error})"
        ) from None


def _refuse_other_columns(first: tuple[str, Sequence[str]], other: tuple[str, Sequence[str]]) -> None:
    if sorted(first[1]) != sorted(other[1]):
        unshared = min({*first[1]} ^ {*other[1]})
        without = other[0] if unshared in first[1] else first[0]
        raise DataRefused(f"{first[0]} and {other[0]} have other columns: {without} has no {unshared!r}")


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
            shutil.copyfileobj(source, stream, COPY_BYTES)


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
