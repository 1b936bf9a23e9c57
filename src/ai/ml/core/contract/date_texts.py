"""How texts write dates: the known ways, which of them a column uses, and the days that the texts mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables.cells import MISSING_TOKENS

ISO = "%Y-%m-%d"
DATE_FORMATS = (
    *(ISO, "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d"),
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d-%b-%Y", "%d %b %Y", "%d. %b %Y", "%b %d, %Y", "%b %d %Y", "%Y-%b-%d", "%d/%b/%Y", "%d%b%Y"),
    *("%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%m-%y", "%m-%d-%y", "%d-%b-%y", "%d %b %y", "%d%b%y"),
    *("%Y-%m", "%Y/%m", "%m/%Y", "%m.%Y", "%b-%Y", "%b %Y", "%b-%y", "%b %y"),
)
"""What is tried; a day of the week before the date and a time of day behind it are allowed and left out. Without a
day it is the month's first."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAME = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?"
)
_PARTS = {
    "%Y": r"(?P<y>[0-9]{4})",
    "%y": r"(?P<y>[0-9]{2})",
    "%m": r"(?P<m>[0-9]{1,2})",
    "%b": rf"(?P<b>(?i:{_NAME}))\.?",
    "%d": r"(?P<d>[0-9]{1,2})",
}
_WEEKDAY = r"(?:(?i:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+)?"
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?\s*(?i:[ap]\.?m\.?)?"
_ZONE = r"(?:Z|UTC|GMT|[A-Z]{3,4}|(?:UTC|GMT)?[-+][0-9]{2}:?(?:[0-9]{2})?)(?:\s*\([A-Za-z ]+\))?"
_TIME = rf"(?:(?:T|,?\s+){_CLOCK}\s*(?:{_ZONE})?)?"
_TOLD_TIME = re.compile(r"[ T,]*%[HI].*$")
_PIVOT = 69
"""Two digits from here on are of the 20th century, as POSIX has it."""
_SWAPPED = {"%d": "%m", "%m": "%d"}


def without_time(date_format: str) -> str:
    """A format's part for the date, in the words that are known here: times are allowed without being told.

    >>> without_time("%m/%d/%Y %I:%M %p"), without_time("%d %B %Y")
    ('%m/%d/%Y', '%d %b %Y')
    """
    return _TOLD_TIME.sub("", date_format).replace("%B", "%b")


def is_date_format(date_format: str) -> bool:
    """Whether a format has a year and a month, once each, at most one day, and nothing else but a time behind."""
    found = sorted(re.findall("%.", without_time(date_format)))
    return found in [
        sorted([*day, year, month]) for day in ([], ["%d"]) for year in ("%Y", "%y") for month in ("%m", "%b")
    ]


def swapped(date_format: str) -> str | None:
    """The format with month and day in each other's place; None where there is no such one."""
    if "%d" not in date_format or "%m" not in date_format:
        return None
    return re.sub("%[dm]", lambda part: _SWAPPED[part[0]], date_format)


def find_format(name: str, texts: pa.Array, *, enough: float = 0.9, flag: str = "--date-column") -> str | None:
    """How the texts of a column write dates; None if at least `enough` of them read in no known way.

    Texts in ISO's way among them are read as well.

    Raises:
        DataRefused: they read equally well with the day and with the month first.
    """
    trimmed = pc.utf8_trim_whitespace(texts)
    content = int(np.count_nonzero(_has_content(trimmed)))
    parsed = {date_format: parse(trimmed, date_format) for date_format in DATE_FORMATS}
    best = max(parsed, key=lambda date_format: parsed[date_format][1].sum())
    days, readable = parsed[best]
    if (readable | parsed[ISO][1]).sum() < max(1, int(np.ceil(enough * content))):
        return None
    for other, (other_days, other_readable) in parsed.items():
        if other == best or other_readable.sum() < readable.sum():
            continue
        if not np.array_equal(days[readable], other_days[readable]):
            example = trimmed[int(np.flatnonzero(readable & (days != other_days))[0])].as_py()
            raise DataRefused(
                f"column {name!r}: {example!r} and all the others read as dates both as {best} and as {other}; "
                f"say which, as {flag} '{name}:{best}', or write ISO dates"
            )
    return best


def known_ways(texts: pa.Array, enough: float) -> list[str]:
    """Several formats that read at least `enough` of the texts together, the most used first; empty if none do."""
    trimmed = pc.utf8_trim_whitespace(texts)
    left = _has_content(trimmed)
    content, ways = int(np.count_nonzero(left)), list[str]()
    parsed = {date_format: parse(trimmed, date_format)[1] for date_format in DATE_FORMATS}
    while left.any():
        best = max(parsed, key=lambda date_format: (parsed[date_format] & left).sum())
        if not (parsed[best] & left).any():
            break
        ways.append(best)
        left = left & ~parsed[best]
    return ways if content and np.count_nonzero(left) <= (1 - enough) * content else []


def have_times(texts: Sequence[str | None]) -> str | None:
    """A text with a time of day other than midnight; None where there is none."""
    clock = re.compile(rf"[T\s]({_CLOCK})")
    midnight = re.compile(r"(?:00?:00(?::00(?:[.,]0+)?)?|12:00(?::00)?\s*(?i:a\.?m\.?))\s*")
    for text in texts:
        found = clock.search(text or "")
        if found and not midnight.fullmatch(found[1]):
            return text
    return None


def _has_content(trimmed: pa.Array) -> np.ndarray:
    missing = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(sorted(MISSING_TOKENS)))
    return ~np.asarray(missing.to_numpy(zero_copy_only=False), dtype=bool)


def parse(texts: pa.Array, date_format: str) -> tuple[np.ndarray, np.ndarray]:
    """`(n,)` datetime64[D] with NaT, and `(n,)` bool: reads as a date that exists."""
    pattern = re.sub(r"%[Yymbd]|[^%]", lambda part: _PARTS.get(part[0]) or re.escape(part[0]), date_format)
    if "%m%d" in date_format or "%d%b" in date_format:
        pattern = pattern.replace("{1,2}", "{2}")
    found = pc.extract_regex(texts, f"^{_WEEKDAY}{pattern}{_TIME}$")
    readable = np.asarray(found.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    year = _ints(pc.struct_field(found, "y"))
    if "%y" in date_format:
        year = year + np.where(year < _PIVOT, 2000, 1900)
    month = _month_numbers(pc.struct_field(found, "b")) if "%b" in date_format else _ints(pc.struct_field(found, "m"))
    day = _ints(pc.struct_field(found, "d")) if "%d" in date_format else np.ones(len(texts), dtype=np.int64)
    readable = readable & (month >= 1) & (month <= 12) & (day >= 1)
    start = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]") + (month - 1)
    days = start.astype("datetime64[D]") + (day - 1)
    readable = readable & (days.astype("datetime64[M]") == start)
    days[~readable] = np.datetime64("NaT", "D")
    return days, readable


def _month_numbers(names: pa.Array) -> np.ndarray:
    short = pc.utf8_slice_codeunits(pc.utf8_lower(names.fill_null("")), 0, 3)
    return pc.index_in(short, value_set=pa.array(_MONTHS)).fill_null(-1).cast(pa.int64()).to_numpy() + 1


def _ints(texts: pa.Array) -> np.ndarray:
    return texts.fill_null("0").cast(pa.int64()).to_numpy(zero_copy_only=False)
