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
from ai.ml.core.number_text import counted
from ai.ml.core.tables.cells import MISSING_TOKENS, column_name
from ai.ml.core.tables.csv.dialect import AS_FOUND, PREFIX_BYTES, CsvFormat, CsvOptions, detect_format
from ai.ml.core.tables.csv.preamble import without_lines
from ai.ml.core.tables.csv.quotes import QuoteAudit
from ai.ml.core.tables.csv.stream import open_audited, open_bytes
from ai.ml.core.tables.notes import say_note

_BLOCK_BYTES = 2 << 20
"""No single record may be longer. Arrow reads 32 blocks ahead, whatever it is told: they bound the memory."""
MIN_COLUMNS = 3
"""Of a table whose header is found again in other letters."""
_MISSING_SPELLINGS = sorted(
    "".join(letters) for token in MISSING_TOKENS for letters in product(*({letter, letter.upper()} for letter in token))
)


def read_csv(path: Path, options: CsvOptions = AS_FOUND) -> pa.Table:
    """Read a CSV file whole, all columns strings.

    Raises:
        DataRefused: it is empty, its records have different lengths, a quote is stray, or its encoding can't be told.
    """
    with _sentences(path) as hints:
        batches = list(_batches(path, options, hints))
        return pa.Table.from_batches(batches[1:], schema=batches[0].schema)


def stream_csv(path: Path, options: CsvOptions = AS_FOUND, numbers: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
    """Read a CSV file in pieces, the first one without rows.

    Columns in `numbers` come as float64 (null: missing) as long as Arrow reads each of their cells as
    `ai.ml.core.tables.cells` does; from the first cell on that it doesn't, they are strings like the others.
    """
    with _sentences(path) as hints:
        yield from _batches(path, options, hints, numbers)


def _batches(
    path: Path, options: CsvOptions, hints: list[str], numbers: Collection[str] = ()
) -> Iterator[pa.RecordBatch]:
    compressed = path.suffix.lower() == ".gz"
    prefix = _prefix(path, compressed, options.comment)
    if not prefix.strip():
        raise DataRefused(f"{path.name} is empty")
    found = detect_format(prefix, where=path.name, options=options, is_whole=len(prefix) < PREFIX_BYTES)
    hints.append(found.hint)
    header = _lone_header(prefix, found)
    if header is not None:
        yield pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(header), names=header)
        return
    with _stray_quotes_first(path, compressed, found), open_bytes(path, compressed, found.comment) as stream:
        names = pcsv.open_csv(stream, **_settings(found, None)).schema.names
    # A name that comes twice is refused by the caller; asking Arrow for it is an error.
    typed = frozenset(name for name in names if column_name(name) in numbers and names.count(name) == 1)
    rows = 0
    if typed:
        try:
            with _open_audited(path, compressed, found) as (stream, audit):
                for batch in _typed_batches(pcsv.open_csv(stream, **_settings(found, names, typed)), typed):
                    yield batch
                    rows += batch.num_rows
            _conclude(path, audit, names, rows, 0)
            return
        except (pa.ArrowInvalid, _OddNumber):
            pass
    with _stray_quotes_first(path, compressed, found):
        yield from _text_batches(path, compressed, found, names, rows)


def _text_batches(
    path: Path, compressed: bool, found: CsvFormat, names: list[str], done: int
) -> Iterator[pa.RecordBatch]:
    """All columns strings, without the first `done` rows."""
    rows, repeats = done, 0
    with _open_audited(path, compressed, found) as (stream, audit):
        reader = pcsv.open_csv(stream, **_settings(found, names))
        yield pa.RecordBatch.from_pylist([], schema=reader.schema)
        for batch in _after(done, reader):
            kept = _without_headers(batch)
            rows, repeats = rows + batch.num_rows, repeats + batch.num_rows - kept.num_rows
            yield kept
    _conclude(path, audit, names, rows, repeats)


@contextmanager
def _stray_quotes_first(path: Path, compressed: bool, found: CsvFormat) -> Generator[None]:
    """A stray quote explains what a parser stumbles over better than the parser, which may get there first."""
    try:
        yield
    except pa.ArrowInvalid:
        with _open_audited(path, compressed, found) as (stream, audit):
            while audit is not None and stream.read(_BLOCK_BYTES):
                pass
        raise


@contextmanager
def _open_audited(path: Path, compressed: bool, found: CsvFormat) -> Generator[tuple[Any, QuoteAudit | None]]:
    if found.quote is None:
        with open_bytes(path, compressed, found.comment) as stream:
            yield stream, None
        return
    delimiter, quote = found.delimiter.encode(), found.quote.encode()
    audit = QuoteAudit(path.name, delimiter, quote, found.shape, skip_lines=found.skip_lines)
    with open_audited(path, compressed, audit, found.encoding, found.comment) as stream:
        yield stream, audit


