from __future__ import annotations

import calendar
import datetime

import numpy as np
import pyarrow as pa
import pytest

from ai.ml.core.contract.dates import DATE_SUFFIXES, expand_dates, find_format, read_dates
from ai.ml.core.errors import DataRefused

DAY = datetime.date(2024, 2, 29)
LATE = datetime.datetime(2024, 2, 29, 23, 59)  # noqa: DTZ001 - a table's naive timestamps are meant


@pytest.mark.parametrize(
    ("column", "date_format"),
    [
        (pa.array([DAY, None]), "%Y-%m-%d"),
        (pa.array([DAY, None], pa.date64()), "%Y-%m-%d"),
        (pa.array([LATE, None], pa.timestamp("ns")), "%Y-%m-%d"),
        (pa.array([LATE, None], pa.timestamp("s")), "%Y-%m-%d"),
        (pa.array([LATE, None], pa.timestamp("us", "UTC")), "%Y-%m-%d"),
        (pa.array(["2024-02-29", "n/a"]), "%Y-%m-%d"),
        (pa.array([" 2024-02-29T23:00:00.5Z ", ""]), "%Y-%m-%d"),
        (pa.array(["2024-02-29 00:00:00+02:00", None]).dictionary_encode(), "%Y-%m-%d"),
        (pa.array(["29/02/2024", ""]), "%d/%m/%Y"),
        (pa.array(["2024-02-29", ""]), "%d/%m/%Y"),
        (pa.array(["20240229", ""]), "%Y%m%d"),
    ],
)
def test_one_day_in_every_form(column: pa.Array, date_format: str) -> None:
    days, unreadable = read_dates(column, date_format)
    assert days[0] == np.datetime64(DAY)
    assert np.isnat(days[1])
    assert not unreadable.any()


@pytest.mark.parametrize("text", ["2023-02-29", "2024-13-01", "2024-00-10", "soon", "2024-02-29x", "1/2/24"])
def test_what_is_no_date_is_unreadable(text: str) -> None:
    days, unreadable = read_dates(pa.array([text]))
    assert np.isnat(days[0])
    assert unreadable[0]


def test_expansion_agrees_with_the_standard_library() -> None:
    days = np.arange(np.datetime64("1960-01-01"), np.datetime64("2032-01-01"))
    parts = expand_dates("d", days)
    for place, day in enumerate(days.tolist()):
        expected = [
            day.year,
            day.month,
            day.day,
            day.weekday(),
            day.timetuple().tm_yday,
            day.isocalendar().week,
            day.day == 1,
            day.day == calendar.monthrange(day.year, day.month)[1],
        ]
        assert [parts["d" + suffix][place] for suffix in DATE_SUFFIXES[:8]] == expected, day
    assert np.allclose(parts["d_month_sin"] ** 2 + parts["d_month_cos"] ** 2, 1)


def test_a_missing_date_is_missing_in_every_part() -> None:
    parts = expand_dates("d", np.array(["NaT", "2024-02-29"], dtype="datetime64[D]"))
    assert list(parts) == ["d" + suffix for suffix in DATE_SUFFIXES]
    assert all(np.isnan(part[0]) and np.isfinite(part[1]) for part in parts.values())


@pytest.mark.parametrize(
    ("texts", "date_format"),
    [
        (["13/02/2020", "01/02/2020"], "%d/%m/%Y"),
        (["02/13/2020", "01/02/2020"], "%m/%d/%Y"),
        (["2020-01-31 10:00", "NA"], "%Y-%m-%d"),
        (["31.1.2020"], "%d.%m.%Y"),
        (["red", "12"], None),
    ],
)
def test_the_format_is_found(texts: list[str], date_format: str | None) -> None:
    assert find_format("d", pa.array(texts)) == date_format


def test_day_or_month_first_is_asked_for() -> None:
    with pytest.raises(DataRefused, match=r"'11/02/2020'.*--date-column 'd:%d/%m/%Y'"):
        find_format("d", pa.array(["11/02/2020", "01/02/2020"]))
