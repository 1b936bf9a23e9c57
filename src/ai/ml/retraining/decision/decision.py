"""Challenger against champion on the same rows: PROMOTE, HOLD or REJECT, with the figures that say why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.number_text import figure
from ai.ml.core.types import TaskType
from ai.ml.retraining.decision.bootstrap import Interval, paired_gain

Outcome = Literal["PROMOTE", "HOLD", "REJECT"]
AT_LEAST = ("accuracy", "auc")
AT_MOST = ("log_loss", "rmse", "mae")
LEAST_PROBABILITY = 1e-12
"""A class that a model rules out and that comes all the same costs this much at most in the log loss."""


@dataclass(frozen=True)
class Scored:
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
class DecisionPolicy:
    """When a challenger wins."""

    margin: float = 0.0
    """Least gain in log loss or RMSE, in its own units, that the interval's lower end must exceed."""
    confidence: float = 0.95
    resamples: int = 2_000
    seed: int = 0
    floors: Mapping[str, float] = field(default_factory=dict[str, float])
    """Limits that any candidate must meet: at least for accuracy and auc, at most for log_loss, rmse, mae."""
    slice_floors: Mapping[str, float] = field(default_factory=dict[str, float])
    """The same limits for each slice."""
    incomparable: Literal["hold", "promote", "reject"] = "hold"
    """What to do when the champion can't score the rows."""
    beaten_by: str | None = None
    """Which simpler model surely does better on the same split, in a sentence."""
    baselines: Literal["report", "hold"] = "hold"
    """What to do then: say so beside the outcome, or hold the challenger whatever the champion does."""

    def __post_init__(self) -> None:
        for name in (*self.floors, *self.slice_floors):
            if name not in (*AT_LEAST, *AT_MOST):
                raise UsageError(f"floor {name!r} is no metric: known are {', '.join((*AT_LEAST, *AT_MOST))}")


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
    beaten_by: str | None
    """As the policy has it: the flag stands in the ledger whatever the policy made of it."""

    def to_dict(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        gains = {name: vars(interval) for name, interval in self.gains.items()}
        return dict(vars(self)) | {
            "gain": gains.get(self.metric),
            "gains": gains,
            "challenger": _numbers(self.challenger),
            "slices": {name: _numbers(values) for name, values in self.slices.items()},
        }


def decide(
    challenger: Scored,
    champion: Scored | None,
    policy: DecisionPolicy | None = None,
    *,
    unfit: str | None = None,
) -> Decision:
    """Compare a challenger with the champion.

    Args:
        challenger: its answers to the holdout rows.
        champion: its answers to the same rows in the same order; None if there is none, or if it can't score them.
        policy: margin, confidence and floors.
        unfit: why the champion can't be compared on these rows, where it can't; `champion` is None then.

    Raises:
        DataRefused: there are no rows, or the two were scored on different ones.
    """
    policy = policy or DecisionPolicy()
    if not len(challenger.truth):
        raise DataRefused("no rows to decide on: the holdout is empty")
    metric = "log_loss" if challenger.task == "classification" else "rmse"
    metrics, slices = measure(challenger), measure_slices(challenger)
    # Where the challenger's answers are no numbers there is nothing to resample, and it is rejected below.
    gains = {} if champion is None or not _finite(metrics) else _gains(challenger, champion, policy)
    gain = gains.get(metric)
    outcome, reason = _weigh(metric, metrics, slices, gain, policy, unfit)
    if outcome == "PROMOTE" and policy.beaten_by is not None:
        reason = f"{reason}; but {policy.beaten_by}"
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
        policy.beaten_by,
    )