def _without_headers(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Without rows that repeat the header, as files have them that were joined end to end."""
    if batch.num_columns < 2 or not batch.num_rows:
        return batch
    # In a narrow table a row may be the header in other letters.
    letters = pc.utf8_lower if batch.num_columns >= MIN_COLUMNS else lambda cells: cells

    def are_name(cells: pa.Array, name: str) -> pa.Array:
        return pc.equal(letters(pc.utf8_trim_whitespace(cells)), letters(pa.scalar(column_name(name))))

    repeats = are_name(batch.column(0), batch.schema.names[0])
    if not pc.any(repeats).as_py():
        return batch
    for column, name in zip(batch.columns[1:], batch.schema.names[1:], strict=True):
        repeats = pc.and_(repeats, are_name(column, name))
    return batch.filter(pc.invert(repeats))


def _conclude(path: Path, audit: QuoteAudit | None, names: list[str], rows: int, repeats: int) -> None:
    """Compare the number of rows read with that of lines, and say what is unusual about the file.

    Raises:
        DataRefused: there are more or fewer rows than lines that hold one.
    """
    if repeats:
        say_note(f"{path.name}: {counted(repeats, 'line')} like the header left out")
    if audit is None:
        return
    audit.close()
    # In a file of one column, a blank line is a row.
    if len(names) > 1 and rows != audit.records - 1:
        raise DataRefused(
            f"{path.name}: {audit.records - 1:,} lines below the header hold rows, but {rows:,} rows were read: "
            "its quotes or line ends are ambiguous; write the file anew, or as Parquet"
        )
    if audit.broken_cells:
        lines, opened = audit.longest
        cells = counted(audit.broken_cells, "cell")
        say_note(f"{path.name}: {cells} hold line breaks; the longest has {lines:,} lines, from line {opened:,} on")


class _OddNumber(Exception):
    """A text such as `nan(1)`, which Arrow takes for a number and we don't."""


def _typed_batches(reader: Any, typed: frozenset[str]) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    for batch in reader:
        if any(pc.any(pc.is_nan(batch.column(name))).as_py() for name in typed):
            raise _OddNumber
        yield batch


def _after(rows: int, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches without their first `rows` rows."""
    for batch in batches:
        yield batch.slice(rows)
        rows = max(0, rows - batch.num_rows)


def _lone_header(prefix: bytes, found: CsvFormat) -> list[str] | None:
    """The names in a file that is one line without an end, which Arrow takes for no file at all."""
    text = "" if len(prefix) == PREFIX_BYTES else without_lines(prefix.decode(found.encoding), found.skip_lines)
    if not text or "\n" in text or "\r" in text:
        return None
    quoting = csv.QUOTE_NONE if found.quote is None else csv.QUOTE_MINIMAL
    return next(csv.reader([text], delimiter=found.delimiter, quotechar=found.quote, quoting=quoting))


def _settings(found: CsvFormat, names: list[str] | None, typed: frozenset[str] = frozenset()) -> dict[str, Any]:
    # `utf-8-sig` is Python's name; Arrow skips the mark by itself, and its own UTF-8 reader is far faster.
    encoding = "utf8" if found.encoding in ("utf-8", "utf-8-sig") else found.encoding
    return {
        "read_options": pcsv.ReadOptions(
            encoding=encoding, block_size=_BLOCK_BYTES, use_threads=False, skip_rows=found.skip_lines
        ),
        "parse_options": pcsv.ParseOptions(
            delimiter=found.delimiter,
            quote_char=found.quote or False,
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


def _prefix(path: Path, compressed: bool, comment: str | None) -> bytes:
    with open_bytes(path, compressed, (comment or "").encode()) as stream:
        return bytes(stream.read(PREFIX_BYTES))


@contextmanager
def _sentences(path: Path) -> Generator[list[str]]:
    """Errors as sentences; who reads leaves in the list what may explain them."""
    import zlib

    hints: list[str] = []
    try:
        yield hints
    except (pa.ArrowInvalid, UnicodeError) as error:
        text = str(error).splitlines()[0]
        if isinstance(error, UnicodeError) or "invalid UTF8" in text:
            raise DataRefused(f"{path.name}: its letters aren't all in one encoding; name it by --encoding") from None
        if "straddl" in text:
            text = f"a record is longer than {_BLOCK_BYTES >> 20} MiB, or a quote is never closed"
        more = f"; {hints[-1]}" if hints and hints[-1] else ""
        raise DataRefused(f"{path.name} can't be read as CSV: {text}{more}") from None
    except (EOFError, zlib.error) as error:
        raise DataRefused(f"{path.name}: the compressed file is cut off or damaged: {error}") from None
    except OSError as error:
        if type(error).__name__ == "BadGzipFile":
            raise DataRefused(f"{path.name}: not a gzip file: {error}") from None
        raise StorageFailed(f"reading {path} failed: {error.strerror or error}") from None
