"""CSV files: every cell as the text that the file holds."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv

from ai.ml.core.csv_format import PREFIX_BYTES, CsvFormat, detect_format
from ai.ml.core.errors import DataRefused, StorageFailed

_BLOCK_BYTES = 2 << 20
"""No single record may be longer. Arrow reads 32 blocks ahead, whatever it is told: they bound the memory."""


def read_csv(path: Path, delimiter: str | None = None, encoding: str | None = None) -> pa.Table:
    """Read a CSV file whole, all columns strings.

    Raises:
        DataRefused: it is empty, its records have different lengths, or its encoding can't be told.
    """
    with _sentences(path):
        batches = list(_batches(path, delimiter, encoding))
        return pa.Table.from_batches(batches[1:], schema=batches[0].schema)


def stream_csv(path: Path, delimiter: str | None = None, encoding: str | None = None) -> Iterator[pa.RecordBatch]:
    """The same in pieces, the first one without rows."""
    with _sentences(path):
        yield from _batches(path, delimiter, encoding)


def _batches(path: Path, delimiter: str | None, encoding: str | None) -> Iterator[pa.RecordBatch]:
    compressed = path.suffix.lower() == ".gz"
    prefix = _prefix(path, compressed)
    if not prefix.strip():
        raise DataRefused(f"{path.name} is empty")
    found = detect_format(
        prefix, where=path.name, encoding=encoding, delimiter=delimiter, is_whole=len(prefix) < PREFIX_BYTES
    )
    with _open(path, compressed) as stream:
        names = pcsv.open_csv(stream, **_settings(found, None)).schema.names
    with _open(path, compressed) as stream:
        reader = pcsv.open_csv(stream, **_settings(found, names))
        yield pa.RecordBatch.from_pylist([], schema=reader.schema)
        yield from reader


def _settings(found: CsvFormat, names: list[str] | None) -> dict[str, Any]:
    # `utf-8-sig` is Python's name; Arrow skips the mark by itself, and its own UTF-8 reader is far faster.
    encoding = "utf8" if found.encoding in ("utf-8", "utf-8-sig") else found.encoding
    return {
        "read_options": pcsv.ReadOptions(encoding=encoding, block_size=_BLOCK_BYTES, use_threads=False),
        "parse_options": pcsv.ParseOptions(
            delimiter=found.delimiter,
            quote_char=found.quote,
            newlines_in_values=True,
            # In a file of one column, a blank line is a missing cell.
            ignore_empty_lines=names is None or len(names) > 1,
        ),
        "convert_options": pcsv.ConvertOptions(
            column_types=dict.fromkeys(names or [], pa.string()), strings_can_be_null=False
        ),
    }


def _prefix(path: Path, compressed: bool) -> bytes:
    with _open(path, compressed) as stream:
        return bytes(stream.read(PREFIX_BYTES))


def _open(path: Path, compressed: bool) -> Any:
    if not compressed:
        return pa.OSFile(str(path), "rb")
    import gzip

    # Arrow's own decompressor takes a file that ends too soon for a whole one.
    return pa.PythonFile(gzip.open(path, "rb"), "r")


@contextmanager
def _sentences(path: Path) -> Generator[None]:
    import zlib

    try:
        yield
    except (pa.ArrowInvalid, UnicodeError) as error:
        text = str(error).splitlines()[0]
        if isinstance(error, UnicodeError) or "invalid UTF8" in text:
            raise DataRefused(f"{path.name}: its letters aren't all in one encoding; name it by --encoding") from None
        if "straddl" in text:
            text = f"a record is longer than {_BLOCK_BYTES >> 20} MiB, or a quote is never closed"
        raise DataRefused(f"{path.name} can't be read as CSV: {text}") from None
    except (EOFError, zlib.error) as error:
        raise DataRefused(f"{path.name}: the compressed file is cut off or damaged: {error}") from None
    except OSError as error:
        if type(error).__name__ == "BadGzipFile":
            raise DataRefused(f"{path.name}: not a gzip file: {error}") from None
        raise StorageFailed(f"reading {path} failed: {error.strerror or error}") from None
