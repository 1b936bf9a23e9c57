"""Tables as they really come, into Arrow: CSV, Parquet, Excel, SQL and what is in memory already.

A CSV cell stays the text that the file holds: what it means is decided once, by the contract, not by the file at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.files.atomic import write_atomic
from ai.ml.core.number_text import counted
from ai.ml.core.tables.cells import column_name
from ai.ml.core.tables.file_form import CSV_SUFFIXES, EXCEL_SUFFIXES, PARQUET_SUFFIXES, form_of
from ai.ml.core.tables.fingerprint import fingerprint
from ai.ml.core.tables.locations import is_bucket, is_database, is_url, source_name
from ai.ml.core.tables.notes import say_note
from ai.ml.core.tables.read_options import ReadOptions, with_reading
from ai.ml.core.tables.type_promotion import cells_array, plain_types

__all__ = ["ReadOptions", "fingerprint", "read_batches", "read_table", "rows_table", "write_table"]

DEFAULT_BATCH_ROWS = 65_536


def read_table(source: Any, options: ReadOptions | None = None) -> pa.Table:
    """Read a whole table.

    Args:
        source: path or `s3://` URL of a file, or of a folder of CSV or Parquet parts; database URL; pandas or polars
            frame; Arrow table or batch; list of dicts.
        options: how to read it.

    Returns:
        The columns in the source's order, outer blanks of their names gone. CSV columns are strings, blank cells "".

    Raises:
        DataNotFound: there is no such file, sheet or table.
        DataRefused: it can't be read as a table, or two columns have one name.
    """
    options = options or ReadOptions()
    _refuse_idle_options(source, options)
    table = _in_memory(source)
    if table is None:
        location = str(source)
        if is_bucket(location):
            from ai.ml.core.tables.bucket_copy import bucket_copy

            with bucket_copy(location) as path:
                table = _read_file(path, options)
        elif is_url(location):
            from ai.ml.core.tables.sql_reader import read_query, whole_table

            table = whole_table(list(read_query(location, options.query, DEFAULT_BATCH_ROWS)))
        else:
            table = _read_file(Path(source), options)
    return _finished(table, source_name(source), options, is_whole=True)


def read_batches(
    source: Any, options: ReadOptions | None = None, batch_rows: int = DEFAULT_BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Read a table piece by piece: the same rows as `read_table`, in order, at most `batch_rows` at a time.

    CSV, Parquet and SQL are streamed; Excel and what is in memory are cut up.

    Raises:
        DataNotFound: there is no such file, sheet or table.
        DataRefused: it can't be read as a table.
    """
    options = options or ReadOptions()
    if batch_rows < 1:
        raise UsageError(f"batch_rows must be at least 1, got {batch_rows}")
    _refuse_idle_options(source, options)
    location = str(source) if isinstance(source, str | Path) else ""
    for batch in _recut(_stream(source, location, options, batch_rows), batch_rows):
        table = _finished(pa.Table.from_batches([batch]), source_name(source), options)
        yield table.combine_chunks().to_batches()[0] if table.num_rows else batch


def _refuse_idle_options(source: Any, options: ReadOptions) -> None:
    """A filter that isn't applied, or a sheet that isn't looked for, would give other rows than were asked for."""
    location = str(source) if isinstance(source, str | Path) else ""
    if options.query and not is_database(location):
        raise UsageError(f"{source_name(source)} is no database, so --query does nothing; leave it out")
    if options.sheet and (is_database(location) or Path(location).suffix.lower() not in EXCEL_SUFFIXES):
        raise UsageError(f"{source_name(source)} is no workbook, so --sheet does nothing; leave it out")


