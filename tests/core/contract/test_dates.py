from __future__ import annotations

import calendar
import datetime

import numpy as np
import pyarrow as pa
import pytest

from ai.ml.core.contract import derive_contract
from ai.ml.core.contract.casting import Conformer
from ai.ml.core.contract.date_texts import find_format, known_ways
from ai.ml.core.contract.dates import DATE_SUFFIXES, expand_dates, read_dates
from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.types import TrainingConfig

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


DAYS = [datetime.date(2021, 1, 1) + datetime.timedelta(days=11 * row) for row in range(60)]


@pytest.mark.parametrize(
    "written",
    [
        *("%d-%b-%Y", "%d %B %Y", "%b %d, %Y", "%B %d %Y", "%a, %d %b %Y", "%d-%b-%y", "%d%b%Y", "%Y-%b-%d"),
        *("%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%m/%d/%Y %I:%M %p", "%d/%m/%Y %H:%M:%S", "%Y-%m-%dT%H:%M:%S+0200"),
        *("%m/%d/%Y, %I:%M:%S %p", "%d.%m.%Y %H:%M CEST", "%a %b %d %Y", "%Y-%m-%d %H:%M:%S (UTC)"),
    ],
)
def test_dates_as_people_write_them_are_read(written: str) -> None:
    texts = pa.array([day.strftime(written) for day in DAYS])
    if written.endswith("(UTC)"):
        texts = pa.array([day.strftime("%Y-%m-%d 10:00:00 UTC") for day in DAYS])
    found = find_format("d", texts)
    assert found is not None
    days, unreadable = read_dates(texts, found)
    assert days.tolist() == DAYS
    assert not unreadable.any()


def test_months_without_a_day_are_their_first_and_two_digits_have_a_century() -> None:
    for texts in (["2021-08", "2021-12"], ["Aug-2021", "Dec-2021"], ["August 2021", "December 2021"]):
        days, _ = read_dates(pa.array(texts), find_format("d", pa.array(texts)) or "")
        assert days.tolist() == [datetime.date(2021, 8, 1), datetime.date(2021, 12, 1)]
    days, _ = read_dates(pa.array(["31/12/68", "31/12/69"]), "%d/%m/%y")
    assert [day.year for day in days.tolist()] == [2068, 1969]


@pytest.mark.parametrize("text", ["31-Foo-2021", "31-Feb-2021", "Maybe 2021", "12:30", "Mon", "2021-8-16-3"])
def test_what_only_looks_like_a_date_is_none(text: str) -> None:
    assert find_format("d", pa.array([text])) is None


def test_a_mix_with_iso_dates_is_read_and_another_mix_is_said() -> None:
    mixed = [day.strftime("%d/%m/%Y" if row % 5 else "%Y-%m-%d") for row, day in enumerate(DAYS)]
    assert find_format("d", pa.array(mixed)) == "%d/%m/%Y"
    ways = [day.strftime("%d/%m/%Y" if row % 4 else "%d-%b-%Y") for row, day in enumerate(DAYS)]
    assert known_ways(pa.array(ways), 0.9) == ["%d/%m/%Y", "%d-%b-%Y"]
    table = pa.table({"d": ways * 2, "x": range(120), "y": ["a", "b"] * 60})
    (finding,) = (found for found in derive_contract(table, TrainingConfig("y")).findings if found.column == "d")
    assert "dates written in 2 ways (%d/%m/%Y, %d-%b-%Y)" in finding.message
    with pytest.raises(DataRefused, match=r"'d' holds dates written in 2 ways.*write them in one way"):
        derive_contract(table, TrainingConfig("y", date_columns=("d",)))


def dated(written: str) -> pa.Table:
    return pa.table({"d": [day.strftime(written) for day in DAYS], "y": ["a", "b"] * 30})


def test_month_first_is_never_read_day_first() -> None:
    with pytest.raises(DataRefused, match=r"no dates as %d/%m/%Y, all are as %m/%d/%Y: say --date-column 'd:%m/%d/%Y'"):
        derive_contract(dated("%m/%d/%Y"), TrainingConfig("y", date_columns=("d:%d/%m/%Y",)))
    told = TrainingConfig("y", date_columns=("d:%m/%d/%Y %I:%M %p",))
    contract = derive_contract(dated("%m/%d/%Y 10:05 PM"), told).contract
    assert contract.columns[0].date_format == "%m/%d/%Y"
    with pytest.raises(DataRefused, match=r"written as %m/%d/%Y at training.*all read as %d/%m/%Y"):
        Conformer(contract).table(dated("%d/%m/%Y"))
    assert Conformer(contract).table(dated("%Y-%m-%d")).counts.columns["d"].coerced == 0


def test_times_of_day_are_said_to_be_left_out() -> None:
    def said(column: pa.Array) -> list[str]:
        table = pa.table({"d": column, "y": ["a", "b"] * 30})
        findings = derive_contract(table, TrainingConfig("y", date_columns=("d",))).findings
        return [found.message for found in findings if found.kind == "times"]

    stamps = [datetime.datetime(day.year, day.month, day.day, 10, 5) for day in DAYS]  # noqa: DTZ001 - naive is meant
    for column in (
        pa.array(stamps),
        pa.array([str(stamp) for stamp in stamps]),
        pa.array(stamps, pa.timestamp("s", "UTC")),
    ):
        (message,) = said(column)
        assert "'d' has times of day, such as '2021-01-01" in message
    assert not said(pa.array([str(day) + " 00:00:00" for day in DAYS]))
    assert not said(pa.array(DAYS))


def test_a_format_is_a_year_a_month_and_at_most_a_day() -> None:
    for wrong in ("d:%d/%m", "d:%Y", "d:%Y-%m-%m", "d:%H:%M"):
        with pytest.raises(UsageError, match=r"a year \(%Y, %y\), a month \(%m, %b\)"):
            derive_contract(dated("%Y-%m-%d"), TrainingConfig("y", date_columns=(wrong,)))
