"""The metrics that can decide, their paired intervals, and rows that hang together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as reference

from ai.ml.core.errors import DataRefused
from ai.ml.core.splits.rule import SplitRule
from ai.ml.retraining.decision.bootstrap import Resampling, paired_gain
from ai.ml.retraining.decision.borderline import borderline_reason
from ai.ml.retraining.decision.comparable import too_few_rows
from ai.ml.retraining.decision.decision import decide
from ai.ml.retraining.decision.metrics import gains, measure, unmeasurable
from ai.ml.retraining.decision.predictions import Predictions, rows_of
from ai.ml.retraining.decision.rank_gain import auc, average_precision, paired_rank_gain
from ai.ml.retraining.settings.decision import AT_LEAST, METRICS, DecisionSettings


def scored(sharpness: float, seed: int = 0, rows: int = 400, ties: int = 0) -> Predictions:
    """Two classes, one in four positive; with `ties`, as many different scores."""
    truth = (np.random.default_rng(7).random(rows) < 0.25).astype(np.int64)
    logits = sharpness * (truth - 0.5) + np.random.default_rng(seed).normal(size=rows)
    positive = 1 / (1 + np.exp(-logits))
    if ties:
        positive = np.round(positive * ties) / ties
    answers = np.stack([1 - positive, positive], axis=1)
    return Predictions("d", "classification", truth, answers, classes=("no", "yes"))


def amounts(error: float, seed: int = 0, rows: int = 400) -> Predictions:
    truth = np.random.default_rng(7).normal(50, 9, rows)
    return Predictions("d", "regression", truth, truth + error * np.random.default_rng(seed).normal(size=rows))


@pytest.mark.parametrize("ties", [0, 6])
def test_each_metric_is_scikit_learns(ties: int) -> None:
    two, value = scored(1.0, ties=ties), amounts(4.0)
    positive = two.answers[:, 1]
    assert measure(two, DecisionSettings(metric="auc"))["auc"] == pytest.approx(
        reference.roc_auc_score(two.truth, positive)
    )
    assert measure(two, DecisionSettings(metric="average_precision"))["average_precision"] == pytest.approx(
        reference.average_precision_score(two.truth, positive)
    )
    # scikit-learn's is of one class, ours of both.
    assert measure(two, DecisionSettings(metric="brier"))["brier"] == pytest.approx(
        2 * reference.brier_score_loss(two.truth, positive)
    )
    assert measure(value, DecisionSettings(metric="r2"))["r2"] == pytest.approx(
        reference.r2_score(value.truth, value.answers)
    )
    for quantile in (0.5, 0.9):
        policy = DecisionSettings(metric="pinball", quantile=quantile)
        loss = reference.mean_pinball_loss(value.truth, value.answers, alpha=quantile)
        assert measure(value, policy)["pinball"] == pytest.approx(loss)


@pytest.mark.parametrize("metric", [*METRICS["classification"], *METRICS["regression"]])
def test_any_metric_can_decide(metric: str) -> None:
    make = scored if metric in METRICS["classification"] else amounts
    good, bad = (make(3.0), make(0.3)) if make is scored else (make(0.5), make(8.0))
    costs = {"no:yes": 2.0} if metric == "cost" else {}
    policy = DecisionSettings.model_validate({"metric": metric, "costs": costs})
    won, held = decide(good, bad, policy), decide(bad, good, policy)
    assert (won.outcome, won.metric, held.outcome) == ("PROMOTE", metric, "HOLD")
    assert won.gain is not None
    sign = 1 if metric in AT_LEAST else -1
    assert won.gain.estimate == pytest.approx(sign * (won.challenger[metric] - (won.champion or {})[metric]))
    assert 0 < won.gain.low <= won.gain.estimate <= won.gain.high
    assert won.to_dict()["gain"] == won.to_dict()["gains"][metric]
    assert won.reason.startswith(f"{metric} is better by ")
    same = decide(good, good, policy)
    assert (same.outcome, same.gain.estimate if same.gain else None) == ("HOLD", 0.0)


def test_a_tolerance_in_per_cent_is_of_what_is_lacking_where_more_is_better() -> None:
    one, other = scored(1.5), scored(1.5, seed=1)
    policy = DecisionSettings(metric="auc", policy="not-worse", tolerance="50%")
    decision = decide(one, other, policy)
    assert decision.tolerance == pytest.approx((1 - (decision.champion or {})["auc"]) / 2)
    assert decision.outcome == "PROMOTE"


def test_a_metric_that_the_rows_cannot_tell_is_said() -> None:
    one_class = rows_of(scored(1.0), scored(1.0).truth == 0)
    policy = DecisionSettings(metric="auc")
    assert unmeasurable(one_class, policy) == "auc needs two classes, and rows of both"
    assert unmeasurable(scored(1.0), policy) is None
    assert "auc can't be told of these rows" in decide(one_class, None, policy).reason
    with pytest.raises(DataRefused, match="these rows can't decide: auc needs two classes"):
        decide(one_class, one_class, policy)
    said = unmeasurable(amounts(1.0), DecisionSettings(metric="brier"))
    assert said == "brier is no metric of a regression: rmse, mae, pinball, r2"


def test_the_interval_of_a_ranks_gain_holds_what_it_should() -> None:
    """Of many tables, 95 % of the intervals hold the gain of the population; DeLong's variance says the same."""
    rng, covered, rounds, widths, variances = np.random.default_rng(3), 0, 120, [], []
    truth = np.arange(160) < 60
    population = []
    for _ in range(rounds):
        noise = rng.normal(size=(3, 160))
        before, after = truth + noise[0] + noise[1], truth + noise[0] + noise[2] * 0.5
        gain = paired_rank_gain(auc, truth, before, after, Resampling(resamples=300, seed=int(rng.integers(1e6))))
        population.append(gain)
        widths.append((gain.high - gain.low) / 3.92)
        variances.append(delong(truth, before, after))
    true_gain = float(np.mean([gain.estimate for gain in population]))
    covered = sum(gain.low <= true_gain <= gain.high for gain in population)
    assert 0.89 <= covered / rounds <= 0.99
    assert np.mean(widths) == pytest.approx(np.sqrt(np.mean(variances)), rel=0.1)