def _weigh(
    metric: str,
    metrics: Mapping[str, float],
    slices: Mapping[str, Mapping[str, float]],
    gain: Interval | None,
    policy: DecisionPolicy,
    unfit: str | None,
) -> tuple[Outcome, str]:
    if not _finite(metrics):
        return "REJECT", f"{metric} of the challenger can't be told: some of its answers are no finite numbers"
    failed = _below_floors(metrics, policy.floors, "")
    for name, values in slices.items():
        failed = failed or _below_floors(values, policy.slice_floors, f" in slice {name!r}")
    if failed is not None:
        return "REJECT", failed
    if policy.beaten_by is not None and policy.baselines == "hold":
        return "HOLD", policy.beaten_by
    if unfit is not None:
        outcomes: dict[str, Outcome] = {"hold": "HOLD", "promote": "PROMOTE", "reject": "REJECT"}
        reason = f"the champion can't be compared on these rows: {unfit}; the policy for that is {policy.incomparable}"
        if policy.incomparable == "hold":
            reason += " (if the new table is as it should be: --incomparable promote)"
        return outcomes[policy.incomparable], reason
    if gain is None:
        return "PROMOTE", f"the first bundle of this model; {metric} {figure(metrics[metric])}"
    interval = f"{figure(gain.low, signed=True)} to {figure(gain.high, signed=True)} at {policy.confidence:.0%}"
    if gain.low > policy.margin:
        return (
            "PROMOTE",
            f"{metric} is better by {figure(gain.estimate)} ({interval}), above the margin {policy.margin:g}",
        )
    if not gain.estimate:
        return "HOLD", f"no significant gain: {metric} is {figure(metrics[metric])} as before; the champion stays"
    moves = "better" if gain.estimate > 0 else "worse"
    return "HOLD", (
        f"no significant gain: {metric} gets {moves} by {figure(abs(gain.estimate))} (gain {interval}), which isn't "
        f"surely more than the margin {policy.margin:g}; the champion stays"
    )


def incomparable(challenger: Scored, champion: Scored) -> str | None:
    """Why two models can't be weighed against each other; None if they can."""
    if challenger.task != champion.task:
        return f"it is a {champion.task} model, the challenger a {challenger.task} model"
    if not np.isfinite(champion.answers).all():
        return "some of its answers to them are no finite numbers"
    unknown = int((champion.truth < 0).sum()) if champion.task == "classification" else 0
    return f"{unknown:,} rows have a class that it doesn't know" if unknown else None


def measure(scored: Scored) -> dict[str, float]:
    """Log loss and accuracy, AUC for two classes; RMSE and MAE for regression."""
    losses = row_losses(scored)
    if scored.task == "regression":
        errors = scored.answers - scored.truth
        return {"rmse": float(np.sqrt(losses.mean())), "mae": float(np.abs(errors).mean())}
    metrics = {
        "log_loss": float(losses.mean()),
        "accuracy": float((scored.answers.argmax(axis=1) == scored.truth).mean()),
    }
    if scored.answers.shape[1] == 2 and np.isfinite(losses).all() and set(np.unique(scored.truth)) == {0, 1}:
        from sklearn.metrics import roc_auc_score

        metrics["auc"] = float(roc_auc_score(scored.truth, scored.answers[:, 1]))
    return metrics


def measure_slices(scored: Scored) -> dict[str, dict[str, float]]:
    """The same per slice."""
    if scored.slices is None:
        return {}
    parts: dict[str, dict[str, float]] = {}
    for name in np.unique(scored.slices):
        rows = scored.slices == name
        parts[str(name)] = measure(Scored(scored.digest, scored.task, scored.truth[rows], scored.answers[rows]))
    return parts


def row_losses(scored: Scored) -> np.ndarray:
    """`(n_rows,)` float64: minus the log of the true class's probability, or the squared error."""
    if scored.task == "regression":
        return (scored.answers - scored.truth) ** 2
    known = scored.truth >= 0
    chosen = scored.answers[np.arange(len(scored.truth)), np.where(known, scored.truth, 0)]
    return -np.log(np.clip(np.where(known, chosen, 0.0), LEAST_PROBABILITY, 1.0))


def row_costs(scored: Scored) -> dict[str, np.ndarray]:
    """`(n_rows,)` float64 by metric: what each row adds to it; less is better in all of them."""
    losses = row_losses(scored)
    if scored.task == "regression":
        return {"rmse": losses, "mae": np.abs(scored.answers - scored.truth)}
    return {"log_loss": losses, "accuracy": (scored.answers.argmax(axis=1) != scored.truth).astype(np.float64)}


def _gains(challenger: Scored, champion: Scored, policy: DecisionPolicy) -> dict[str, Interval]:
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
            seed=policy.seed,
        )
        for name in after
    }


def _finite(metrics: Mapping[str, float]) -> bool:
    return all(np.isfinite(value) for value in metrics.values())


def _numbers(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
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
