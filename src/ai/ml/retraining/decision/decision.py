"""Challenger against champion on the same rows: PROMOTE, HOLD or REJECT, with the figures that say why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ai.ml.core.errors import DataRefused
from ai.ml.core.number_text import figure
from ai.ml.core.types import TaskType
from ai.ml.retraining.decision.bootstrap import Interval, paired_gain
from ai.ml.retraining.settings.decision import AT_LEAST, AT_MOST, DecisionSettings, tolerance_of

Outcome = Literal["PROMOTE", "HOLD", "REJECT"]
LEAST_PROBABILITY = 1e-12
"""A class that a model rules out and that comes all the same costs this much at most in the log loss."""


@dataclass(frozen=True)
class Predictions:
    """A model's answers to rows whose truth is known."""

    digest: str
    task: TaskType
    truth: np.ndarray
    """`(n_rows,)` class indices int64 (-1 for a class that the model doesn't know), or float64 values."""
    answers: np.ndarray
    """`(n_rows, n_classes)` float64 probabilities, or `(n_rows,)` float64 values."""
    slices: np.ndarray | None = None
    """`(n_rows,)` texts: the group that each row belongs to."""


@dataclass(frozen=True)
class Decision:
    """The outcome and everything it rests on."""

    outcome: Outcome
    reason: str
    """One sentence."""
    metric: str
    """The one that decides: `log_loss` or `rmse`."""
    rows: int
    challenger: dict[str, float]
    champion: dict[str, float] | None
    champion_digest: str | None
    gain: Interval | None
    """Champion minus challenger in `metric`: above 0 is better."""
    gains: dict[str, Interval]
    """The same for each metric that is a mean over rows, those of which more is better turned round; all from the same
    resamples. It is `metric` alone that decides."""
    slices: dict[str, dict[str, float]]
    better_baseline: str | None
    """Which simpler model surely does better on the same split, in a sentence: it stands in the ledger, as `beaten_by`,
    whatever the policy made of it."""
    rule: Literal["better", "not-worse"] = "better"
    """Which policy decided."""
    tolerance: float | None = None
    """Of `not-worse`, in the metric's units."""
    least_gain: float | None = None
    """What these rows could have shown at all: a smaller gain can't be told from none."""

    def to_dict(self) -> dict[str, Any]:
        """The decision as the ledger keeps it."""
        gains = {name: vars(interval) for name, interval in self.gains.items()}
        plain = {"beaten_by" if name == "better_baseline" else name: value for name, value in vars(self).items()}
        return plain | {
            "gain": gains.get(self.metric),
            "gains": gains,
            "challenger": _numbers(self.challenger),
            "slices": {name: _numbers(values) for name, values in self.slices.items()},
        }


def decide(
    challenger: Predictions,
    champion: Predictions | None,
    policy: DecisionSettings | None = None,
    *,
    incomparable_reason: str | None = None,
    better_baseline: str | None = None,
    seen: np.ndarray | None = None,
) -> Decision:
    """Compare a challenger with the champion.

    Args:
        challenger: its answers to the holdout rows.
        champion: its answers to the same rows in the same order, without those in `seen`; None if there is none, or
            if it can't score them.
        policy: margin, confidence, floors, and what to do in the two cases below.
        incomparable_reason: why the champion can't be compared on these rows, where it can't; `champion` is None then.
        better_baseline: which simpler model surely does better on the same split, in a sentence.
        seen: `(n_rows,)` bool: rows of `challenger` that one of the two learned from. They count for the floors, not
            for the comparison.

    Raises:
        DataRefused: there are no rows, or the two were scored on different ones.
    """
    policy = policy or DecisionSettings()
    if not len(challenger.truth):
        raise DataRefused("no rows to decide on: the holdout is empty")
    metric = "log_loss" if challenger.task == "classification" else "rmse"
    everywhere, slices = measure(challenger), measure_slices(challenger)
    metrics = everywhere
    if champion is not None and seen is not None and seen.any():
        challenger = unseen_rows(challenger, seen)
        metrics = measure(challenger)
    # Where the challenger's answers are no numbers there is nothing to resample, and it is rejected below.
    gains = {} if champion is None or not _finite(metrics) else _gains(challenger, champion, policy)
    gain = gains.get(metric)
    tolerance = _tolerance(metrics[metric], gain, policy)
    rejection = _rejection(metric, everywhere, slices, policy)
    outcome, reason = _before_comparing(rejection, better_baseline, incomparable_reason, policy) or _outcome(
        metric, metrics[metric], gain, policy, tolerance, len(challenger.truth)
    )
    if outcome == "PROMOTE" and better_baseline is not None:
        reason = f"{reason}; but {better_baseline}"
    return Decision(
        outcome,
        reason,
        metric,
        len(challenger.truth),
        metrics,
        None if champion is None else measure(champion),
        None if champion is None else champion.digest,
        gain,
        gains,
        slices,
        better_baseline,
        policy.policy,
        tolerance,
        None if gain is None else least_gain(gain, policy.margin),
    )


