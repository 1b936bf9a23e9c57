"""Cutting a table into segments: names, rows, what is refused, and what stays the same."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ai.ml.core.errors import SEVERITY, DataRefused, ExitCode, UsageError, worst_of
from ai.ml.core.tables.reader import read_table, write_table
from ai.ml.retraining.segments.cut import Segment, SegmentPlan, cut_table, segment_config
from ai.ml.retraining.settings.load import load_config
from ai.ml.retraining.settings.segment_names import LONGEST_BASE, segment_model
from ai.ml.retraining.settings.segments import SegmentsConfig
from ai.ml.retraining.store.location import checked_name

ODD = ["a/b", "🐟", "x" * 300, "..", "a b", "-1", "a.", "con", "1.5", "2024-01-01 10:00:00", "q-0123abcd", "0123abcd"]


def config(folder: Path, source: Path | str, **settings: Any) -> SegmentsConfig:
    given_ = {"min_rows": 1, **settings}
    data = {"source": str(source), "target": "y"}
    return SegmentsConfig.model_validate(
        {"name": "m", "store": str(folder / "store"), "data": data, "segments": given_}
    )


def plan_of(folder: Path, column: pa.Array | list[Any], **settings: Any) -> tuple[SegmentsConfig, SegmentPlan]:
    """The plan of a table with this column `c`, from a Parquet file."""
    values = column if isinstance(column, pa.Array) else pa.array(column)
    table = pa.table({"c": values, "x": list(range(len(values))), "y": ["a"] * len(values)})
    path = folder / "table.parquet"
    write_table(table, path)
    settings = settings if "named" in settings else {"column": "c", **settings}
    told = config(folder, path, **settings)
    return told, cut_table(told)


def by_label(plan: SegmentPlan) -> dict[str, Segment]:
    return {segment.label: segment for segment in plan.segments}


def numbers(segment: Segment) -> list[int]:
    assert segment.file is not None, segment.problem
    return read_table(segment.file.path)["x"].to_pylist()


texts = st.one_of(st.text(max_size=80), st.sampled_from(ODD), st.from_regex(r"[a-z]{1,3}-[0-9a-f]{8}", fullmatch=True))


@given(st.sets(texts, min_size=2, max_size=8), st.text("abcXYZ09", min_size=1, max_size=LONGEST_BASE))
def test_names_are_names_and_no_two_values_share_one(values: set[str], base: str) -> None:
    names = {value: segment_model(base, value) for value in values}
    names["\0nothing"] = segment_model(base, None)
    assert all(checked_name(name).startswith(f"{base}-") for name in names.values())
    folded: dict[str, str] = {}
    for value, name in names.items():
        other = folded.setdefault(name.casefold(), value)
        # Those that differ in case only are told apart by the plan, which trains one of them.
        assert other == value or other.casefold() == value.casefold()
    assert len(set(names.values())) == len(names)


def test_a_plain_value_stands_as_it_is_and_a_long_name_is_refused() -> None:
    assert [segment_model("m", text) for text in ("NO", "2024-01-01", "20240101", "a_b.c")] == [
        "m-NO",
        "m-2024-01-01",
        "m-20240101",
        "m-a_b.c",
    ]
    with pytest.raises(UsageError, match=f"{LONGEST_BASE} at most"):
        segment_model("m" * (LONGEST_BASE + 1), "NO")


def test_each_segment_has_its_rows_in_their_order_and_missing_ones_are_told(tmp_path: Path) -> None:
    column = ["NO", "SE", None, " NO ", "", "n/a", "SE"]
    _, plan = plan_of(tmp_path, column)
    assert {label: numbers(segment) for label, segment in by_label(plan).items()} == {
        "c = NO": [0, 3],
        "c = SE": [1, 6],
    }
    assert plan.left_out == ("3 rows without a value in 'c' are in no segment; --segment-missing makes one of them",)
    _, plan = plan_of(tmp_path, column, missing=True)
    assert numbers(by_label(plan)["c is missing"]) == [2, 4, 5]
    assert plan.left_out == ()


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ([*ODD, ODD[0]], {segment_model("m", value) for value in ODD}),
        (pa.array([1, 2, 1]), {"m-1", "m-2"}),
        (pa.array([1.0, 2.5, None]), {"m-1", "m-2.5"}),
        (pa.array([True, False, True]), {"m-True", "m-False"}),
        (pa.array([date(2024, 1, 1), date(2024, 1, 2), None]), {"m-2024-01-01", "m-2024-01-02"}),
        (pa.array(["1", "1.0", "01"]), {"m-1", "m-01"}),
        (pa.array(["a", "b", "a"]).dictionary_encode(), {"m-a", "m-b"}),
    ],
    ids=["odd texts", "numbers", "floats", "booleans", "dates", "texts of numbers", "dictionary"],
)
def test_any_kind_of_column_gives_files_of_its_own(tmp_path: Path, column: Any, names: set[str]) -> None:
    _, plan = plan_of(tmp_path, column)
    assert {segment.model for segment in plan.segments} == names
    assert sum(len(numbers(segment)) for segment in plan.segments) + column_nulls(column) == len(column)


def column_nulls(column: Any) -> int:
    return column.null_count if isinstance(column, pa.Array) else 0


def test_values_that_differ_in_case_only_are_one_model_and_said(tmp_path: Path) -> None:
    _, plan = plan_of(tmp_path, ["no", "NO", "NO", "SE", "No"])
    assert {label for label, segment in by_label(plan).items() if segment.problem is None} == {"c = NO", "c = SE"}
    assert "differs from m-NO's (c = NO) in case only" in (by_label(plan)["c = no"].problem or "")


def test_asked_for_values_are_values_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    _, plan = plan_of(tmp_path, ["NA", "NO", "SE", "NA"], values=("NA", "XX"))
    assert numbers(by_label(plan)["c = NA"]) == [0, 3]
    assert by_label(plan)["c = XX"].problem == "no row has c = XX"
    assert plan.left_out == ("2 rows have another 'c' (NO, SE), which wasn't asked for",)


def test_named_segments_may_overlap_and_keep_a_column_that_still_tells_something(tmp_path: Path) -> None:
    named = {"nordic": {"c": ["NO", "SE"]}, "norway": "c:NO"}
    told, plan = plan_of(tmp_path, ["NO", "SE", "DE", "NO"], named=named)
    nordic, norway = plan.segments
    assert (numbers(nordic), numbers(norway)) == ([0, 1, 3], [0, 3])
    assert (nordic.model, nordic.exclude, norway.exclude) == ("m-nordic", (), ("c",))
    assert plan.left_out == ("1 row is in no segment",)
    assert segment_config(told, plan, norway, None).training.exclude_columns == ("c",)


def test_few_rows_refuse_a_segment_and_many_values_refuse_the_run(tmp_path: Path) -> None:
    _, plan = plan_of(tmp_path, ["NO", "SE", "NO"], min_rows=2)
    assert by_label(plan)["c = SE"].problem == "1 row, and segments.min_rows asks for 2"
    with pytest.raises(DataRefused, match=r"'c' has 5 values \(0, 1, 2, 3, 4, …\).*max_segments allows 4"):
        plan_of(tmp_path, ["0", "1", "2", "3", "4"], max_segments=4)
    with pytest.raises(DataRefused, match="no row has a value in 'c'"):
        plan_of(tmp_path, pa.array([None, None, None], pa.string()))
    with pytest.raises(DataRefused, match="did you mean 'c'"):
        cut_table(config(tmp_path, tmp_path / "table.parquet", column="C"))


def test_a_changed_segment_leaves_the_bytes_of_the_others_and_old_files_go(tmp_path: Path) -> None:
    _, before = plan_of(tmp_path, ["NO", "SE", "NO", "DK"])
    _, after = plan_of(tmp_path, ["NO", "SE", "NO", "FI"])
    assert by_label(before)["c = NO"] == by_label(after)["c = NO"]
    kept = {path.name.partition(".")[0] for path in (tmp_path / "store/m/work/segments").glob("*.parquet")}
    assert kept == {"m-NO", "m-SE", "m-FI"}


def test_a_segments_settings_are_those_of_one_model_with_its_own_table(tmp_path: Path) -> None:
    told, plan = plan_of(tmp_path, ["NO", "SE", "NO"])
    told = told.model_copy(
        update={
            "data": told.data.model_copy(update={"decimal": ",", "delimiter": ";"}),
            "training": told.training.model_copy(update={"category_columns": ("c", "x"), "exclude_columns": ("y2",)}),
            "labels": {"ticket": "OPS-12"},
        }
    )
    own = segment_config(told, plan, by_label(plan)["c = NO"], "run")
    assert (own.name, own.data.decimal, own.data.delimiter) == ("m-NO", None, None)
    assert own.training.category_columns == ("x",)
    assert own.training.exclude_columns == ("y2", "c")
    labels = {"ticket": "OPS-12", "segment": "c = NO", "source": str(tmp_path / "table.parquet")}
    assert own.labels == {**labels, "parent_flow_run": "run"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"column": "y"}, "the segments' column is the target"),
        ({"column": "c", "named": {"a": "c:1"}}, "not both"),
        ({"values": ["NO"]}, "name the column too"),
        ({"named": {"a/b": "c:1"}}, "can't be called 'a/b'"),
        ({"named": {"a": "c"}}, "NAME=COLUMN:VALUE"),
        ({"named": {"a": {}}}, "at least one value"),
        ({"named": {"a": "c:1", "A": "c:2"}}, "case only"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], sentence: str) -> None:
    given_ = {"name": "m", "data": {"source": "t.csv", "target": "y"}, "segments": settings}
    with pytest.raises(UsageError, match=sentence):
        load_config(SegmentsConfig, None, given_)


def test_a_name_that_leaves_no_room_is_refused_before_anything_starts() -> None:
    data = {"source": "t.csv", "target": "y"}
    with pytest.raises((ValidationError, UsageError), match="characters"):
        load_config(SegmentsConfig, None, {"name": "m" * 60, "data": data, "segments": {"column": "c"}})
    assert not load_config(SegmentsConfig, None, {"name": "m" * 60, "data": data}).segments.wanted


def test_the_exit_code_of_many_is_the_worst() -> None:
    assert set(SEVERITY) == set(ExitCode)
    assert worst_of([]) == 0
    assert worst_of([0, 3, 0]) == 3
    assert worst_of([4, 75, 3, 0]) == 4
    assert worst_of([4, 1, 75]) == 1
    assert worst_of([1, 70, 6]) == 70
    assert worst_of([70, 130]) == 130
