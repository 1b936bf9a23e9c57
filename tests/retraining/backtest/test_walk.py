"""A whole backtest as plain functions, held against what its own bundles answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import mixed_table
from jsonschema import validate

from ai.ml.core.errors import NothingChecked
from ai.ml.core.tables.reader import read_table, write_table
from ai.ml.retraining.backtest.candidate import PROVED, failed_origin
from ai.ml.retraining.backtest.origins import cut_origins
from ai.ml.retraining.backtest.outcome import ALWAYS, BEST, NEVER, BacktestSummary, Course, show_backtest
from ai.ml.retraining.backtest.page import to_html
from ai.ml.retraining.backtest.walk import walk
from ai.ml.retraining.decision.evaluation import EvaluatedBundle
from ai.ml.retraining.decision.metrics import row_losses
from ai.ml.retraining.pipeline import backtest
from ai.ml.retraining.settings.backtest import BacktestConfig
from ai.ml.retraining.settings.load import load_config
from ai.ml.retraining.store.store import Store

ORIGINS = 3
POLICIES = ("better", "not-worse", "not-worse:90%")


def config_in(folder: Path, **more: Any) -> BacktestConfig:
    return load_config(
        BacktestConfig,
        None,
        {
            "name": "m",
            "store": str(folder / "store"),
            "data": {"source": str(folder / "table.parquet"), "target": "y"},
            "training": {"training_mode": "mlp_dense", "epochs": 12, "exclude_columns": ["signup"]},
            "backtest": {"origins": ORIGINS, "first": 0.3, "order_by": "signup", "policies": POLICIES},
        }
        | more,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("backtest")
    write_table(mixed_table(360, seed=2), found / "table.parquet")
    return found


@pytest.fixture(scope="module")
def summary(folder: Path) -> BacktestSummary:
    return backtest(config_in(folder))


@pytest.fixture
def messages() -> Iterator[list[str]]:
    found: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    listener, ours = Listener(), logging.getLogger("bundlegate")
    before = ours.level
    ours.addHandler(listener)
    ours.setLevel(logging.INFO)
    yield found
    ours.removeHandler(listener)
    ours.setLevel(before)


def course(summary: BacktestSummary, name: str) -> Course:
    return next(each for each in summary.courses if each.name == name)


def losses_of(summary: BacktestSummary, folder: Path) -> dict[tuple[int, int], np.ndarray]:
    """What each origin's bundle costs on the rows after each origin, by the files that lie there."""
    table = read_table(str(folder / "table.parquet"))
    when = table["signup"].to_numpy()
    limits = [np.datetime64(str(origin.instant)[:10]) for origin in summary.origins] + [np.datetime64("2999-01-01")]
    found: dict[tuple[int, int], np.ndarray] = {}
    for model in summary.origins:
        assert model.proved is not None
        bundle = EvaluatedBundle(Path(model.proved.candidate.bundle.path))
        for place, origin in enumerate(summary.origins):
            rows = np.flatnonzero((when >= limits[place]) & (when < limits[place + 1]))
            assert len(rows) == origin.later_rows
            found[model.origin, origin.origin] = row_losses(bundle.predictions(table.take(pa.array(rows))))
    return found


@pytest.mark.processor_seconds(40)
def test_every_origin_is_trained_on_the_rows_before_it_and_proved(folder: Path, summary: BacktestSummary) -> None:
    when = read_table(str(folder / "table.parquet"))["signup"].to_numpy()
    assert [origin.outcome for origin in summary.origins] == [PROVED] * ORIGINS
    for origin in summary.origins:
        assert origin.rows == (when < np.datetime64(str(origin.instant)[:10])).sum()
        assert origin.proved is not None
        trained = EvaluatedBundle(Path(origin.proved.candidate.bundle.path))
        assert trained.manifest.lineage["rows"] == origin.rows
        assert trained.digest == origin.digest
    assert len({origin.digest for origin in summary.origins}) == ORIGINS
    assert summary.exit_code == 0


def test_what_each_course_served_is_what_its_models_cost(folder: Path, summary: BacktestSummary) -> None:
    losses = losses_of(summary, folder)
    numbers = [origin.origin for origin in summary.origins]
    for each in summary.courses:
        served = [losses[night.serves, night.origin] for night in each.nights]
        assert each.loss == pytest.approx(np.concatenate(served).mean(), rel=1e-12)
        assert [night.loss for night in each.nights] == pytest.approx([part.mean() for part in served])
    assert [night.serves for night in course(summary, NEVER).nights] == [1] * ORIGINS
    assert [night.serves for night in course(summary, ALWAYS).nights] == numbers
    for night in course(summary, BEST).nights:
        means = {model: losses[model, night.origin].mean() for model in numbers if model <= night.origin}
        assert night.serves == min(means, key=lambda model: means[model])
    assert course(summary, BEST).loss <= min(each.loss for each in summary.courses) + 1e-12


