"""The instants of rows, from a column of times or of numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ai.ml.core.contract.casting import read_numbers
from ai.ml.core.contract.date_texts import ISO, find_format, is_date_format, without_time
from ai.ml.core.contract.dates import read_dates
from ai.ml.core.contract.kinds import NUMBER_SHARE
from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.tables.cells import holds_texts, one_array

_CLOCK = re.compile(
    r"[ T]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?\s*(?i:([ap])\.?m\.?)?\s*"
    r"(?:(Z|UTC|GMT)|(?:UTC|GMT)?([-+])([0-9]{2}):?([0-9]{2})?)?(?:\s*\([A-Za-z ]+\))?$"
)


@dataclass(frozen=True)
class Instants:
    """A column of times, or of numbers that count them."""

    values: np.ndarray
    """`(n_rows,)` datetime64[us] or float64; NaT or NaN where there is none."""
    unreadable: int
    """Cells with content that can't be read as a time."""

    @property
    def known(self) -> np.ndarray:
        """Which cells have a time, `(n_rows,)` bool."""
        return ~np.isnat(self.values) if self.are_dates else np.isfinite(self.values)

    @property
    def are_dates(self) -> bool:
        """Whether the values are dates and not numbers."""
        return self.values.dtype.kind == "M"


def read_instants(entry: str, values: pa.ChunkedArray) -> Instants:
    """Read the instant of each row.

    Dates and timestamps of any type, texts with a time of day or without; texts that are no dates but numbers, and
    numbers, count as they are (a year, a month of a study). With a zone, it is the instant in UTC; without, the clock
    as it stands.

    Args:
        entry: the column's name, with a format behind it where its texts need one: `day:%d/%m/%Y`.
        values: `(n_rows,)`.

    Raises:
        DataRefused: its cells are neither dates nor numbers, or read as dates in two ways.
        UsageError: the format isn't one of a date.
    """
    name, _, given = entry.partition(":%")
    if given and not is_date_format("%" + given):
        raise UsageError(
            f"--time {entry!r}: a format has a year (%Y, %y), a month (%m, %b) and at most one day (%d), as "
            f"'{name}:%d/%m/%Y'; a time of day behind the date is read without one"
        )
    array = one_array(values, decode=False)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        stamps = array.cast(pa.timestamp("us", getattr(array.type, "tz", None)), safe=False)
        return Instants(np.asarray(stamps.to_numpy(zero_copy_only=False)).astype("datetime64[us]"), 0)
    if holds_texts(array.type):
        found = (
            without_time("%" + given)
            if given
            else find_format(name, pc.drop_null(pc.unique(_decoded(array))), flag="--time")
        )
        if found is not None:
            return _from_texts(array, found)
    numbers, unreadable = read_numbers(array)
    if unreadable.sum() > (1 - NUMBER_SHARE) * (len(numbers) - array.null_count):
        example = array[int(np.flatnonzero(unreadable)[0])].as_py()
        raise DataRefused(f"column {name!r} can't order rows by time: {example!r} and others are no dates or numbers")
    return Instants(np.where(np.isfinite(numbers), numbers, np.nan), int((unreadable & np.isnan(numbers)).sum()))


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary if pa.types.is_dictionary(array.type) else array


def _from_texts(array: pa.Array, date_format: str) -> Instants:
    """Dates by their format, with the time of day behind them."""
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    days, unreadable = read_dates(encoded.dictionary, date_format or ISO)
    clocks = np.array([_clock(text) for text in encoded.dictionary.to_pylist()], dtype=np.int64)
    # One more entry for code -1, a null.
    distinct = np.append(days.astype("datetime64[us]") + clocks.astype("timedelta64[us]"), np.datetime64("NaT", "us"))
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return Instants(distinct[codes], int(np.append(unreadable, False)[codes].sum()))


def _clock(text: str) -> int:
    """Microseconds since the midnight of the day that is written, in UTC where there is a zone."""
    found = _CLOCK.search(text.strip())
    if found is None:
        return 0
    hours, minutes, seconds, fraction, half, _, sign, zone_hours, zone_minutes = found.groups()
    hour = int(hours) if half is None else int(hours) % 12 + 12 * (half in "Pp")
    micros = (hour * 3600 + int(minutes) * 60 + int(seconds or 0)) * 1_000_000
    micros += int((fraction or "0")[:6].ljust(6, "0"))
    offset = 0 if sign is None else (int(zone_hours) * 60 + int(zone_minutes or 0)) * 60_000_000
    return micros + (offset if sign == "-" else -offset)
