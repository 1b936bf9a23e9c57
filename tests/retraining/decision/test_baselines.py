"""The simpler models beside a candidate: their figures, what a run says of them, and what a policy makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import mixed_table
from prefect_cli import run_module
from sklearn import metrics as reference
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from ai.ml.core.tables.reader import write_table
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import Scorer
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.decision import baselines
from ai.ml.retraining.decision.baselines import Baseline, measure_baselines
from ai.ml.retraining.decision.decision import decide
from ai.ml.retraining.decision.predictions import Predictions
from ai.ml.retraining.settings.decision import DecisionSettings
from ai.ml.retraining.store.store import Store


def test_the_figures_are_those_of_scikit_learn_on_the_same_rows() -> None:
    table = mixed_table(600, seed=1)
    result = train(table, TrainingConfig("y", epochs=1))
    scorer = Scorer(result.bundle)
    linear, boosting = measure_baselines(scorer, table, result.train_rows, result.holdout_rows)

    y = np.array(table["y"].to_pylist())
    fit, held = (scorer.matrix(table.take(pa.array(rows))) for rows in (result.train_rows, result.holdout_rows))
    with threadpool_limits(1):
        logistic = LogisticRegression(max_iter=500).fit(scorer.scaled(fit), y[result.train_rows])
        trees = HistGradientBoostingClassifier(random_state=0).fit(fit, y[result.train_rows])
    truth = y[result.holdout_rows]
    assert linear.value == pytest.approx(reference.log_loss(truth, logistic.predict_proba(scorer.scaled(held))))
    assert boosting.value == pytest.approx(reference.log_loss(truth, trees.predict_proba(held)))
    own = scorer.score_table(table.take(pa.array(result.holdout_rows)))
    assert linear.candidate == pytest.approx(reference.log_loss(truth, scorer.probabilities(own.raw)))
    # One epoch is no training: both are ahead of it beyond the interval.
    for baseline in (linear, boosting):
        assert baseline.wins
        assert baseline.surely_wins
        assert baseline.gain == pytest.approx(baseline.value - baseline.candidate)
        assert baseline.low <= baseline.gain <= baseline.high < 0


def test_values_are_measured_by_rmse_and_a_good_candidate_beats_a_line() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (1_500, 2))
    table = pa.table({"a": x[:, 0], "b": x[:, 1], "y": np.sin(2 * x[:, 0]) * x[:, 1] + 0.1 * rng.normal(size=1_500)})
    result = train(table, TrainingConfig("y", "mlp_ple", "regression", epochs=60))
    ridge, boosting = measure_baselines(Scorer(result.bundle), table, result.train_rows, result.holdout_rows)
    assert (ridge.name, ridge.metric, boosting.metric) == ("ridge regression", "rmse", "rmse")
    assert ridge.value > 2 * ridge.candidate
    assert not ridge.wins
    assert ridge.low > 0


@pytest.mark.parametrize("unit", [1e-60, 1e100])
def test_the_unit_of_a_target_changes_nothing(unit: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (400, 2))
    y = np.sin(2 * x[:, 0]) * x[:, 1]
    found: list[list[Baseline]] = []
    for values in (y, y * unit):
        table = pa.table({"a": x[:, 0], "b": x[:, 1], "y": values})
        result = train(table, TrainingConfig("y", "linear_glm_baseline", "regression", epochs=1))
        found.append(measure_baselines(Scorer(result.bundle), table, result.train_rows, result.holdout_rows))
    for plain, other in zip(*found, strict=True):
        assert other.value / unit == pytest.approx(plain.value, rel=1e-6)


def test_a_class_that_no_training_row_has_costs_no_traceback() -> None:
    table = mixed_table(300, seed=2)
    result = train(table, TrainingConfig("y", epochs=1))
    only = np.flatnonzero(np.array(table["y"].to_pylist()) == "yes")
    found = measure_baselines(Scorer(result.bundle), table, only, result.holdout_rows)
    assert [baseline.name for baseline in found] == ["logistic regression", "gradient boosting"]
    assert all(baseline.value > 1 for baseline in found), "sure of one class, and wrong of the other"


def test_a_class_with_one_row_in_a_large_table_and_many_classes_cost_no_traceback() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=10_500)
    labels = np.where(x > 0, "yes", "no").astype(object)
    labels[:4] = ["rare", "rare", "few", "few"]
    table = pa.table({"x": x, "y": labels.tolist()})
    result = train(table, TrainingConfig("y", epochs=1, test_size=0.04))
    found = measure_baselines(Scorer(result.bundle), table, np.arange(1, 10_500), result.holdout_rows)
    assert [baseline.name for baseline in found] == ["logistic regression", "gradient boosting"]

    many = pa.table({"x": x[:1_000], "y": [f"class {index % 25}" for index in range(1_000)]})
    result = train(many, TrainingConfig("y", epochs=1))
    found = measure_baselines(Scorer(result.bundle), many, result.train_rows, result.holdout_rows)
    assert [baseline.name for baseline in found] == ["logistic regression"]


def test_a_wide_table_costs_no_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    real = baselines._fit_and_answer

    def fit(model: Any, parts: list[np.ndarray], *rest: Any) -> np.ndarray:
        seen.append(parts[0].shape)
        return real(model, parts, *rest)

    monkeypatch.setattr(baselines, "_fit_and_answer", fit)
    monkeypatch.setattr(baselines, "MAX_CELLS", 20_000)
    numbers = np.random.default_rng(0).normal(size=(60, 1_001))
    columns: dict[str, Any] = {f"c{place}": column for place, column in enumerate(numbers.T)}
    wide = pa.table(columns | {"y": ["a", "b", "c"] * 20})
    result = train(wide, TrainingConfig("y", "linear_glm_baseline", epochs=1))
    found = measure_baselines(Scorer(result.bundle), wide, result.train_rows, result.holdout_rows)
    assert [baseline.name for baseline in found] == ["logistic regression"], "3,003 trees' worth of features"
    assert seen == [(16, 1_001)], "48 rows, of which 19 have room"


def test_they_take_no_more_threads_than_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Watched(HistGradientBoostingClassifier):
        def fit(self, *args: Any, **kwargs: Any) -> Any:
            seen.extend(pool["num_threads"] for pool in threadpool_info())
            return super().fit(*args, **kwargs)

    monkeypatch.setattr(baselines, "HistGradientBoostingClassifier", Watched)
    table = mixed_table(120)
    result = train(table, TrainingConfig("y", "linear_glm_baseline", epochs=1))
    with threadpool_limits(3):
        for threads in (1, 2):
            measure_baselines(Scorer(result.bundle), table, result.train_rows, result.holdout_rows, threads=threads)
            assert set(seen) == {threads}
            seen.clear()
        assert 3 in {pool["num_threads"] for pool in threadpool_info()}, "the process keeps its own"


def test_a_tie_is_no_loss() -> None:
    assert not Baseline("ridge regression", "rmse", 1.0, 1.0, gain=0.0, low=-0.1, high=0.1).wins


def test_a_policy_holds_what_a_baseline_surely_beats() -> None:
    baseline = Baseline("ridge regression", "rmse", 1.0, 2.0, gain=-1.0, low=-1.2, high=-0.8)
    truth = np.arange(50.0)
    scored = Predictions("d", "regression", truth, truth + 0.1)
    held = decide(scored, None, DecisionSettings(baselines="hold"), better_baseline=baseline.sentence)
    assert held.outcome == "HOLD"
    assert held.reason == (
        "ridge regression does better on the same split, surely: rmse 1, the candidate has 2 (gain -1, -1.2 to -0.8)"
    )
    assert held.to_dict()["beaten_by"] == baseline.sentence
    assert decide(scored, None, DecisionSettings()).outcome == "PROMOTE"
    told = decide(scored, None, DecisionSettings(baselines="report"), better_baseline=baseline.sentence)
    assert told.outcome == "PROMOTE"
    assert told.reason.endswith(f"; but {baseline.sentence}"), "who asks why it is live sees the flag"
    assert told.to_dict()["beaten_by"] == baseline.sentence
    floors = DecisionSettings(baselines="hold", floors={"rmse": 0.01})
    rejected = decide(scored, None, floors, better_baseline=baseline.sentence)
    assert rejected.outcome == "REJECT", "a floor counts before a baseline"


@pytest.mark.slow
def test_the_console_holds_it_only_where_it_is_told_to(tmp_path: Path, warm_environment: dict[str, str]) -> None:
    source = tmp_path / "table.csv"
    write_table(mixed_table(600, seed=1), source)
    common = ["--name", "m", "--target", "y", "--store", str(tmp_path / "store"), "--data", str(source)]
    untrained = [*common, "--mode", "mlp_dense", "--epochs", "1", "--no-report", "--json"]

    held = run_module(warm_environment, "flows.retrain", *untrained, "--baselines", "hold")
    assert held.returncode == 3, held.stderr
    assert "does better on the same split, surely" in json.loads(held.stdout)["decision"]["reason"]
    assert Store(tmp_path / "store").champion("m") is None

    reported = run_module(warm_environment, "flows.retrain", *untrained)
    assert reported.returncode == 0, reported.stderr
    summary = json.loads(reported.stdout)
    assert summary["promotion"]["outcome"] == "PROMOTED"
    assert any("does better on the same split, surely" in finding for finding in summary["candidate"]["findings"])
    recorded = Store(tmp_path / "store").history("m")[-1].body["decision"]
    assert "does better on the same split, surely" in recorded["beaten_by"]
    assert len(summary["candidate"]["baselines"]) == 2