def _before_comparing(
    rejection: str | None, better_baseline: str | None, incomparable_reason: str | None, policy: DecisionSettings
) -> tuple[Outcome, str] | None:
    """What decides whatever the gain; None where nothing does."""
    if rejection is not None:
        return "REJECT", rejection
    if better_baseline is not None and policy.baselines == "hold":
        return "HOLD", better_baseline
    return None if incomparable_reason is None else _without_comparison(policy, incomparable_reason)


def _tolerance(value: float, gain: Interval | None, policy: DecisionSettings) -> float | None:
    """In the metric's units, where not-worse is enough; the champion's value is the challenger's and the gain."""
    if gain is None or policy.policy == "better":
        return None
    return tolerance_of(policy.tolerance, value + gain.estimate)


def unseen_rows(predictions: Predictions, seen: np.ndarray) -> Predictions:
    """Without the rows that were learned from, `(n_rows,)` bool."""
    left = ~seen
    slices = None if predictions.slices is None else predictions.slices[left]
    return replace(predictions, truth=predictions.truth[left], answers=predictions.answers[left], slices=slices)


def _rejection(
    metric: str,
    metrics: Mapping[str, float],
    slices: Mapping[str, Mapping[str, float]],
    policy: DecisionSettings,
) -> str | None:
    """Why the challenger is no candidate whatever the champion does; None if it is one."""
    if not _finite(metrics):
        return f"{metric} of the challenger can't be told: some of its answers are no finite numbers"
    failed = _below_floors(metrics, policy.floors, "")
    for name, values in slices.items():
        failed = failed or _below_floors(values, policy.slice_floors, f" in slice {name!r}")
    return failed


def _without_comparison(policy: DecisionSettings, incomparable_reason: str) -> tuple[Outcome, str]:
    outcomes: dict[str, Outcome] = {"hold": "HOLD", "promote": "PROMOTE", "reject": "REJECT"}
    reason = (
        f"the champion can't be compared on these rows: {incomparable_reason}; the policy for that is "
        f"{policy.incomparable}"
    )
    if policy.incomparable == "hold":
        reason += " (if the new table is as it should be: --incomparable promote)"
    return outcomes[policy.incomparable], reason


def _outcome(
    metric: str, value: float, gain: Interval | None, policy: DecisionSettings, tolerance: float | None, rows: int
) -> tuple[Outcome, str]:
    """By the gain over the champion on so many rows, None for the first bundle of a model."""
    if gain is None:
        return "PROMOTE", f"the first bundle of this model; {metric} {figure(value)}"
    interval = f"{figure(gain.low, signed=True)} to {figure(gain.high, signed=True)} at {policy.confidence:.0%}"
    if gain.low > policy.margin:
        return (
            "PROMOTE",
            f"{metric} is better by {figure(gain.estimate)} ({interval}), above the margin {policy.margin:g}",
        )
    moved = f"{metric} gets {'better' if gain.estimate > 0 else 'worse'} by {figure(abs(gain.estimate))}"
    if not gain.estimate:
        moved = f"{metric} is {figure(value)} as before"
    if tolerance is not None and gain.low > -tolerance:
        return "PROMOTE", f"not worse: {moved} (gain {interval}), surely within the tolerance {figure(tolerance)}"
    if tolerance is not None:
        beyond = f"which isn't surely within the tolerance {figure(tolerance)}"
        return "HOLD", f"it may be worse: {moved} (gain {interval}), {beyond}; the champion stays"
    if not gain.estimate:
        return "HOLD", f"no significant gain: {moved}; the champion stays"
    return "HOLD", (
        f"no significant gain: {moved} (gain {interval}), which isn't surely more than the margin {policy.margin:g}; "
        f"with these {rows:,} rows a gain below {figure(least_gain(gain, policy.margin), 2)} can't be told from none; "
        "the champion stays"
    )


