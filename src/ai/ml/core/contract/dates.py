"""Dates: reading them, finding out how they are written, and the numbers that a date column becomes."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables.cells import MISSING_TOKENS, holds_texts, one_array

DATE_SUFFIXES = (
    "_year",
    "_month",
    "_day",
    "_weekday",
    "_dayofyear",
    "_isoweek",
    "_is_month_start",
    "_is_month_end",
    "_month_sin",
    "_month_cos",
    "_weekday_sin",
    "_weekday_cos",
    "_dayofyear_sin",
    "_dayofyear_cos",
)
"""A date column `d` leaves; `d_year` and the others come."""

ISO = "%Y-%m-%d"
DATE_FORMATS = (ISO, "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y")
"""What is tried; a time of day behind the date is allowed and left out."""

_PARTS = {"%Y": r"(?P<y>[0-9]{4})", "%m": r"(?P<m>[0-9]{1,2})", "%d": r"(?P<d>[0-9]{1,2})"}
_TIME = r"(?:[ T][0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?\s*(?:Z|UTC|[-+][0-9]{2}:?[0-9]{2})?)?"


def read_dates(values: pa.Array | pa.ChunkedArray, date_format: str = ISO) -> tuple[np.ndarray, np.ndarray]:
    """Days of a column of dates, timestamps or texts.

    Args:
        values: `(n_rows,)`; a timestamp with a time zone counts as the local date.
        date_format: how texts write a date; ISO is read as well.

    Returns:
        days: `(n_rows,)` datetime64[D], NaT where there is no date.
        unreadable: `(n_rows,)` bool: the cell has content that is no date.
    """
    array = one_array(values, decode=False)
    if pa.types.is_timestamp(array.type) and array.type.tz is not None:
        array = pc.local_timestamp(array)
    if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
        # Through microseconds at most: a floor to days that holds before 1970 too.
        stamps = array.to_numpy(zero_copy_only=False)
        return stamps.astype("datetime64[D]"), np.zeros(len(array), dtype=bool)
    if not holds_texts(array.type):
        if pa.types.is_null(array.type):
            return np.full(len(array), np.datetime64("NaT", "D"), "datetime64[D]"), np.zeros(len(array), dtype=bool)
        array = array.cast(pa.string())
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    texts = pc.utf8_trim_whitespace(encoded.dictionary)
    days, readable = _parse(texts, date_format)
    if date_format != ISO:
        iso_days, iso_readable = _parse(texts, ISO)
        days = np.where(readable, days, iso_days)
        readable = readable | iso_readable
    blank = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(sorted(MISSING_TOKENS))).to_numpy(zero_copy_only=False)
    # One more entry for code -1, a null.
    days = np.append(days, np.datetime64("NaT", "D"))
    unreadable = np.append(~readable & ~blank, False)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return days[codes], unreadable[codes]


def find_format(name: str, texts: pa.Array, *, enough: float = 0.9, flag: str = "--date-column") -> str | None:
    """How the texts of a column write dates; None if at least `enough` of them read in no known way.

    Raises:
        DataRefused: they read equally well with the day and with the month first.
    """
    trimmed = pc.utf8_trim_whitespace(texts)
    content = ~np.asarray(
        pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(sorted(MISSING_TOKENS))).to_numpy(zero_copy_only=False)
    )
    needed = max(1, int(np.ceil(enough * content.sum())))
    parsed = {date_format: _parse(trimmed, date_format) for date_format in DATE_FORMATS}
    best = max(parsed, key=lambda date_format: parsed[date_format][1].sum())
    days, readable = parsed[best]
    if readable.sum() < needed:
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


def is_date_format(date_format: str) -> bool:
    """Whether the format has a year, a month and a day, once each."""
    return sorted(re.findall("%.", date_format)) == ["%Y", "%d", "%m"]


def expand_dates(name: str, days: np.ndarray) -> dict[str, np.ndarray]:
    """The columns that stand for a date column, by name: `(n_rows,)` float64 each, NaN where the date is missing.

    Args:
        name: the column's own name.
        days: `(n_rows,)` datetime64[D].
    """
    known = ~np.isnat(days)
    day = np.where(known, days, np.datetime64(0, "D"))
    month_start = day.astype("datetime64[M]")
    year_start = day.astype("datetime64[Y]")
    year = year_start.astype(np.int64) + 1970
    month = month_start.astype(np.int64) % 12 + 1
    month_day = (day - month_start).astype(np.int64) + 1
    weekday = (day.astype(np.int64) + 3) % 7
    year_day = (day - year_start).astype(np.int64) + 1
    parts = [
        year,
        month,
        month_day,
        weekday,
        year_day,
        _iso_week(day, weekday),
        month_day == 1,
        (day + np.timedelta64(1, "D")).astype("datetime64[M]") != month_start,
    ]
    for value, start, period in ((month, 1, 12), (weekday, 0, 7), (year_day, 1, 366)):
        angle = 2 * np.pi * (value - start) / period
        parts += [np.sin(angle), np.cos(angle)]
    return {
        name + suffix: np.where(known, part.astype(np.float64), np.nan)
        for suffix, part in zip(DATE_SUFFIXES, parts, strict=True)
    }


def _iso_week(day: np.ndarray, weekday: np.ndarray) -> np.ndarray:
    """Week of the ISO year: the one that the week's Thursday lies in."""
    thursday = day + (3 - weekday)
    return (thursday - thursday.astype("datetime64[Y]")).astype(np.int64) // 7 + 1


def _parse(texts: pa.Array, date_format: str) -> tuple[np.ndarray, np.ndarray]:
    """`(n,)` datetime64[D] with NaT, and `(n,)` bool: reads as a date that exists."""
    pattern = re.sub(r"%[Ymd]|[^%]", lambda part: _PARTS.get(part[0]) or re.escape(part[0]), date_format)
    if "%m%d" in date_format:
        pattern = pattern.replace("{1,2}", "{2}")
    found = pc.extract_regex(texts, f"^{pattern}{_TIME}$")
    readable = found.is_valid().to_numpy(zero_copy_only=False)
    year, month, day = (_ints(pc.struct_field(found, part)) for part in "ymd")
    readable = readable & (month >= 1) & (month <= 12) & (day >= 1)
    start = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]") + (month - 1)
    days = start.astype("datetime64[D]") + (day - 1)
    readable = readable & (days.astype("datetime64[M]") == start)
    days[~readable] = np.datetime64("NaT", "D")
    return days, readable


def _ints(texts: pa.Array) -> np.ndarray:
    return texts.fill_null("0").cast(pa.int64()).to_numpy(zero_copy_only=False)
