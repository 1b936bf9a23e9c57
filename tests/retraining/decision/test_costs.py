"""A decision by what mistakes cost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from builders import mixed_table
from pydantic import ValidationError

from ai.ml.core.errors import UsageError
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.decision.costs import answer_costs, cost_matrix
from ai.ml.retraining.decision.decision import decide
from ai.ml.retraining.decision.metrics import gains, measure
from ai.ml.retraining.decision.predictions import Predictions
from ai.ml.retraining.settings.decision import DecisionSettings

ROWS = 4_000
COSTS = {"ill:well": 20.0}
POLICY = DecisionSettings(metric="cost", costs=COSTS, resamples=500)


def screening(threshold: float) -> Predictions:
    """One row in ten is ill; a lower threshold calls more rows ill, on the same noisy score."""
    generator = np.random.default_rng(3)
    truth = (generator.random(ROWS) > 0.1).astype(np.int64)
    score = np.clip(0.5 - 0.3 * (truth - 0.5) + generator.normal(0, 0.2, ROWS), 0.001, 0.999)
    ill = np.clip(score - threshold + 0.5, 0.001, 0.999)
    answers = np.stack([ill, 1 - ill], axis=1)
    return Predictions(f"t{threshold}", "classification", truth, answers, classes=("ill", "well"))


def test_each_row_costs_what_its_pair_of_classes_does() -> None:
    scored = screening(0.5)
    predicted = scored.answers.argmax(axis=1)
    missed, false_alarms = ((scored.truth == 0) & (predicted == 1)), ((scored.truth == 1) & (predicted == 0))
    expected = (20 * missed.sum() + false_alarms.sum()) / ROWS
    assert measure(scored, POLICY)["cost"] == pytest.approx(expected)
    assert "cost" not in measure(scored)


def test_what_costs_less_wins_though_it_is_less_accurate() -> None:
    careful, usual = screening(0.4), screening(0.6)
    assert measure(careful)["accuracy"] < measure(usual)["accuracy"]
    decision = decide(careful, usual, POLICY)
    assert (decision.outcome, decision.metric) == ("PROMOTE", "cost")
    assert decide(careful, usual, DecisionSettings(metric="accuracy", resamples=500)).outcome == "HOLD"
    (gain,) = gains(careful, usual, POLICY, ["cost"]).values()
    difference = answer_costs(usual, COSTS).mean() - answer_costs(careful, COSTS).mean()
    assert gain.estimate == pytest.approx(difference)
    assert gain.low < difference < gain.high


def test_costs_are_shown_and_limited_whatever_decides() -> None:
    policy = DecisionSettings(costs=COSTS, floors={"cost": 0.1}, resamples=500)
    decision = decide(screening(0.6), None, policy)
    assert decision.metric == "log_loss"
    assert (decision.outcome, decision.reason.startswith("cost is ")) == ("REJECT", True)
    assert "above the limit of 0.1" in decision.reason


def test_a_right_answer_may_earn_and_a_class_may_hold_colons() -> None:
    matrix = cost_matrix({"a:b:c": 5, "c:c": -2, "b:c:c": 0.5}, ["a", "b:c", "c"])
    assert matrix.tolist() == [[0, 5, 1], [1, 0, 0.5], [1, 1, -2]]
    unknown = Predictions("d", "classification", np.array([-1]), np.array([[0.1, 0.2, 0.7]]), classes=("a", "b:c", "c"))
    assert answer_costs(unknown, {"a:b:c": 5, "c:c": -2}).tolist() == [5]


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        (
            {"ill:dead": 3},
            "cost 'ill:dead' names no two classes: write ACTUAL:PREDICTED; the classes are 'ill', 'well'",
        ),
        ({"ill": 3}, "cost 'ill' names no two classes"),
    ],
)
def test_a_pair_that_is_none(costs: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        cost_matrix(costs, ["ill", "well"])
    with pytest.raises(UsageError, match="more than one pair"):
        cost_matrix({"a:a:a": 1}, ["a", "a:a"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"metric": "cost"}, "the metric cost needs costs"),
        ({"floors": {"cost": 1.0}}, "the metric cost needs costs"),
        ({"costs": {"ill": 1.0}}, "write ACTUAL:PREDICTED = AMOUNT"),
        ({"costs": {"ill:well": float("nan")}}, "finite number"),
    ],
)
def test_settings_that_make_no_cost(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DecisionSettings.model_validate(settings)


@pytest.mark.slow(6)
def test_a_night_is_decided_by_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = mixed_table(300, seed=2)
    write_table(table, tmp_path / "t.csv")
    classes = sorted(set(map(str, table["y"].to_pylist())))
    night = ["retrain", "--no-prefect", "--name", "m", "--data", str(tmp_path / "t.csv"), "--target", "y"]
    night += ["--store", str(tmp_path / "store"), "--epochs", "2", "--hidden-dim", "8", "--mode", "mlp_dense"]
    night += ["--no-report", "--metric", "cost", "--costs"]
    assert main([*night, "nobody:none=3"]) == 2
    assert "cost 'nobody:none' names no two classes" in capsys.readouterr().err
    assert not (tmp_path / "store" / "m" / "versions").exists()
    assert main([*night, f"{classes[0]}:{classes[1]}=5"]) == 0
    capsys.readouterr()
    assert main(["history", "m", "--store", str(tmp_path / "store"), "--json"]) == 0
    decision = json.loads(capsys.readouterr().out)[-1]["decision"]
    assert decision["metric"] == "cost"
    assert decision["challenger"]["cost"] >= 0
