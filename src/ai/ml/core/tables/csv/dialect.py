"""How a CSV file is written: encoding, delimiter, quotes and what stands above its header, from its first bytes."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables.csv.preamble import hint, separator_line, without_lines
from ai.ml.core.tables.csv.quotes import REMEDY, RowShape
from ai.ml.core.tables.csv.stream import has_ascii_bytes

DELIMITERS = (",", ";", "\t", "|")
PREFIX_BYTES = 1 << 20
"""What the detection looks at."""
_SAMPLED_RECORDS = 200
_TITLED_SHARE = 0.8
"""Of the records, that are alike below lines that aren't part of the table."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LATIN = ("cp1252", "cp1250", "cp1254")
"""Western first: these differ in a few letters only, and a short text doesn't tell them apart."""
_FOREIGN_BYTES = 8
_FOREIGN_SHARE = 0.5
"""Of the letters, that aren't ASCII: more than in any text of Latin letters."""
_FOREIGN = ("cp1251", "cp1253", "koi8_r", "cp1255", "cp1256", "cp932", "gb18030", "cp949", "big5")
_JAPANESE = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"})
_OF_A_FAMILY = re.compile("-(sig|le|be)$")
_CELL_ENDS = re.compile(rb"[,;\t|\r\n]")


@dataclass(frozen=True)
class CsvOptions:
    """What a user says of a CSV file; the rest is found."""

    delimiter: str | None = None
    encoding: str | None = None
    quoted: bool = True
    """False: quotes are plain letters."""
    skip_lines: int = 0
    """Lines above the header."""
    comment: str | None = None
    """What lines begin with that are left out."""
    encoding_remembered: bool = False
    """The encoding was told at a training, not for this file."""


AS_FOUND = CsvOptions()


@dataclass(frozen=True)
class CsvFormat:
    """How to read a CSV file."""

    encoding: str
    """A Python codec."""
    delimiter: str
    quote: str | None
    """None: quotes are plain letters."""
    skip_lines: int
    """Lines above the header."""
    shape: RowShape
    """Of the first records."""
    comment: bytes
    """What lines begin with that aren't read; b"" for no line."""
    hint: str
    """Why the file may not be a table of equally long records; "" when unknown."""


def detect_format(prefix: bytes, *, where: str, options: CsvOptions = AS_FOUND, is_whole: bool = False) -> CsvFormat:
    """Find out how a CSV file is written.

    Args:
        prefix: its first bytes, uncompressed.
        where: the file's name, for messages.
        options: what the user says of it.
        is_whole: the prefix is all there is.

    Raises:
        DataRefused: it isn't text, or not in the encoding that the user said.
    """
    encoding = _known_codec(options.encoding, where) if options.encoding else detect_encoding(prefix)
    if options.encoding_remembered:
        _refuse_other_encoding(prefix, encoding, where)
    text = _decode(prefix, encoding, where)
    if "\x00" in text:
        raise DataRefused(f"{where} holds zero bytes: it is no text file, or in an encoding to be named by --encoding")
    if not is_whole:
        # The last line may be cut.
        text = text[: text.rfind("\n") + 1] or text
    skip_lines, named = options.skip_lines, separator_line(text)
    if named and not skip_lines and options.delimiter in (None, named):
        skip_lines, options = 1, replace(options, delimiter=named)
    text = without_lines(text, skip_lines)
    delimiter = options.delimiter or _detect_delimiter(text)
    records = _first_records(text, delimiter, options.quoted)
    if not records and text.strip():
        raise DataRefused(
            f"{where}: the header opens a quote that isn't closed within {csv.field_size_limit():,} letters; {REMEDY}"
        )
    quote = _quote(records[0] if records else []) if options.quoted else None
    shape = RowShape.of(records)
    comment = (options.comment or "").encode()
    if comment and not has_ascii_bytes(encoding):
        raise DataRefused(f"{where}: --comment can't be told of a file in {encoding}; write it as UTF-8")
    return CsvFormat(encoding, delimiter, quote, skip_lines, shape, comment, hint(text, delimiter, records))


def _refuse_other_encoding(prefix: bytes, remembered: str, where: str) -> None:
    """A file that is surely in another encoding than the training table's would be read as other letters."""
    found = detect_encoding(prefix)
    is_sure = any(prefix.startswith(mark) for mark, _ in _BOMS) or (found.startswith("utf") and not prefix.isascii())
    name = _OF_A_FAMILY.sub("", found)
    if is_sure and name != _OF_A_FAMILY.sub("", remembered):
        raise DataRefused(
            f"{where} is {name} text, and the training was told --encoding {remembered.removesuffix('-sig')}: "
            f"say --encoding {name} if this file is right"
        )


