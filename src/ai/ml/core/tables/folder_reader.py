"""A folder of parts as one table: all of one kind, with the same columns, or refused; none is left out in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa

from ai.ml.core.errors import DataNotFound, DataRefused
from ai.ml.core.tables.cells import column_name
from ai.ml.core.tables.csv.dialect import CsvOptions
from ai.ml.core.tables.csv.reader import read_csv, stream_csv
from ai.ml.core.tables.dataset_files import data_files, partition_keys, partition_of, refuse_other_columns
from ai.ml.core.tables.file_form import form_by_name, form_of
from ai.ml.core.tables.parquet_reader import read_parquet, stream_parquet

_SHOWN = 5


def read_folder(path: Path, options: CsvOptions) -> pa.Table:
    """All parts below a folder, in the order of their names, with a column for each `name=value` folder.

    Raises:
        DataNotFound: it holds no part.
        DataRefused: the parts are of several kinds or columns, or something else lies among them.
    """
    parts = _parts(path)
    if form_by_name(parts[0][0]) == "parquet":
        return read_parquet(path)
    tables = [read_csv(file, options) for _, file in parts]
    refuse_other_columns(path, [(name, table.column_names) for (name, _), table in zip(parts, tables, strict=True)])
    keys = partition_keys(name for name, _ in parts)
    tables = [_with_partition(table, name, keys) for (name, _), table in zip(parts, tables, strict=True)]
    names = tables[0].column_names
    return pa.concat_tables([_in_order(table, names) for table in tables])


def stream_folder(path: Path, options: CsvOptions, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The same in pieces, an empty one first; parts of other columns are refused when they are reached."""
    parts = _parts(path)
    if form_by_name(parts[0][0]) == "parquet":
        yield from stream_parquet(path, batch_rows)
        return
    keys = partition_keys(name for name, _ in parts)
    first: list[str] | None = None
    for name, file in parts:
        for batch in stream_csv(file, options):
            refuse_other_columns(path, [(parts[0][0], first or batch.schema.names), (name, batch.schema.names)])
            first = first or batch.schema.names
            table = _with_partition(pa.Table.from_batches([batch]), name, keys)
            ordered = _in_order(table, [*first, *(key for key in keys if key not in first)]).combine_chunks()
            yield from ordered.to_batches() if batch.num_rows else [_empty(ordered)]


def _empty(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=table.schema)


def _parts(path: Path) -> list[tuple[str, Path]]:
    """Names and files of parts that are all CSV or all Parquet, in order."""
    files = sorted(data_files(path), key=lambda file: PurePosixPath(file[0]))
    if not files:
        raise DataNotFound(f"{path} holds no .parquet file and no .csv file")
    forms: dict[str | None, list[str]] = {}
    for name, _ in files:
        forms.setdefault(form_by_name(name), []).append(name)
    others = [name for form, names in forms.items() if form not in ("csv", "parquet") for name in names]
    if others:
        more = ", …" if len(others) > _SHOWN else ""
        raise DataRefused(
            f"{path} holds files that are no parts ({', '.join(others[:_SHOWN])}{more}): expected .csv (also .gz) or "
            ".parquet; move them away, or let their names begin with _"
        )
    if len(forms) > 1:
        csv, parquet = forms["csv"], forms["parquet"]
        raise DataRefused(
            f"{path} holds parts of two kinds, such as {csv[0]} ({len(csv)} of .csv) and {parquet[0]} ({len(parquet)} "
            "of .parquet): keep one kind, move the others away, or let their names begin with _"
        )
    for _, file in files:
        form_of(file)
    return files


def _with_partition(table: pa.Table, name: str, keys: Sequence[str]) -> pa.Table:
    """With the columns that stand in folders' names; a column of the part's own goes before."""
    names = {column_name(own) for own in table.column_names}
    # Of two folders with one name the outer one counts.
    values = dict(reversed(partition_of(name)))
    for key in keys:
        if key not in names:
            cell = pa.scalar(values.get(key), pa.string())
            table = table.append_column(key, pa.repeat(cell, table.num_rows))
    return table


def _in_order(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The columns of another part's order, under its names."""
    places = {column_name(name): place for place, name in enumerate(table.column_names)}
    ordered = table.select([places[column_name(name)] for name in names])
    return ordered.rename_columns(list(names))