def write_table(table: pa.Table, path: Path | str) -> None:
    """Write a table as Parquet (with page checksums), CSV or TSV, by the name's suffix; whole or not at all.

    Raises:
        UsageError: the suffix is none of these.
        StorageFailed: the disk refused.
        DataRefused: the format can't hold a column's type.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        write_atomic(path, lambda stream: pq.write_table(table, stream, write_page_checksum=True))
    elif suffix in CSV_SUFFIXES:
        plain = pa.table([_decoded(column) for column in table.columns], names=table.column_names)
        delimiter = "\t" if suffix in (".tsv", ".tab") else ","
        write_atomic(path, lambda stream: _write_csv(plain, stream, delimiter))
    else:
        raise UsageError(f"{path.name}: tables are written as .parquet, .csv or .tsv")


def rows_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as dicts as a table: a key that a row lacks is a null; cells of mixed types become texts."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {str(name): cells_array([row.get(name) for row in rows]) for name in names}
    return pa.table(columns) if columns else pa.table({"": pa.nulls(len(rows))}).select([])


def _write_csv(table: pa.Table, stream: BinaryIO, delimiter: str) -> None:
    try:
        pcsv.write_csv(table, stream, pcsv.WriteOptions(delimiter=delimiter))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataRefused(f"CSV can't hold this table: {error}") from None


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _in_memory(source: Any) -> pa.Table | None:
    """What is in memory as a table; None for a path or URL."""
    if isinstance(source, str | Path):
        return None
    if isinstance(source, pa.Table):
        return source
    if isinstance(source, pa.RecordBatch):
        return pa.Table.from_batches([source])
    package = type(source).__module__.partition(".")[0]
    if package == "pandas":
        return _from_pandas(source)
    if package == "polars":
        return source.collect().to_arrow() if hasattr(source, "collect") else source.to_arrow()
    if isinstance(source, Sequence) and all(isinstance(row, Mapping) for row in source):
        return rows_table(cast("Sequence[Mapping[str, Any]]", source))
    if hasattr(source, "__arrow_c_stream__"):
        return pa.table(source)
    raise UsageError(f"expected a path, a URL, a table, a frame or a list of dicts, got {type(source).__name__}")


def _from_pandas(frame: Any) -> pa.Table:
    frame = frame.reset_index(drop=True)
    frame.columns = [str(name) for name in frame.columns]
    _refuse_duplicates(list(frame.columns), "the table")
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    for name in frame.columns:
        try:
            columns[name] = pa.Array.from_pandas(frame[name])
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            # Objects of several types: their texts, which is what a CSV of this frame would hold.
            columns[name] = pa.Array.from_pandas(frame[name].astype("string"))
    return pa.table(columns)


def _read_file(path: Path, options: ReadOptions) -> pa.Table:
    match form_of(path):
        case "csv":
            from ai.ml.core.tables.csv.reader import read_csv

            return read_csv(path, options.csv)
        case "folder":
            from ai.ml.core.tables.folder_reader import read_folder

            return read_folder(path, options.csv)
        case "parquet":
            from ai.ml.core.tables.parquet_reader import read_parquet

            return read_parquet(path)
        case _:
            from ai.ml.core.tables.excel.reader import read_sheet

            return read_sheet(path, options.in_force.sheet, options.known_errors)


def _stream(source: Any, location: str, options: ReadOptions, batch_rows: int) -> Iterator[pa.RecordBatch]:
    table = _in_memory(source)
    if table is not None:
        yield from table.to_batches(batch_rows)
    elif is_bucket(location):
        from ai.ml.core.tables.bucket_copy import bucket_copy

        with bucket_copy(location) as path:
            yield from _stream_file(path, options, batch_rows)
    elif is_url(location):
        from ai.ml.core.tables.sql_reader import read_query

        yield from read_query(location, options.query, batch_rows)
    else:
        yield from _stream_file(Path(source), options, batch_rows)


def _stream_file(path: Path, options: ReadOptions, batch_rows: int) -> Iterable[pa.RecordBatch]:
    match form_of(path):
        case "csv":
            from ai.ml.core.tables.csv.reader import stream_csv

            # Marks of other lands are read from the text.
            return stream_csv(path, options.csv, options.numbers if options.marks.is_plain else ())
        case "folder":
            from ai.ml.core.tables.folder_reader import stream_folder

            return stream_folder(path, options.csv, batch_rows)
        case "parquet":
            from ai.ml.core.tables.parquet_reader import stream_parquet

            return stream_parquet(path, batch_rows)
        case _:
            return _read_file(path, options).to_batches(batch_rows)


def _finished(table: pa.Table, location: str, options: ReadOptions, *, is_whole: bool = False) -> pa.Table:
    """Names without outer blanks and a byte order mark, all different; numbers with the decimal mark of Python."""
    metadata = table.schema.metadata
    names = [column_name(name) for name in table.column_names]
    _refuse_duplicates(names, location)
    if names != table.column_names:
        table = table.rename_columns(names)
    if is_whole:
        _log_contradictions(table, options)
    table = options.marks.plain_table(plain_types(table))
    return with_reading(table.replace_schema_metadata(metadata), options.in_force)


def _log_contradictions(table: pa.Table, options: ReadOptions) -> None:
    for name, column in zip(table.column_names, table.columns, strict=True):
        cells, example = options.marks.contradictions(column)
        if cells:
            say_note(
                f"{name!r} has {counted(cells, 'cell')} with a decimal point, such as {example!r}, though --decimal "
                f"{options.marks.decimal} was told"
            )


def _refuse_duplicates(names: Sequence[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        shown = ", ".join(repr(name) if name else "'' (no name)" for name in twice)
        raise DataRefused(f"{where}: more than one column is called {shown}; rename or drop all but one")


def _recut(batches: Iterable[pa.RecordBatch], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in pieces of exactly `batch_rows`, the last one shorter; a schema's change ends a piece."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if waiting and waiting[0].schema != batch.schema:
            yield _joined(waiting)
            waiting, rows = [], 0
        start = 0
        while start < batch.num_rows:
            piece = batch.slice(start, batch_rows - rows)
            waiting.append(piece)
            start, rows = start + piece.num_rows, rows + piece.num_rows
            if rows == batch_rows:
                yield _joined(waiting)
                waiting, rows = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    # Each chunk may bring its own dictionary.
    return pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()[0]