def test_a_policy_serves_what_it_promoted_and_what_came_true_is_told_beside(
    folder: Path, summary: BacktestSummary
) -> None:
    losses = losses_of(summary, folder)
    for each in summary.policies:
        serves = 0
        for night in each.nights:
            before, serves = serves, night.origin if night.outcome == "PROMOTE" else serves
            assert night.serves == serves
            if before:
                assert night.came_true is not None
                truth = losses[before, night.origin].mean() - losses[night.origin, night.origin].mean()
                assert night.came_true.estimate == pytest.approx(truth)
                assert night.gain is not None
                assert night.learned_from == 0
        assert each.nights[0].outcome == "PROMOTE"
    # What is put up with decides: nine tenths of the champion's loss let everything through.
    assert [night.serves for night in course(summary, "not-worse:90%").nights] == [1, 2, 3]


def test_the_answer_is_one_sentence(summary: BacktestSummary) -> None:
    assert summary.sentence.startswith("m: would this pipeline have served better than never retraining (log_loss")
    for each in summary.policies:
        told = rf"[Ww]ith {re.escape(each.name)}, (yes|no|that can't be told): "
        assert re.search(told, summary.sentence), summary.sentence


def test_nothing_touches_the_models_own_store(folder: Path, summary: BacktestSummary) -> None:
    store = Store(folder / "store")
    assert store.champion("m") is None
    assert not store.history("m")
    assert {path.name for path in (folder / "store" / "m").iterdir()} == {"work"}


@pytest.mark.slow(14)
def test_run_again_nothing_is_trained_and_everything_is_the_same(
    folder: Path, summary: BacktestSummary, messages: list[str]
) -> None:
    assert summary.report is not None
    page = Path(summary.report.path).read_bytes()
    again = backtest(config_in(folder))
    assert not [text for text in messages if text.startswith("trained")]
    assert [origin.digest for origin in again.origins] == [origin.digest for origin in summary.origins]
    assert again.courses == summary.courses
    assert Path(summary.report.path).read_bytes() == page


def test_an_origin_without_a_challenger_leaves_the_champion_and_is_the_exit_code(
    folder: Path, summary: BacktestSummary
) -> None:
    config = config_in(folder)
    plan = cut_origins(config)
    origins = [summary.origins[0], failed_origin(plan.origins[1], 4, "a bad night"), summary.origins[2]]
    found = walk(config, plan, origins)
    assert found.exit_code == 4
    better = course(found, "better")
    assert (better.nights[1].outcome, better.nights[1].reason) == ("DATA", "no challenger: a bad night")
    assert (better.nights[1].serves, better.nights[1].came_true) == (1, None)
    assert [night.serves for night in course(found, ALWAYS).nights] == [1, 1, 3]
    with pytest.raises(NothingChecked, match="no origin of m has a proven model: DATA, a bad night"):
        walk(config, plan, [failed_origin(origin, 4, "a bad night") for origin in plan.origins])


def test_a_champion_grows_old_by_the_origins_own_dates(folder: Path, summary: BacktestSummary) -> None:
    config = config_in(folder, decision={"max_age": "30d", "tolerance": "90%", "margin": 100.0})
    found = walk(config, cut_origins(config), list(summary.origins))
    aged = course(found, "better")
    assert [night.outcome for night in aged.nights] == ["PROMOTE"] * ORIGINS
    assert "days old, so with max_age 30d what isn't worse was enough" in aged.nights[1].reason


def test_page_and_json_say_the_same_and_the_page_fetches_nothing(
    summary: BacktestSummary, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summary.report is not None
    page = Path(summary.report.path).read_text(encoding="utf-8")
    assert page == to_html(summary.model_copy(update={"report": None}))
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)
    assert "<script" not in page
    assert page.count("<figure") == 1 + len(POLICIES)
    for each in summary.courses:
        assert f'<span class="name">{each.name}</span>' in page
    plain = summary.model_dump(mode="json")
    validate(plain, BacktestSummary.model_json_schema(mode="serialization"))
    assert BacktestSummary.model_validate(plain) == summary
    show_backtest(summary)
    shown = capsys.readouterr().out
    assert summary.sentence in shown
    for name in (*POLICIES, NEVER, ALWAYS, BEST):
        assert name in shown


@pytest.mark.slow(10)
def test_values_are_measured_by_rmse(tmp_path: Path) -> None:
    write_table(mixed_table(300, seed=4, task="regression"), tmp_path / "table.parquet")
    some = {"training_mode": "mlp_dense", "epochs": 4}
    config = config_in(tmp_path, training=some, backtest={"origins": 2}, report={"enabled": False})
    found = backtest(config)
    assert (found.metric, found.report, found.order) == ("rmse", None, "by the order of the table")
    never = course(found, NEVER)
    first = found.origins[0].proved
    assert first is not None
    rows = read_table(str(tmp_path / "table.parquet")).slice(150)
    scored = EvaluatedBundle(Path(first.candidate.bundle.path)).predictions(rows)
    assert never.loss == pytest.approx(np.sqrt(((scored.answers - scored.truth) ** 2).mean()))