def delong(truth: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """Variance of the difference of two AUCs on the same rows (DeLong, DeLong, Clarke-Pearson 1988)."""
    parts = []
    for scores in (before, after):
        wins = (scores[truth][:, None] > scores[~truth][None]) + 0.5 * (scores[truth][:, None] == scores[~truth][None])
        parts.append((wins.mean(axis=1), wins.mean(axis=0)))
    (of_ones, of_zeros), (ones, zeros) = parts
    return float(np.var(ones - of_ones, ddof=1) / truth.sum() + np.var(zeros - of_zeros, ddof=1) / (~truth).sum())


def test_average_precision_draws_each_class_by_itself() -> None:
    one, other = scored(2.0), scored(1.0, seed=2)
    gain = paired_rank_gain(average_precision, one.truth == 1, other.answers[:, 1], one.answers[:, 1])
    assert gain.low < gain.estimate < gain.high
    assert gain == paired_rank_gain(average_precision, one.truth == 1, other.answers[:, 1], one.answers[:, 1])


def test_a_hundred_rows_of_one_customer_say_little_more_than_one() -> None:
    """Forty customers of fifty rows: as rows the interval is seven times too narrow."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(40), 50)
    difference = rng.normal(size=40)[groups] + 0.1 * rng.normal(size=2_000)
    by_rows = paired_gain(difference, np.zeros(2_000), root=False)
    by_groups = paired_gain(difference, np.zeros(2_000), Resampling(groups=groups), root=False)
    assert by_rows.estimate == pytest.approx(by_groups.estimate)
    assert (by_groups.high - by_groups.low) / (by_rows.high - by_rows.low) == pytest.approx(np.sqrt(50), rel=0.15)
    alone = paired_gain(difference, np.zeros(2_000), Resampling(groups=np.arange(2_000)), root=False)
    assert alone.high - alone.low == pytest.approx(by_rows.high - by_rows.low, rel=0.1)
    many = paired_gain(np.tile(difference, 3), np.zeros(6_000), Resampling(groups=np.arange(6_000) // 2), root=False)
    assert np.isfinite([many.low, many.high]).all(), "more groups than are drawn one by one"


def test_a_decision_by_groups_says_how_many_and_ten_are_needed() -> None:
    groups = np.arange(400) // 10
    one, other = (replace(scored(1.0, seed=seed), groups=groups) for seed in (0, 1))
    decision = decide(one, other, DecisionSettings(metric="auc"))
    assert decision.groups == 40
    assert decision.to_dict()["groups"] == 40
    assert "with these 400 rows of 40 groups a gain below" in decision.reason
    plain = gains(replace(one, groups=None), other, DecisionSettings(), ["log_loss"])
    assert gains(one, other, DecisionSettings(), ["log_loss"])["log_loss"] != plain["log_loss"]
    nothing = np.zeros(400, dtype=bool)
    assert too_few_rows(one, nothing) is None
    few = too_few_rows(replace(one, groups=np.arange(400) // 80), nothing)
    assert few == "the 400 rows are of 5 groups, 10 are needed"


def test_a_rule_knows_the_groups_of_new_rows() -> None:
    table = pa.table({"x": [1.0, 2.0, 3.0, 4.0], "who": ["a", "b", None, "a"], "day": [1, 2, 3, 4]})
    by_group = SplitRule("group", 0.2, ("x",), ("who",))
    by_time = SplitRule("time", 0.2, ("x",), time="day", learned_before="3", group="who")
    for rule in (by_group, SplitRule.from_json(by_time.to_json())):
        groups = rule.groups_of(table)
        assert groups is not None
        assert len(set(groups.tolist())) == 3, "who has no group is one by itself"
        assert groups[0] == groups[3]
        assert rule.groups_of(table.drop_columns(["who"])) is None
    assert SplitRule("hash", 0.2, ("x",), ("who",)).groups_of(table) is None
    assert "group" not in by_group.to_json()


def test_a_promotion_that_the_figures_leave_open_is_borderline() -> None:
    clear = decide(scored(3.0), scored(0.3)).to_dict()
    assert borderline_reason(clear) is None
    assert borderline_reason(decide(scored(3.0), None).to_dict()) == "it wasn't compared with the champion"
    same = decide(scored(1.0), scored(1.0, seed=1), DecisionSettings(policy="not-worse", tolerance="90%")).to_dict()
    assert same["outcome"] == "PROMOTE"
    assert "isn't surely better, only not worse" in str(borderline_reason(same))
    gain = clear["gain"]
    margin = gain["low"] - 0.1 * (gain["estimate"] - gain["low"])
    just = decide(scored(3.0), scored(0.3), DecisionSettings(margin=margin)).to_dict()
    assert just["outcome"] == "PROMOTE"
    assert borderline_reason(just) == "the gain is only just surely above the margin"
    for more, said in (
        ({"beaten_by": "a sentence"}, "a simpler model surely does better"),
        ({"target": {"beyond": ["a phrase"]}}, "labels or the world changed"),
        ({"inputs": {"added": ["calls"], "removed": []}}, "tables to score need columns that they didn't"),
        ({"inputs": {"added": [], "removed": ["calls"]}, "target": {"beyond": []}}, None),
    ):
        assert borderline_reason(clear | more) == said
