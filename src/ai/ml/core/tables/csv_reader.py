"""CSV files: every cell as the text that the file holds."""

from __future__ import annotations

import csv
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from ai.ml.core.errors import DataRefused, StorageFailed
from ai.ml.core.tables.cells import MISSING_TOKENS
from ai.ml.core.tables.csv_dialect import PREFIX_BYTES, CsvFormat, detect_format

_BLOCK_BYTES = 2 << 20
"""No single record may be longer. Arrow reads 32 blocks ahead, whatever it is told: they bound the memory."""
_MISSING_SPELLINGS = sorted(
    "".join(letters) for token in MISSING_TOKENS for letters in product(*({letter, letter.upper()} for letter in token))
)


def read_csv(path: Path, delimiter: str | None = None, encoding: str | None = None) -> pa.Table:
    """Read a CSV file whole, all columns strings.

    Raises:
        DataRefused: it is empty, its records have different lengths, or its encoding can't be told.
    """
    with _sentences(path):
        batches = list(_batches(path, delimiter, encoding))
        return pa.Table.from_batches(batches[1:], schema=batches[0].schema)


def stream_csv(
    path: Path, delimiter: str | None = None, encoding: str | None = None, numbers: Collection[str] = ()
) -> Iterator[pa.RecordBatch]:
    """The same in pieces, the first one without rows.

    Columns in `numbers` come as float64 (null: missing) as long as Arrow reads each of their cells as
    `ai.ml.core.tables.cells` does; from the first cell on that it doesn't, they are strings like the others.
    """
    with _sentences(path):
        yield from _batches(path, delimiter, encoding, numbers)


def _batches(
    path: Path, delimiter: str | None, encoding: str | None, numbers: Collection[str] = ()
) -> Iterator[pa.RecordBatch]:
    compressed = path.suffix.lower() == ".gz"
    prefix = _prefix(path, compressed)
    if not prefix.strip():
        raise DataRefused(f"{path.name} is empty")
    found = detect_format(
        prefix, where=path.name, encoding=encoding, delimiter=delimiter, is_whole=len(prefix) < PREFIX_BYTES
    )
    header = _lone_header(prefix, found)
    if header is not None:
        yield pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(header), names=header)
        return
    with _open(path, compressed) as stream:
        names = pcsv.open_csv(stream, **_settings(found, None)).schema.names
    plain = {name: name.removeprefix("\ufeff").strip() for name in names}
    # A name that comes twice is refused by who reads this; asking Arrow for it is an error.
    typed = frozenset(name for name in names if plain[name] in numbers and names.count(name) == 1)
    rows = 0
    if typed:
        try:
            with _open(path, compressed) as stream:
                for batch in _typed_batches(pcsv.open_csv(stream, **_settings(found, names, typed)), typed):
                    yield batch
                    rows += batch.num_rows
            return
        except (pa.ArrowInvalid, _OddNumber):
            pass
    with _open(path, compressed) as stream:
        reader = pcsv.open_csv(stream, **_settings(found, names))
        yield pa.RecordBatch.from_pylist([], schema=reader.schema)
        yield from _after(rows, reader)


class _OddNumber(Exception):
    """A text such as `nan(1)`, which Arrow takes for a number and we don't."""


def _typed_batches(reader: Any, typed: frozenset[str]) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    for batch in reader:
        if any(pc.any(pc.is_nan(batch.column(name))).as_py() for name in typed):
            raise _OddNumber
        yield batch


def _after(rows: int, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Without the first `rows` rows."""
    for batch in batches:
        yield batch.slice(rows)
        rows = max(0, rows - batch.num_rows)


def _lone_header(prefix: bytes, found: CsvFormat) -> list[str] | None:
    """The names in a file that is one line without an end, which Arrow takes for no file at all."""
    text = "" if len(prefix) == PREFIX_BYTES else prefix.decode(found.encoding)
    if not text or "\n" in text or "\r" in text:
        return None
    return next(csv.reader([text], delimiter=found.delimiter, quotechar=found.quote))


def _settings(found: CsvFormat, names: list[str] | None, typed: frozenset[str] = frozenset()) -> dict[str, Any]:
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
            column_types={name: pa.float64() if name in typed else pa.string() for name in names or []},
            strings_can_be_null=False,
            null_values=_MISSING_SPELLINGS if typed else None,
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