def _quote(header: list[str]) -> str:
    single = bool(header) and all(len(name) > 1 and name[0] == name[-1] == "'" for name in header)
    return "'" if single else '"'


def detect_encoding(prefix: bytes) -> str:
    """The codec of a text: by its byte order mark, UTF-8 if it is that, or else the likeliest one.

    Latin letters: Western European, unless that gives symbols where another one gives letters.
    """
    for mark, codec in _BOMS:
        if prefix.startswith(mark):
            return codec
    zeros = prefix[:2000].count(0)
    if zeros:
        return _unmarked_utf16(prefix, zeros)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(prefix)
        return "utf-8"
    except UnicodeDecodeError:
        pass
    # Only cells with other than ASCII letters say anything.
    telling = [cell for cell in _CELL_ENDS.split(prefix) if not cell.isascii()]
    sample = b"\n".join(telling)[: 1 << 16]
    letters = sum(byte > 127 or chr(byte).isalpha() for byte in sample)
    foreign = sum(byte > 127 for byte in sample)
    if foreign >= _FOREIGN_BYTES and foreign > _FOREIGN_SHARE * letters:
        return _foreign(sample)
    return min(_LATIN, key=lambda codec: _symbols_in_words(sample, codec))


def _foreign(sample: bytes) -> str:
    """The codec of a text whose letters are mostly not ASCII: Cyrillic, Greek, Chinese, …

    charset-normalizer's guesses at a short text are often equally good, or leave out the right one: the text with the
    fewest symbols, of one script and in sensible case, wins.
    """
    from charset_normalizer import from_bytes

    guesses = [match.encoding for match in from_bytes(sample) if not match.encoding.startswith("utf")]
    return min((*_FOREIGN, *guesses), key=lambda codec: _oddity(sample, codec))


def _oddity(sample: bytes, codec: str) -> tuple[int, int, int]:
    """Symbols where letters belong, scripts mixed, and how often the case jumps up inside a word."""
    text = sample.decode(codec, "replace")
    names = {unicodedata.name(letter, "UNKNOWN").split()[0] for letter in set(text) if ord(letter) > 127}
    jumps = sum(one.islower() and two.isupper() for one, two in itertools.pairwise(text))
    return _symbols_in_words(sample, codec), len(names - _JAPANESE) + bool(names & _JAPANESE), jumps


def _symbols_in_words(sample: bytes, codec: str) -> int:
    """Marks like £ or ³ where a letter belongs: the codec isn't the right one. Undefined bytes count as well."""
    return sum(ord(letter) > 127 and not letter.isalpha() for letter in sample.decode(codec, "replace"))


def _unmarked_utf16(prefix: bytes, zeros: int) -> str:
    if zeros * 4 < len(prefix[:2000]):
        return "utf-8"
    return "utf-16-le" if prefix[1::2][:1000].count(0) > prefix[0::2][:1000].count(0) else "utf-16-be"


def _known_codec(encoding: str, where: str) -> str:
    try:
        codec = codecs.lookup(encoding)
        # Python has codecs that make no text of bytes, such as `hex`.
        name = codec.name if codec._is_text_encoding else None
    except (LookupError, ValueError):
        name = None
    if name is None:
        raise DataRefused(f"{where}: unknown encoding {encoding!r}; try utf-8, cp1252, latin-1 or utf-16")
    return "utf-8-sig" if name == "utf-8" else name


def _decode(prefix: bytes, encoding: str, where: str) -> str:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(prefix).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataRefused(
            f"{where} isn't {encoding.removesuffix('-sig')}: byte {error.start} is 0x{prefix[error.start]:02x}; "
            "name its encoding by --encoding"
        ) from None


def _detect_delimiter(text: str) -> str:
    """The delimiter that cuts the most records into as many cells as the header; a comma if none cuts at all.

    Where none cuts the header, it may be a title above the table: then the one that cuts nearly all else alike.
    """
    best, best_score = ",", (False, 0.0, 0)
    for delimiter in DELIMITERS:
        widths = [len(record) for record in _first_records(text, delimiter)]
        if not widths:
            continue
        cuts = widths[0] > 1
        width = widths[0] if cuts else Counter(widths).most_common(1)[0][0]
        share = Counter(widths)[width] / len(widths)
        if width > 1 and (cuts or share >= _TITLED_SHARE) and (cuts, share, width) > best_score:
            best, best_score = delimiter, (cuts, share, width)
    return best


def _first_records(text: str, delimiter: str, quoted: bool = True) -> list[list[str]]:
    """Those that aren't blank, as far as Python's reader gets: it takes no cell of more than 128 KiB."""
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    records: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        records.extend(record for record in itertools.islice(reader, _SAMPLED_RECORDS) if record)
    return records
