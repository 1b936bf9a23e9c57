"""Reading the evidence's holdout rows: what they would take is known before they are made.

A few kilobytes of Parquet can stand for gigabytes: a value that is repeated millions of times takes some bytes there.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ai.ml.core.errors import BundleRefused

MAX_ROWS = 1 << 20
"""Far beyond what evidence holds."""
MAX_CELLS = 1 << 25
MAX_BYTES = 1 << 28
"""Of the columns' pages in the file decompressed, and of all texts once they stand in each row."""


def read_probe_rows(path: Path) -> pa.Table:
    """Read a Parquet file of rows, page checksums verified.

    Raises:
        BundleRefused: it holds more than evidence does.
        OSError, pa.ArrowException: it can't be read.
    """
    footer = pq.read_metadata(path)
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    _refuse_more(path, "rows", footer.num_rows, MAX_ROWS)
    _refuse_more(path, "cells", max(footer.num_rows * footer.num_columns, sum(c.num_values for c in chunks)), MAX_CELLS)
    _refuse_more(path, "bytes", sum(chunk.total_uncompressed_size for chunk in chunks), MAX_BYTES)
    schema = footer.schema.to_arrow_schema()
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    table = pq.read_table(path, page_checksum_verification=True, read_dictionary=texts)
    _refuse_more(path, "bytes of text", sum(map(_text_bytes, table.columns)), MAX_BYTES)
    columns = [_decoded(column, field.type) for column, field in zip(table.columns, schema, strict=True)]
    return pa.table(columns, schema=schema.with_metadata(table.schema.metadata))


def _refuse_more(path: Path, what: str, found: int, most: int) -> None:
    if found > most:
        raise BundleRefused(f"{path.name} holds {found:,} {what}, more than the {most:,} that evidence may")


def _text_bytes(column: pa.ChunkedArray) -> int:
    total = 0
    for chunk in column.chunks:
        if isinstance(chunk, pa.DictionaryArray) and len(chunk.dictionary):
            lengths = pc.binary_length(chunk.dictionary)  # pyright: ignore[reportAttributeAccessIssue]
            total += pc.sum(lengths.take(chunk.indices)).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]
    return total


def _decoded(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    return column if column.type == kind else column.cast(kind)
