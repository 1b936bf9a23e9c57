"""Parquet: a file, or a folder of parts with or without partition folders (`country=NO/`)."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ai.ml.core.errors import DataNotFound, DataRefused, StorageFailed

_PAGES_BYTES = 1 << 20
"""Of a column, read at once from a file that is streamed."""
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def read_parquet(path: Path) -> pa.Table:
    """Read a file or folder whole, its parts in the order of their names; page checksums are verified.

    A single file's texts come as dictionaries.

    Raises:
        DataRefused: a part is damaged or no Parquet, or the parts' columns don't go together.
        DataNotFound: the folder holds no Parquet file.
    """
    with _sentences(path):
        data, names = _dataset(path)
        return _with_dictionaries(data).to_table(columns=names)


def stream_parquet(path: Path, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The same in pieces of at most `batch_rows` rows, an empty one first.

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
    # A dataset's scanner decodes a row group whole and, unless told otherwise, keeps every byte that it has read.
    with pq.ParquetFile(
        path,
        metadata=footer,
        read_dictionary=texts,
        page_checksum_verification=True,
        pre_buffer=False,
        buffer_size=_PAGES_BYTES,
    ) as file:
        schema = file.schema_arrow
        kept = [index for index, name in enumerate(schema.names) if not _PANDAS_INDEX.fullmatch(name)]
        batches = (batch.select(kept) for batch in file.iter_batches(batch_rows, use_threads=False))
        yield from _after_an_empty_one(pa.schema([schema.field(index) for index in kept]), batches)


def _after_an_empty_one(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_pylist([], schema=schema)
    yield from batches


def _dataset(path: Path) -> tuple[ds.Dataset, list[str]]:
    form = ds.ParquetFileFormat(
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=False)
    )
    if path.is_dir():
        files = parts(path)
        if not files:
            raise DataNotFound(f"{path} holds no .parquet file")
        layout = {
            "format": form,
            "partitioning": ds.HivePartitioning.discover(infer_dictionary=False),
            "partition_base_dir": str(path),
        }
        data = ds.dataset([str(file) for file in files], **layout)
        fragments = [fragment.physical_schema for fragment in data.get_fragments()]
        # A part whose column is all null or narrower must not decide the type.
        schema = pa.unify_schemas([*fragments, data.schema], promote_options="permissive")
        data = ds.dataset([str(file) for file in files], schema=schema, **layout)
    else:
        data = ds.dataset(str(path), format=form)
    return data, [name for name in data.schema.names if not _PANDAS_INDEX.fullmatch(name)]


def _with_dictionaries(data: ds.Dataset) -> ds.Dataset:
    """Texts as dictionaries, as they lie in the file: decoding and encoding them again costs more than reading."""
    texts = _texts(data.schema)
    if len(data.files) != 1 or not texts:
        return data
    form = ds.ParquetFileFormat(
        read_options=ds.ParquetReadOptions(dictionary_columns=texts),
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=False),
    )
    return ds.dataset(data.files, format=form)


def _texts(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if pa.types.is_string(field.type)]


def parts(folder: Path) -> list[Path]:
    """The Parquet files below a folder, by name; what starts with `_` or `.` isn't data."""
    found = (file for file in folder.rglob("*") if file.suffix.lower() in (".parquet", ".pq") and file.is_file())
    return sorted(file for file in found if not any(p[0] in "._" for p in file.relative_to(folder).parts))


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
