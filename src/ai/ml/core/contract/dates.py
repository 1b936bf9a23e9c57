"""Dates: the days that cells mean, and the numbers that a date column becomes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ai.ml.core.contract.date_texts import ISO, parse, swapped
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
    days, readable = parse(texts, date_format)
    if date_format != ISO:
        iso_days, iso_readable = parse(texts, ISO)
        days = np.where(readable, days, iso_days)
        readable = readable | iso_readable
    blank = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(sorted(MISSING_TOKENS))).to_numpy(zero_copy_only=False)
    # One more entry for code -1, a null.
    days = np.append(days, np.datetime64("NaT", "D"))
    unreadable = np.append(~readable & ~blank, False)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return days[codes], unreadable[codes]


def other_order(array: pa.Array, date_format: str) -> str | None:
    """The format with day and month in each other's place, where every cell reads as a date by it; else None."""
    other = swapped(date_format)
    return None if other is None or read_dates(array, other)[1].any() else other


def has_times(array: pa.Array) -> str | None:
    """A timestamp of a typed column with a time of day other than midnight; None where there is none."""
    if not pa.types.is_timestamp(array.type):
        return None
    local = pc.local_timestamp(array) if array.type.tz is not None else array
    stamps = local.to_numpy(zero_copy_only=False)
    timed = np.flatnonzero((stamps != stamps.astype("datetime64[D]")) & ~np.isnat(stamps))
    return str(stamps[timed[0]].astype("datetime64[s]")) if len(timed) else None


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
