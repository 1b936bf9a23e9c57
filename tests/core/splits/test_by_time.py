"""What is held out is newer than what is learned from, whatever the column holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.split_config import SplitConfig
from ai.ml.core.splits.by_time import TimedSides, sides_by_time
from ai.ml.core.splits.instants import read_instants

DAYS = np.datetime64("2026-01-01") + np.arange(20)


def by_time(cells: Any, share: float = 0.2, groups: Any = None, **asked: Any) -> TimedSides | None:
    times = read_instants(asked.setdefault("time", "t"), pa.chunked_array([pa.array(cells)]))
    known = None if groups is None else np.asarray(groups, dtype=np.uint64)
    return sides_by_time(times, SplitConfig("time", **asked), share, known)


def held(*arguments: Any, **asked: Any) -> list[int]:
    sides = by_time(*arguments, **asked)
    assert sides is not None
    assert not (sides.held & sides.learned).any()
    return np.flatnonzero(sides.held).tolist()


def test_the_newest_share_in_whatever_order_and_form() -> None:
    assert held(DAYS) == [16, 17, 18, 19]
    assert held(DAYS[::-1]) == [0, 1, 2, 3]
    assert held([str(day) for day in DAYS]) == [16, 17, 18, 19]
    assert held([day.item().strftime("%d/%m/%Y") for day in DAYS], time="t:%d/%m/%Y") == [16, 17, 18, 19]
    assert held(np.arange(2000, 2020)) == [16, 17, 18, 19]
    assert held([str(year) for year in range(2000, 2020)]) == [16, 17, 18, 19]


def test_rows_of_one_instant_stay_together() -> None:
    assert held(np.repeat(DAYS[:4], 5), 0.3) == list(range(10, 20)), "two days hold at least 30 %"
    assert held([2000] * 2 + [2001] * 18) == list(range(2, 20)), "never all of them"
    assert by_time([2000] * 20) is None


def test_times_of_day_and_zones_are_instants() -> None:
    texts = ["2026-01-01T12:00:00+05:00", "2026-01-01 06:59", "2026-01-01T08:00:00Z", "2026-01-01 09:00:00.5"]
    times = read_instants("t", pa.chunked_array([pa.array(texts)]))
    assert times.values.astype(str).tolist() == [
        "2026-01-01T07:00:00.000000",
        "2026-01-01T06:59:00.000000",
        "2026-01-01T08:00:00.000000",
        "2026-01-01T09:00:00.500000",
    ]
    typed = pa.array([0, 3_600], pa.int64()).cast(pa.timestamp("s", "Europe/Berlin"))
    assert read_instants("t", pa.chunked_array([typed])).values.astype("datetime64[s]").astype(int).tolist() == [
        0,
        3600,
    ]


def test_unknown_times_are_on_no_side() -> None:
    texts = [str(day) for day in DAYS]
    texts[3], texts[19] = "soon", ""
    sides = by_time([*texts[:18], None, texts[19]])
    assert sides is not None
    assert np.flatnonzero(~sides.held & ~sides.learned).tolist() == [3, 18, 19]
    assert np.flatnonzero(sides.held).tolist() == [14, 15, 16, 17], "a fifth of the known ones, and no fewer"
    times = read_instants("t", pa.chunked_array([pa.array([*texts[:18], None, texts[19]])]))
    assert times.unreadable == 1
    with pytest.raises(DataRefused, match="'red' and others are no dates or numbers"):
        by_time(["red", "green"] * 10)
    with pytest.raises(DataRefused, match=r"say which, as --time 't:%d/%m/%Y'"):
        by_time(["01/02/2026", "03/04/2026"] * 10)
    with pytest.raises(UsageError, match=r"--time 't:%d/%m': a format has a year \(%Y, %y\), a month"):
        by_time(["01/02/2026 10:00"] * 10, time="t:%d/%m")


def test_a_clock_of_twelve_hours_and_a_told_one_are_read() -> None:
    texts = ["8/16/2021 12:05 AM", "8/16/2021 1:05 PM", "8/16/2021 12:05 pm", "8/17/2021 12:00 a.m."]
    for entry in ("t", "t:%m/%d/%Y %I:%M %p"):
        times = read_instants(entry, pa.chunked_array([pa.array(texts)]))
        assert [str(value)[:16] for value in times.values] == [
            "2021-08-16T00:05", "2021-08-16T13:05", "2021-08-16T12:05", "2021-08-17T00:00",
        ]  # fmt: skip


def test_spans_dates_and_gaps() -> None:
    assert held(DAYS, holdout="3d") == [17, 18, 19], "the span ends with the newest row"
    assert held(DAYS, holdout="2026-01-19") == [18, 19]
    assert held(DAYS, holdout="2026-01-19T02:00+03:00") == [18, 19], "23:00 of the day before in UTC"
    assert held(DAYS, holdout="2026-01-19T00:00:00Z") == [18, 19]
    sides = by_time(DAYS, holdout="2d", gap="48h")
    assert sides is not None
    assert np.flatnonzero(sides.held).tolist() == [18, 19]
    assert np.flatnonzero(sides.learned).tolist() == list(range(17))[:16] + ([16] if sides.learned[16] else [])
    assert sides.learned_before == sides.cutoff - np.timedelta64(48, "h")
    with pytest.raises(UsageError, match="gap '1d' needs dates, and column 't' holds numbers"):
        by_time(np.arange(20), gap="1d")


def test_no_group_is_on_two_sides() -> None:
    groups = np.arange(20) % 6
    sides = by_time(DAYS, groups=groups)
    assert sides is not None
    assert np.flatnonzero(sides.held).tolist() == [16, 17, 18, 19]
    assert not set(groups[sides.learned]) & set(groups[sides.held])
    assert set(np.flatnonzero(sides.learned)) == {row for row in range(16) if row % 6 in (2, 3)}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"kind": "time"}, "a split by time needs the column: --time COLUMN"),
        ({"kind": "group"}, "a split by group needs the column: --group COLUMN"),
        ({"kind": "hash", "gap": "1d"}, "gap belongs to a split by time, this one is hash"),
        ({"kind": "random", "key": ("id",)}, "key belongs to a split by hash, this one is random"),
        ({"kind": "time", "time": "t", "gap": "soon"}, "gap 'soon' is no span"),
        ({"kind": "time", "time": "t", "holdout": "2026"}, "holdout '2026' is neither a span such as 14d nor a date"),
        ({"kind": "time", "time": "t", "holdout": "2026-13-01"}, "holdout '2026-13-01' is neither"),
        ({"kind": "time", "time": "t", "holdout": "9999-12-31T23:00-05:00"}, "is neither"),
        ({"kind": "time", "time": "t", "gap": "9" * 20 + "d"}, "d' is longer than any table: 365,000d at most"),
    ],
)
def test_settings_that_do_not_go_together(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        SplitConfig(**asked)


def test_columns_are_held_against_the_table() -> None:
    with pytest.raises(
        UsageError, match="the split goes by 'custmer', which isn't in the table; did you mean 'customer'"
    ):
        SplitConfig("hash", key=("custmer",)).check_columns(["customer", "y"], "y")
    with pytest.raises(UsageError, match="can't go by the target 'y'"):
        SplitConfig("group", group="y").check_columns(["customer", "y"], "y")