def least_gain(gain: Interval, margin: float) -> float:
    """The least gain that would have been significant, had the interval been as wide as this one."""
    return margin + gain.estimate - gain.low


def incomparable(challenger: Predictions, champion: Predictions) -> str | None:
    """Why two models can't be weighed against each other; None if they can."""
    if challenger.task != champion.task:
        return f"it is a {champion.task} model, the challenger a {challenger.task} model"
    if not np.isfinite(champion.answers).all():
        return "some of its answers to them are no finite numbers"
    unknown = int((champion.truth < 0).sum()) if champion.task == "classification" else 0
    return f"{unknown:,} rows have a class that it doesn't know" if unknown else None


def measure(predictions: Predictions) -> dict[str, float]:
    """Log loss and accuracy, AUC for two classes; RMSE and MAE for regression."""
    losses = row_losses(predictions)
    if predictions.task == "regression":
        errors = predictions.answers - predictions.truth
        return {"rmse": float(np.sqrt(losses.mean())), "mae": float(np.abs(errors).mean())}
    metrics = {
        "log_loss": float(losses.mean()),
        "accuracy": float((predictions.answers.argmax(axis=1) == predictions.truth).mean()),
    }
    if predictions.answers.shape[1] == 2 and np.isfinite(losses).all() and set(np.unique(predictions.truth)) == {0, 1}:
        from sklearn.metrics import roc_auc_score

        metrics["auc"] = float(roc_auc_score(predictions.truth, predictions.answers[:, 1]))
    return metrics


def measure_slices(predictions: Predictions) -> dict[str, dict[str, float]]:
    """The metrics of each slice; none without slices."""
    if predictions.slices is None:
        return {}
    parts: dict[str, dict[str, float]] = {}
    for name in np.unique(predictions.slices):
        rows = predictions.slices == name
        parts[str(name)] = measure(
            Predictions(predictions.digest, predictions.task, predictions.truth[rows], predictions.answers[rows])
        )
    return parts


def row_losses(predictions: Predictions) -> np.ndarray:
    """`(n_rows,)` float64: minus the log of the true class's probability, or the squared error."""
    if predictions.task == "regression":
        return (predictions.answers - predictions.truth) ** 2
    known = predictions.truth >= 0
    chosen = predictions.answers[np.arange(len(predictions.truth)), np.where(known, predictions.truth, 0)]
    return -np.log(np.clip(np.where(known, chosen, 0.0), LEAST_PROBABILITY, 1.0))


def row_costs(predictions: Predictions) -> dict[str, np.ndarray]:
    """`(n_rows,)` float64 by metric: what each row adds to it; less is better in all of them."""
    losses = row_losses(predictions)
    if predictions.task == "regression":
        return {"rmse": losses, "mae": np.abs(predictions.answers - predictions.truth)}
    return {
        "log_loss": losses,
        "accuracy": (predictions.answers.argmax(axis=1) != predictions.truth).astype(np.float64),
    }


def _gains(challenger: Predictions, champion: Predictions, policy: DecisionSettings) -> dict[str, Interval]:
    if len(challenger.truth) != len(champion.truth):
        raise DataRefused(
            f"challenger and champion were scored on {len(challenger.truth)} and {len(champion.truth)} rows"
        )
    before, after = row_costs(champion), row_costs(challenger)
    return {
        name: paired_gain(
            before[name],
            after[name],
            root=name == "rmse",
            confidence=policy.confidence,
            resamples=policy.resamples,
        )
        for name in after
    }


def _finite(metrics: Mapping[str, float]) -> bool:
    return all(np.isfinite(value) for value in metrics.values())


def _numbers(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The metrics with None for what isn't finite: JSON has no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}


def _below_floors(metrics: Mapping[str, float], floors: Mapping[str, float], where: str) -> str | None:
    for name, limit in floors.items():
        value = metrics.get(name)
        if value is None:
            needs = " (auc needs two classes, and rows of both)" if name == "auc" else ""
            return f"the floor for {name}{where} can't be judged: known here are {', '.join(metrics)}{needs}"
        if (name in AT_LEAST and value < limit) or (name in AT_MOST and value > limit):
            word = "below" if name in AT_LEAST else "above"
            return f"{name}{where} is {figure(value)}, {word} the limit of {limit:g}"
    return None
