"""How a CSV file is written: encoding, delimiter and quotes, found from its first bytes."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from ai.ml.core.errors import DataRefused

DELIMITERS = (",", ";", "\t", "|")
PREFIX_BYTES = 1 << 20
"""What the detection looks at."""
_SAMPLED_RECORDS = 200
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
_CELL_ENDS = re.compile(rb"[,;\t|\r\n]")


@dataclass(frozen=True)
class CsvFormat:
    """How to read a CSV file."""

    encoding: str
    """A Python codec."""
    delimiter: str
    quote: str


def detect_format(
    prefix: bytes, *, where: str, encoding: str | None = None, delimiter: str | None = None, is_whole: bool = False
) -> CsvFormat:
    """Find out how a CSV file is written.

    Args:
        prefix: its first bytes, uncompressed.
        where: the file's name, for messages.
        encoding: said by the user; found if None.
        delimiter: the same.
        is_whole: the prefix is all there is.

    Raises:
        DataRefused: it isn't text, or not in the encoding that the user said.
    """
    encoding = _known_codec(encoding, where) if encoding else detect_encoding(prefix)
    text = _decode(prefix, encoding, where)
    if "\x00" in text:
        raise DataRefused(f"{where} holds zero bytes: it is no text file, or in an encoding to be named by --encoding")
    if not is_whole:
        # The last line may be cut.
        text = text[: text.rfind("\n") + 1] or text
    found = delimiter or _detect_delimiter(text)
    header = next(csv.reader(io.StringIO(text, newline=""), delimiter=found), [])
    single = bool(header) and all(len(name) > 1 and name[0] == name[-1] == "'" for name in header)
    return CsvFormat(encoding, found, "'" if single else '"')


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
    """The delimiter that cuts the most records into as many cells as the header; a comma if none cuts at all."""
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            widths = [len(record) for record, _ in zip(reader, range(_SAMPLED_RECORDS), strict=False) if record]
        except csv.Error:
            continue
        if not widths or widths[0] < 2:
            continue
        score = (Counter(widths)[widths[0]] / len(widths), widths[0])
        if score > best_score:
            best, best_score = delimiter, score
    return best
