"""How the past is cut: what each origin may know, and what came after it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ai.ml.core.errors import Busy, DataRefused, UsageError
from ai.ml.core.tables.reader import read_table, write_table
from ai.ml.retraining.backtest.origins import OriginPlan, cut_origins, locked_backtest, origin_config
from ai.ml.retraining.settings.backtest import BacktestConfig, with_policy
from ai.ml.retraining.settings.decision import DecisionSettings
from ai.ml.retraining.settings.load import load_config


def config_of(folder: Path, columns: dict[str, Any], **sections: Any) -> BacktestConfig:
    rows = len(next(iter(columns.values())))
    path = folder / "table.parquet"
    write_table(pa.table({"row": np.arange(rows), **columns, "y": np.arange(rows) % 2}), path)
    given = {"name": "m", "store": str(folder / "store"), "data": {"source": str(path), "target": "y"}}
    return load_config(BacktestConfig, None, given | sections)


def rows_of(plan: OriginPlan) -> list[tuple[list[int], list[int]]]:
    return [
        (read_table(origin.table.path)["row"].to_pylist(), read_table(origin.later.path)["row"].to_pylist())
        for origin in plan.origins
    ]


def test_growing_prefixes_and_the_rows_after_each_in_the_order_of_the_table(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"x": np.arange(100.0)}, backtest={"origins": 4, "first": 0.2})
    plan = cut_origins(config)
    limits = [20, 40, 60, 80, 100]
    assert rows_of(plan) == [(list(range(begin)), list(range(begin, end))) for begin, end in itertools.pairwise(limits)]
    assert [origin.label for origin in plan.origins] == [f"the first {rows} rows" for rows in limits[:-1]]
    assert (plan.rows, plan.order, plan.notes) == (100, "by the order of the table", ())


def test_by_time_nothing_of_the_future_is_known_and_rows_of_one_time_stay_together(tmp_path: Path) -> None:
    days = np.datetime64("2026-01-01") + np.random.default_rng(0).integers(0, 10, 200)
    texts = [None if row == 7 else str(day) for row, day in enumerate(days)]
    config = config_of(tmp_path, {"day": texts}, split={"time": "day"}, backtest={"origins": 3})
    plan = cut_origins(config)
    known = np.array([row != 7 for row in range(200)])
    assert plan.notes == ("1 row without a readable time in 'day' is left out",)
    seen: list[int] = []
    for origin, (before, after) in zip(plan.origins, rows_of(plan), strict=True):
        assert origin.instant is not None
        limit = np.datetime64(origin.instant)
        assert before == np.flatnonzero(known & (days < limit)).tolist()
        assert origin.label == f"before {limit.astype('datetime64[D]')}"
        seen = [*(seen or before), *after]
    assert sorted(seen) == np.flatnonzero(known).tolist()
    assert plan.order == "by day"


def test_numbers_order_rows_too_and_another_column_than_the_splits_may(tmp_path: Path) -> None:
    years = np.repeat([2020, 2021, 2022, 2023], 25)[::-1].copy()
    config = config_of(tmp_path, {"year": years}, backtest={"origins": 2, "order_by": "year"})
    plan = cut_origins(config)
    assert [origin.label for origin in plan.origins] == ["before 2022", "before 2023"]
    assert rows_of(plan)[0] == (list(range(50, 100)), list(range(25, 50)))
    assert [origin.instant for origin in plan.origins] == [None, None]


def test_fewer_origins_than_asked_for_are_said(tmp_path: Path) -> None:
    years = np.repeat([2020, 2021, 2022], 30)
    plan = cut_origins(config_of(tmp_path, {"year": years}, backtest={"origins": 6, "order_by": "year", "first": 0.4}))
    assert len(plan.origins) == 2
    assert plan.notes == ("4 origins fewer than asked for: rows of one time stay together",)


@pytest.mark.parametrize(
    ("sections", "error", "told"),
    [
        ({"backtest": {"order_by": "yeer"}}, UsageError, "'yeer', which isn't in the table"),
        ({"backtest": {"order_by": "same"}}, DataRefused, "too few different times"),
        ({"backtest": {"origins": 90, "first": 0.9}}, DataRefused, "can't be cut into 90 origins"),
    ],
)
def test_what_cannot_be_cut_is_one_sentence(
    tmp_path: Path, sections: dict[str, Any], error: type[Exception], told: str
) -> None:
    config = config_of(tmp_path, {"x": np.arange(60.0), "same": np.ones(60, dtype=np.int64)}, **sections)
    with pytest.raises(error, match=told):
        cut_origins(config)


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"backtest": {"policies": ["best"]}}, "policy 'best': expected better or not-worse"),
        ({"backtest": {"policies": ["not-worse:lots"]}}, "tolerance 'lots' is no number"),
        ({"backtest": {"policies": ["better:5%"]}}, "a margin is a number in the metric's units"),
        ({"backtest": {"policies": ["better", "better"]}}, "a policy is named twice"),
        ({"backtest": {"origins": 1}}, "backtest.origins = 1"),
        ({"training": {"teacher": "m@champion"}}, "backtest without one"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, sections: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        config_of(tmp_path, {"x": np.arange(60.0)}, **sections)


def test_a_policy_takes_its_own_margin_or_tolerance() -> None:
    given = DecisionSettings(margin=0.5, tolerance="3%", floors={"accuracy": 0.8})
    found = {text: with_policy(given, text) for text in ("better", "better:0.01", "not-worse", "not-worse:2%")}
    assert [(each.policy, each.margin, each.tolerance) for each in found.values()] == [
        ("better", 0.5, "3%"),
        ("better", 0.01, "3%"),
        ("not-worse", 0.5, "3%"),
        ("not-worse", 0.5, "2%"),
    ]
    assert all(each.floors == given.floors for each in found.values())


def test_an_origin_is_the_retraining_in_a_store_of_its_own_and_asks_nobody(tmp_path: Path) -> None:
    asked = {"approval": {"approve": "human"}, "drift": {"action": "refuse"}, "training": {"epochs": 7}}
    config = config_of(tmp_path, {"x": np.arange(100.0)}, **asked)
    (first, *_) = cut_origins(config).origins
    own = origin_config(config, first)
    assert (own.name, own.data.source, own.training.epochs) == ("origin-001", first.table.path, 7)
    assert own.store.startswith(str(tmp_path / "store" / "m" / "work" / "backtest"))
    assert (own.approval.approve, own.drift.action, own.report.enabled) == ("auto", "report", False)


def test_one_backtest_of_a_model_at_a_time(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"x": np.arange(100.0)})
    with locked_backtest(config), pytest.raises(Busy, match="the backtest of m"), locked_backtest(config):
        pass
