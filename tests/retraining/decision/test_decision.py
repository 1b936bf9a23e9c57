"""Challenger against champion: who wins, by how much, and why."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest

from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.retraining.decision.bootstrap import Resampling, paired_gain
from ai.ml.retraining.decision.decision import decide, incomparable
from ai.ml.retraining.decision.metrics import measure
from ai.ml.retraining.decision.predictions import Predictions, unseen_rows
from ai.ml.retraining.settings.decision import DecisionSettings
from ai.ml.retraining.settings.flags import add_settings, given_settings
from ai.ml.retraining.settings.load import load_config
from ai.ml.retraining.settings.retrain import RetrainConfig

ROWS = 2_000


def classifier(sharpness: float, *, seed: int = 0, classes: int = 2, rows: int = ROWS, **more: object) -> Predictions:
    """Answers that know the truth the better, the larger `sharpness`."""
    rng = np.random.default_rng(7)
    truth = rng.integers(0, classes, rows)
    noise = np.random.default_rng(seed).normal(size=(rows, classes))
    logits = noise + sharpness * np.eye(classes)[truth]
    weights = np.exp(logits)
    return Predictions(f"d{sharpness}", "classification", truth, weights / weights.sum(axis=1, keepdims=True), **more)


def regressor(error: float, *, seed: int = 0) -> Predictions:
    truth = np.random.default_rng(7).normal(size=ROWS)
    return Predictions(f"d{error}", "regression", truth, truth + error * np.random.default_rng(seed).normal(size=ROWS))


def test_metrics_are_those_of_scikit_learn() -> None:
    from sklearn import metrics as reference

    two, three, value = classifier(1.0), classifier(1.0, classes=3), regressor(0.5)
    assert measure(two) == pytest.approx(
        {
            "log_loss": reference.log_loss(two.truth, two.answers),
            "accuracy": reference.accuracy_score(two.truth, two.answers.argmax(axis=1)),
            "auc": reference.roc_auc_score(two.truth, two.answers[:, 1]),
        }
    )
    assert set(measure(three)) == {"log_loss", "accuracy"}
    assert measure(value) == pytest.approx(
        {
            "rmse": reference.root_mean_squared_error(value.truth, value.answers),
            "mae": reference.mean_absolute_error(value.truth, value.answers),
        }
    )


def test_the_same_answers_are_held_without_a_word_of_better_or_worse() -> None:
    told = decide(classifier(2.0), classifier(2.0))
    assert told.outcome == "HOLD"
    assert told.reason.startswith("no significant gain: log_loss is 0.")
    assert told.reason.endswith(" as before; the champion stays")


@pytest.mark.parametrize(
    ("better", "worse", "metric"),
    [(classifier(2.0), classifier(1.0), "log_loss"), (regressor(0.5), regressor(1.0), "rmse")],
)
def test_the_better_one_wins_and_the_worse_one_is_held(better: Predictions, worse: Predictions, metric: str) -> None:
    won, held = decide(better, worse), decide(worse, better)
    assert (won.outcome, held.outcome) == ("PROMOTE", "HOLD")
    assert won.metric == metric
    assert won.gain is not None
    assert won.gain.low < won.gain.estimate < won.gain.high
    assert won.gain.estimate == pytest.approx(measure(worse)[metric] - measure(better)[metric])
    assert f"{won.gain.low:+.4g} to {won.gain.high:+.4g} at 95%" in won.reason
    assert "the champion stays" in held.reason
    assert decide(better, worse) == won, "same seed, same interval"
    record = json.loads(json.dumps(won.to_dict(), allow_nan=False))
    assert set(record["gains"]) == set(measure(better))
    assert record["gain"] == record["gains"][metric]


def test_equal_models_and_gains_within_the_margin_are_held() -> None:
    same = decide(classifier(1.0), classifier(1.0))
    assert (same.outcome, same.gain.estimate if same.gain else None) == ("HOLD", 0.0)
    better, worse = classifier(2.0), classifier(1.9)
    assert decide(better, worse).outcome == "PROMOTE"
    assert decide(better, worse, DecisionSettings(margin=0.5)).outcome == "HOLD"


def test_floors_reject_whoever_wins() -> None:
    better, worse = classifier(2.0), classifier(1.0)
    accuracy = measure(better)["accuracy"]
    assert decide(better, worse, DecisionSettings(floors={"accuracy": accuracy})).outcome == "PROMOTE"
    rejected = decide(better, worse, DecisionSettings(floors={"accuracy": 0.99}))
    assert (rejected.outcome, "below the limit of 0.99" in rejected.reason) == ("REJECT", True)
    assert "above the limit of 0.1" in decide(better, None, DecisionSettings(floors={"log_loss": 0.1})).reason
    three = decide(classifier(1.0, classes=3), None, DecisionSettings(floors={"auc": 0.5}))
    assert (three.outcome, "auc needs two classes" in three.reason) == ("REJECT", True)
    given = {"name": "m", "data": {"source": "a.csv", "target": "y"}, "decision": {"floors": {"f1": 0.5}}}
    with pytest.raises(UsageError, match=r"^decision\.floors = \{.*\}: floor 'f1' is no metric: known are accuracy"):
        load_config(RetrainConfig, overrides=given)


def test_a_slice_that_falls_below_its_floor_rejects_and_is_named() -> None:
    good = classifier(3.0)
    slices = np.where(np.arange(ROWS) % 10 == 0, "small", "large")
    answers = good.answers.copy()
    answers[slices == "small"] = answers[slices == "small"][:, ::-1]
    scored = Predictions("d", "classification", good.truth, answers, slices)
    policy = DecisionSettings(floors={"accuracy": 0.8}, slice_floors={"accuracy": 0.8})
    rejected = decide(scored, classifier(0.1), policy)
    assert rejected.outcome == "REJECT"
    assert rejected.reason.startswith("accuracy in slice 'small' is 0.0")
    assert set(rejected.slices) == {"small", "large"}
    assert decide(scored, classifier(0.1), DecisionSettings(floors={"accuracy": 0.8})).outcome == "PROMOTE"


@pytest.mark.parametrize("policy", ["hold", "promote", "reject"])
def test_a_champion_that_can_not_score_the_rows_is_said_and_the_policy_decides(policy: str) -> None:
    settings = DecisionSettings(incomparable=policy)  # pyright: ignore[reportArgumentType]
    decision = decide(classifier(1.0), None, settings, incomparable_reason="column 'age' is missing")
    assert decision.outcome == policy.upper()
    assert "the champion can't be compared on these rows: column 'age' is missing" in decision.reason
    assert ("--incomparable promote" in decision.reason) == (policy == "hold"), "how to go on, where it stops"
    assert DecisionSettings().incomparable == "hold"
    assert decide(classifier(1.0), None).outcome == "PROMOTE", "the first of its name"


def test_what_is_incomparable() -> None:
    assert incomparable(classifier(1.0), classifier(2.0)) is None
    assert "regression model" in str(incomparable(classifier(1.0), regressor(1.0)))
    champion = classifier(1.0)
    champion.truth[:3] = -1
    assert incomparable(classifier(1.0), champion) == "3 rows have a class that it doesn't know"


def test_probabilities_that_are_no_numbers_never_win() -> None:
    scored = classifier(3.0)
    scored.answers[5] = float("nan")
    assert decide(scored, classifier(0.1)).outcome == "REJECT"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_answers_that_are_no_numbers_never_win(bad: float) -> None:
    scored = regressor(0.1)
    scored.answers[5] = bad
    for champion in (None, regressor(1.0)):
        decision = decide(scored, champion)
        assert decision.outcome == "REJECT"
        assert "no finite numbers" in decision.reason
        json.dumps(decision.to_dict(), allow_nan=False)
    assert incomparable(regressor(0.1), scored) == "some of its answers to them are no finite numbers"


def test_rows_must_be_there_and_the_same() -> None:
    with pytest.raises(DataRefused, match="the holdout is empty"):
        decide(classifier(1.0, rows=0), None)
    with pytest.raises(DataRefused, match="2000 and 10 rows"):
        decide(classifier(1.0), classifier(1.0, rows=10))


@pytest.mark.slow(4)
@pytest.mark.parametrize("rows", [400, 10_000])
def test_the_interval_covers_the_true_gain_as_often_as_it_says(rows: int) -> None:
    """400 rows are resampled singly, 10,000 in groups."""
    rng = np.random.default_rng(0)
    covered = 0
    rounds = 200
    for number in range(rounds):
        hard = rng.normal(size=rows)
        losses = hard + 0.3 + rng.normal(size=rows), hard + rng.normal(size=rows)
        gain = paired_gain(*losses, Resampling(resamples=400, seed=number), root=False)
        covered += gain.low <= 0.3 <= gain.high
    assert 0.90 <= covered / rounds <= 0.99


def test_the_slice_column_has_a_short_flag() -> None:
    parser = argparse.ArgumentParser()
    add_settings(parser, RetrainConfig)
    given = given_settings(parser.parse_args(["--slice", "city", "--slice-floors", "accuracy=0.8"]))
    assert given == {"decision": {"slice_column": "city", "slice_floors": {"accuracy": "0.8"}}}


def test_rows_that_were_learned_from_count_for_the_floors_but_not_for_the_comparison() -> None:
    challenger, champion = classifier(1.0), classifier(1.0, seed=1)
    # The champion knows half of the rows by heart.
    seen = np.arange(ROWS) < ROWS // 2
    answers = champion.answers.copy()
    answers[seen] = np.where(np.eye(2)[champion.truth[seen]] > 0, 0.999, 0.001)
    by_heart = replace(champion, answers=answers)
    biased = decide(challenger, by_heart)
    assert biased.gain is not None
    assert biased.gain.high < 0, "today's comparison calls it surely worse"
    fair = decide(challenger, unseen_rows(by_heart, seen), seen=seen)
    assert fair.gain is not None
    assert fair.gain.low < 0 < fair.gain.high
    assert fair.rows == ROWS // 2
    assert fair.challenger == measure(unseen_rows(challenger, seen))
    assert fair.champion == measure(unseen_rows(champion, seen))
    limit = measure(challenger)["accuracy"]
    kept = decide(challenger, unseen_rows(by_heart, seen), DecisionSettings(floors={"accuracy": limit}), seen=seen)
    assert kept.outcome == "HOLD", "the floor is held against all rows"


def test_a_hold_says_what_its_rows_could_have_shown() -> None:
    held = decide(classifier(1.0, seed=1), classifier(1.0))
    assert held.gain is not None
    assert held.least_gain == pytest.approx(held.gain.estimate - held.gain.low)
    assert f"with these 2,000 rows a gain below {held.least_gain:.2g} can't be told from none" in held.reason
    assert held.to_dict()["least_gain"] == held.least_gain
    few = decide(classifier(1.0, seed=1, rows=50), classifier(1.0, rows=50))
    assert few.least_gain is not None
    assert few.least_gain > 3 * held.least_gain


@pytest.mark.slow(4)
def test_not_worse_promotes_what_surely_harms_less_than_the_tolerance() -> None:
    champion, alike, worse = classifier(1.0), classifier(1.0, seed=1), classifier(0.6)
    loss = measure(champion)["log_loss"]
    policy = DecisionSettings(policy="not-worse", tolerance="10%")
    told = decide(alike, champion, policy)
    assert (told.outcome, told.rule, told.tolerance) == ("PROMOTE", "not-worse", pytest.approx(loss / 10))
    assert told.reason.startswith("not worse: log_loss gets ")
    assert told.reason.endswith(f"surely within the tolerance {loss / 10:.4g}")
    assert decide(alike, champion).outcome == "HOLD"
    absolute = decide(alike, champion, DecisionSettings(policy="not-worse", tolerance=str(loss / 10)))
    assert absolute.reason == told.reason
    held = decide(worse, champion, policy)
    assert held.outcome == "HOLD"
    assert held.reason.startswith("it may be worse: log_loss gets worse by ")
    assert decide(champion, champion, policy).outcome == "PROMOTE", "the same answers from fresher data"
    assert decide(champion, champion, DecisionSettings(policy="not-worse", tolerance="0")).outcome == "HOLD"
    better = decide(classifier(2.0), champion, policy)
    assert "above the margin 0" in better.reason


@pytest.mark.parametrize("tolerance", ["-1", "a bit", "nan%", "inf", "%"])
def test_a_tolerance_that_is_none(tolerance: str) -> None:
    with pytest.raises(ValueError, match="is no number from 0 on and no per cent of the champion's loss, as 1%"):
        DecisionSettings(tolerance=tolerance)
