"""Parquet: a file, or a folder of parts with or without partition folders (`country=NO/`)."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from operator import and_
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs
import pyarrow.parquet as pq

from ai.ml.core.errors import DataNotFound, DataRefused, StorageFailed
from ai.ml.core.tables.dataset_files import PANDAS_INDEX, data_files, partition_of, refuse_other_columns

_PAGES_BYTES = 1 << 20
"""Of a column, read at once from a file that is streamed."""


def read_parquet(path: Path) -> pa.Table:
    """Read a file or folder whole, its parts in the order of their names; page checksums are verified.

    A single file's texts come as dictionaries.

    Raises:
        DataRefused: a part is damaged or no Parquet, or the parts' columns don't go together.
        DataNotFound: the folder holds no Parquet file.
    """
    with _sentences(path):
        data, names = _dataset(path)
        return (data if path.is_dir() else _with_dictionaries(data)).to_table(columns=names)


def stream_parquet(path: Path, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Read Parquet in pieces of at most `batch_rows` rows, an empty one first.

    A file's memory is that of a few pieces, however large the file and its row groups are.
    """
    with _sentences(path):
        if path.is_dir():
            data, names = _dataset(path)
            # Little read ahead: the default holds 16 batches of 4 files in memory.
            scanner = data.scanner(columns=names, batch_size=batch_rows, batch_readahead=2, fragment_readahead=1)
            yield from _after_an_empty_one(scanner.projected_schema, scanner.to_batches())
        else:
            yield from _stream_file(path, batch_rows)


def _stream_file(path: Path, batch_rows: int) -> Iterator[pa.RecordBatch]:
    footer = pq.read_metadata(path)
    texts = _texts(footer.schema.to_arrow_schema())
    # A dataset's scanner decodes a row group whole and, unless it is told otherwise, keeps every byte that it has read.
    with pq.ParquetFile(
        path,
        metadata=footer,
        read_dictionary=texts,
        page_checksum_verification=True,
        pre_buffer=False,
        buffer_size=_PAGES_BYTES,
    ) as file:
        schema = file.schema_arrow
        kept = [index for index, name in enumerate(schema.names) if not PANDAS_INDEX.fullmatch(name)]
        batches = (batch.select(kept) for batch in file.iter_batches(batch_rows, use_threads=False))
        yield from _after_an_empty_one(pa.schema([schema.field(index) for index in kept]), batches)


def _after_an_empty_one(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_pylist([], schema=schema)
    yield from batches


def _dataset(path: Path) -> tuple[ds.Dataset, list[str]]:
    form = ds.ParquetFileFormat(
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=False)
    )
    data = _folder(path, form) if path.is_dir() else ds.dataset(str(path), format=form)
    return data, [name for name in data.schema.names if not PANDAS_INDEX.fullmatch(name)]


def _folder(path: Path, form: ds.ParquetFileFormat) -> ds.Dataset:
    """All parts, with a text column for each of the folders' names: `zip=00501` is no number, here or in scoring."""
    files = [(name, file) for name, file in data_files(path) if file.suffix.lower() in (".parquet", ".pq")]
    if not files:
        raise DataNotFound(f"{path} holds no .parquet file")
    files.sort(key=lambda file: PurePosixPath(file[0]))
    system = fs.LocalFileSystem()
    schemas = [form.inspect(str(file), system) for _, file in files]
    folders = [partition_of(name) for name, _ in files]
    refuse_other_columns(path, [(name, schema.names) for (name, _), schema in zip(files, schemas, strict=True)])
    added = dict.fromkeys(name for columns in folders for name, _ in columns)
    # A column of the part's own goes before, as in scoring.
    texts = [pa.schema([(name, pa.string()) for name in added if any(name not in schema.names for schema in schemas)])]
    # A part whose column is all null or narrower must not decide the type.
    return ds.FileSystemDataset.from_paths(
        [str(file) for _, file in files],
        schema=pa.unify_schemas([*schemas, *texts], promote_options="permissive"),
        format=form,
        filesystem=system,
        partitions=[_cells_of(*pair) for pair in zip(folders, schemas, strict=True)],
    )


def _cells_of(columns: tuple[tuple[str, str | None], ...], schema: pa.Schema) -> ds.Expression:
    """A part's columns that stand in its folders' names, for Arrow; one without a value is null anyway."""
    # Of two folders with one name the outer one counts.
    cells = {name: text for name, text in reversed(columns) if name not in schema.names}
    conditions = [ds.field(name) == text for name, text in cells.items() if text is not None]
    return reduce(and_, conditions, ds.scalar(True))


def _with_dictionaries(data: ds.Dataset) -> ds.Dataset:
    """Texts as dictionaries, as they lie in the file: decoding and encoding them again costs more than reading."""
    texts = _texts(data.schema)
    if not texts:
        return data
    form = ds.ParquetFileFormat(
        read_options=ds.ParquetReadOptions(dictionary_columns=texts),
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=False),
    )
    return ds.dataset(data.files, format=form)


def _texts(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if pa.types.is_string(field.type)]


@contextmanager
def _sentences(path: Path) -> Generator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataRefused(f"{path.name} can't be read as Parquet: {str(error).splitlines()[0]}") from None
    except OSError as error:
        if isinstance(error, DataRefused):
            raise
        # Arrow reports damage (a checksum, a short page) as an OSError without a number.
        if error.errno is None:
            raise DataRefused(f"{path.name} is damaged: {str(error).splitlines()[0]}") from None
        raise StorageFailed(f"reading {path} failed: {error.strerror or error}") from None
