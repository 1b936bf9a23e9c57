"""The one split of a training, through the trainer's own door."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import mixed_table
from table_forms import SOURCES, shop_table

from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.split_config import SplitConfig
from ai.ml.core.splits.rule import SplitRule
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.trainer.data.dataset import TrainingData
from ai.ml.frameworks.pytorch.trainer.data.prepare import prepare_dataset
from ai.ml.frameworks.pytorch.trainer.data.split import Split, split_rows


def posed(table: pa.Table, target: str = "y", *, test_size: float = 0.2, **split: Any) -> TrainingData:
    given = SplitConfig(**({"kind": "hash"} | split))
    return prepare_dataset(table, TrainingConfig(target, test_size=test_size, split=given), None)[0]


def splitted(table: pa.Table, target: str = "y", **asked: Any) -> Split:
    return posed(table, target, **asked).split


def held(table: pa.Table, target: str = "y", **asked: Any) -> np.ndarray:
    mask = np.zeros(table.num_rows, dtype=bool)
    mask[splitted(table, target, **asked).holdout_rows] = True
    return mask


def labels_of(table: pa.Table) -> np.ndarray:
    return np.array(table["y"].to_pylist())


def test_every_source_holds_out_the_same_rows(tmp_path: Path) -> None:
    table = shop_table(120)
    expected = held(table, "sold")
    assert 10 < expected.sum() < 40
    for source, via in SOURCES.items():
        assert held(via(table, tmp_path), "sold").tolist() == expected.tolist(), source


def test_a_row_stays_where_it_is_as_the_table_grows_shrinks_or_is_sorted() -> None:
    table = mixed_table(1_200)
    before = held(table)
    assert held(table.slice(0, 700)).tolist() == before[:700].tolist()
    order = np.random.default_rng(5).permutation(1_200)
    assert held(table.take(pa.array(order))).tolist() == before[order].tolist()
    other = ["no" if label == "yes" else "yes" for label in table["y"].to_pylist()]
    assert held(table.set_column(5, "y", pa.array(other))).tolist() == before.tolist()


def test_a_gained_column_moves_rows_by_their_cells_but_not_by_their_key() -> None:
    table = mixed_table(600).append_column("id", pa.array([f"row {number}" for number in range(600)]))
    grown = table.append_column("gained", pa.array(np.random.default_rng(1).random(600)))
    assert held(table, key=("id",)).tolist() == held(grown, key=("id",)).tolist()
    assert held(table).tolist() != held(grown).tolist()


def test_equal_rows_are_on_one_side_of_holdout_and_validation_and_it_is_said() -> None:
    table = mixed_table(300)
    four = pa.concat_tables([table] * 4)
    problem = posed(four)
    split = problem.split
    assert not set(split.train_rows % 300) & set(split.holdout_rows % 300)
    assert split.validation is not None
    fitting, watched = (split.train_rows[part] % 300 for part in split.validation)
    assert not set(fitting) & set(watched)
    assert any("900 of 1,200 rows repeat others" in finding.message for finding in split.findings)
    assert problem.features.scaled.shape[0] == len(split.train_rows)


def test_validation_is_a_part_of_the_training_rows_with_ten_at_least() -> None:
    for rows in (40, 120, 2_000):
        split = splitted(mixed_table(rows))
        assert split.validation is not None
        fitting, watched = split.validation
        assert sorted([*fitting, *watched]) == list(range(len(split.train_rows)))
        assert len(watched) >= 10
    assert len(splitted(mixed_table(2_000)).validation[1]) == pytest.approx(160, abs=50)  # pyright: ignore
    assert splitted(mixed_table(18)).validation is None
    with pytest.raises(DataRefused, match=r"validation_size=0\.99 leaves"):
        prepare_dataset(mixed_table(100), TrainingConfig("y", validation_size=0.99, split=SplitConfig("hash")), None)


def test_groups_stay_together_and_rows_without_one_go_alone() -> None:
    table = mixed_table(900)
    homes = [None if number % 9 == 0 else f"home {number // 3}" for number in range(900)]
    table = table.append_column("household_id", pa.array(homes))
    split = splitted(table, kind="group", group="household_id")
    sides = np.isin(np.arange(900), split.holdout_rows)
    for home in range(300):
        members = [number for number in range(3 * home, 3 * home + 3) if number % 9]
        assert len(set(sides[members])) == 1
    alone = np.arange(0, 900, 9)
    assert 5 < sides[alone].sum() < 40
    assert [finding.message for finding in split.findings] == [
        "100 of 900 rows have no 'household_id': split by their cells"
    ]
    assert any("--group 'household_id'" in finding.message for finding in splitted(table).findings)


def test_the_newest_rows_are_held_out_and_the_newest_of_the_rest_watched() -> None:
    table = mixed_table(500)
    split = splitted(table, kind="time", time="signup", gap="10d")
    days = table["signup"].to_numpy().astype("datetime64[D]")
    assert split.validation is not None
    fitting, watched = (days[split.train_rows[part]] for part in split.validation)
    cutoff = days[split.holdout_rows].min()
    assert days[split.train_rows].max() < cutoff - np.timedelta64(10, "D")
    assert fitting.max() < watched.min() - np.timedelta64(10, "D")
    assert len(split.holdout_rows) >= 100
    assert split.rule.learned_before == f"{cutoff - np.timedelta64(10, 'D')}T00:00:00.000000"
    said = split.findings[0].message
    assert said.startswith(f"held out are the {len(split.holdout_rows)} rows from signup {cutoff}T00:00:00")
    assert said.endswith("older ones within the gap or of groups that are held out are used by nobody")


@pytest.mark.parametrize(
    ("change", "asked", "error", "sentence"),
    [
        ({}, {"kind": "time", "time": "signp"}, UsageError, "'signp', which isn't in the table; did you mean 'signup'"),
        ({"signup": "2026-01-01"}, {"kind": "time", "time": "signup"}, DataRefused, "all rows are of one instant"),
        ({"when": None}, {"kind": "time", "time": "when"}, DataRefused, "no row has a time in 'when'"),
        ({}, {"kind": "time", "time": "signup", "holdout": "2099-01-01"}, DataRefused, "is as new as the holdout from"),
        ({}, {"kind": "time", "time": "signup", "holdout": "9999d"}, DataRefused, "0 rows before .* are left to learn"),
        ({"home": "same"}, {"kind": "group", "group": "home"}, DataRefused, "all 100 are the same in 'home'"),
    ],
)
def test_what_can_not_be_split_is_said(change: dict[str, Any], asked: Any, error: Any, sentence: str) -> None:
    table = mixed_table(100)
    for name, cell in change.items():
        table = table.drop_columns([name]) if name in table.column_names else table
        table = table.append_column(name, pa.array([cell] * 100, pa.string()))
    with pytest.raises(error, match=sentence):
        splitted(table, **asked)


def test_one_class_before_the_cutoff_is_nothing_to_learn() -> None:
    table = mixed_table(200)
    newest = table["signup"].to_numpy().argsort()[::-1][:35]
    labels = np.full(200, "no", dtype=object)
    labels[newest] = "yes"
    with pytest.raises(DataRefused, match="are of class 'no': nothing to tell apart"):
        splitted(table.set_column(5, "y", pa.array(labels.tolist())), kind="time", time="signup")


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"key": ("signup",)},
        {"kind": "group", "group": "city", "test_size": 0.4},
        {"kind": "time", "time": "signup", "gap": "3d"},
        {"test_size": 0.001},
        {"test_size": 0.999},
    ],
)
def test_the_rule_says_later_which_rows_were_learned_from(asked: dict[str, Any]) -> None:
    table = mixed_table(400)
    split = splitted(table, **asked)
    rule = SplitRule.from_json(split.rule.to_json())
    assert rule == split.rule
    learned = rule.may_have_learned(table)
    assert learned is not None
    assert np.flatnonzero(learned).tolist() == split.train_rows.tolist()
    fewer = [name for name in table.column_names if name not in ("signup", "city")]
    assert rule.may_have_learned(table.select(fewer)) is None, "its columns are gone"


def test_a_key_and_a_time_need_no_other_columns() -> None:
    table = mixed_table(200).append_column("id", pa.array(range(200)))
    for asked in ({"key": ("id",)}, {"kind": "time", "time": "signup"}):
        rule = splitted(table, **asked).rule
        known, later = rule.may_have_learned(table), rule.may_have_learned(table.select(["id", "signup"]))
        assert known is not None
        assert later is not None
        assert later.tolist() == known.tolist()


def test_a_time_column_and_the_order_of_the_rows_are_hinted_at() -> None:
    table = mixed_table(300)
    assert splitted(table).findings == ()
    order = table["signup"].to_numpy().argsort(kind="stable")
    said = [finding.message for finding in splitted(table.take(pa.array(order))).findings]
    sentence = "looks like the time of the rows: --time 'signup' holds out the newest ones, which is how the model will"
    assert said == [f"'signup' {sentence} be used"]
    renamed = table.rename_columns(["created_at" if name == "signup" else name for name in table.column_names])
    assert "--time 'created_at'" in splitted(renamed).findings[0].message


def test_a_random_split_has_no_rule_about_rows() -> None:
    rule = splitted(mixed_table(100), kind="random").rule
    assert rule.may_have_learned(mixed_table(100)) is None
    assert SplitRule.from_json(rule.to_json()) == rule


def test_a_million_rows_take_seconds_of_processor_at_most() -> None:
    rng = np.random.default_rng(0)
    numbers = {f"n{place}": rng.normal(size=1_000_000) for place in range(15)}
    texts = {f"c{place}": pa.array(rng.integers(0, 9, 1_000_000)).cast(pa.string()) for place in range(5)}
    table = pa.table(numbers | texts)
    rule = SplitRule("hash", 0.2, tuple(table.column_names))
    began = time.process_time()
    assert rule.may_have_learned(table) is not None
    # The aim is 1 s; more than one thread and a busy machine count here, too.
    assert time.process_time() - began < 4


def test_nested_cells_are_no_groups() -> None:
    table = mixed_table(100).append_column("tag_id", pa.array([[place % 30] for place in range(100)]))
    config = TrainingConfig("y", split=SplitConfig("hash"), exclude_columns=("tag_id",))
    assert prepare_dataset(table, config, None)[0].split.findings == ()


def test_that_early_stopping_has_no_rows_is_said() -> None:
    split = splitted(mixed_table(500), kind="time", time="signup", holdout="30d", gap="1000d")
    assert split.validation is None
    assert split.findings[1].message == (
        f"none of the {len(split.train_rows)} training rows are watched for early stopping: no part of them is newer "
        "than what would be left"
    )


@pytest.mark.parametrize("limit", ["2026-01-01T00:00:00.000000", "2026.0"])
def test_times_that_have_become_numbers_or_dates_are_refused(limit: str) -> None:
    rule = SplitRule("time", 0.2, ("x",), time="t", learned_before=limit)
    tables = [pa.table({"t": [2025, 2027]}), pa.table({"t": ["2025-12-31", "2026-02-01"]})]
    same, changed = tables if limit == "2026.0" else tables[::-1]
    learned = rule.may_have_learned(same)
    assert learned is not None
    assert learned.tolist() == [True, False]
    with pytest.raises(DataRefused, match=r"column 't' holds (dates|numbers) now and held (dates|numbers) at the"):
        rule.may_have_learned(changed)
    nothing = rule.may_have_learned(pa.table({"t": pa.nulls(2)}))
    assert nothing is not None
    assert not nothing.any()


@pytest.mark.parametrize("asked", [{"kind": "hash"}, {"kind": "time", "time": "signup"}])
def test_no_rows_are_one_sentence(asked: dict[str, Any]) -> None:
    table, contract = mixed_table(40), posed(mixed_table(40)).contract
    config = TrainingConfig("y", split=SplitConfig(**asked))
    with pytest.raises(DataRefused, match="the table has no rows to split"):
        split_rows(table.slice(0, 0), contract, np.array([], dtype=object), config)
