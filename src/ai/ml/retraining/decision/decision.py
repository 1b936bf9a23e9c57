"""Challenger against champion on the same rows: PROMOTE, HOLD or REJECT, with the figures behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ai.ml.core.errors import DataRefused
from ai.ml.core.number_text import figure
from ai.ml.retraining.decision.bootstrap import Interval
from ai.ml.retraining.decision.metrics import (
    are_finite,
    deciding_metric,
    finite,
    gains,
    loss_of,
    measure,
    measure_slices,
    unmeasurable,
)
from ai.ml.retraining.decision.predictions import Predictions, unseen_rows
from ai.ml.retraining.settings.decision import AT_LEAST, AT_MOST, DecisionSettings, tolerance_of

Outcome = Literal["PROMOTE", "HOLD", "REJECT"]


@dataclass(frozen=True)
class Decision:
    """The outcome with its reason and all figures behind it."""

    outcome: Outcome
    reason: str
    """One sentence."""
    metric: str
    """The one that decides: `log_loss` or `rmse`, unless the settings name another."""
    rows: int
    challenger: dict[str, float]
    champion: dict[str, float] | None
    champion_digest: str | None
    gain: Interval | None
    """The challenger's gain in `metric`: above 0 is better, also for metrics of which less is better."""
    gains: dict[str, Interval]
    """The same for each metric; it is `metric` alone that decides."""
    slices: dict[str, dict[str, float]]
    better_baseline: str | None
    """A sentence on a simpler model that is significantly better on the same split: in the ledger as `beaten_by`,
    whatever the policy made of it."""
    rule: Literal["better", "not-worse"] = "better"
    """Which policy decided."""
    tolerance: float | None = None
    """Of `not-worse`, in the metric's units."""
    least_gain: float | None = None
    """The minimum gain that would have been significant on these rows."""
    groups: int | None = None
    """How many groups the rows are of, where rows of one were drawn together; None where each row counts by itself."""

    def to_dict(self) -> dict[str, Any]:
        """The decision's document in the ledger."""
        gains = {name: vars(interval) for name, interval in self.gains.items()}
        plain = {"beaten_by" if name == "better_baseline" else name: value for name, value in vars(self).items()}
        return plain | {
            "gain": gains.get(self.metric),
            "gains": gains,
            "challenger": finite(self.challenger),
            "slices": {name: finite(values) for name, values in self.slices.items()},
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
        DataRefused: there are no rows, the two were scored on different ones, or these can't tell the metric.
    """
    policy = policy or DecisionSettings()
    if not len(challenger.truth):
        raise DataRefused("no rows to decide on: the holdout is empty")
    everywhere, slices = measure(challenger, policy), measure_slices(challenger, policy)
    metrics = everywhere
    if champion is not None and seen is not None and seen.any():
        challenger = unseen_rows(challenger, seen)
        metrics = measure(challenger, policy)
    champion_metrics = None if champion is None else measure(champion, policy)
    compared, of_metrics = _compare(challenger, champion, policy, metrics, champion_metrics)
    tolerance = compared.tolerance(policy)
    rejection = _rejection(compared.metric, everywhere, slices, policy)
    outcome, reason = _before_comparing(rejection, better_baseline, incomparable_reason, policy) or _outcome(
        compared, policy, tolerance
    )
    if outcome == "PROMOTE" and better_baseline is not None:
        reason = f"{reason}; but {better_baseline}"
    return Decision(
        outcome,
        reason,
        compared.metric,
        compared.rows,
        metrics,
        champion_metrics,
        None if champion is None else champion.digest,
        compared.gain,
        of_metrics,
        slices,
        better_baseline,
        policy.policy,
        tolerance,
        None if compared.gain is None else least_gain(compared.gain, policy.margin),
        compared.group_count,
    )


def _compare(
    challenger: Predictions,
    champion: Predictions | None,
    policy: DecisionSettings,
    metrics: Mapping[str, float],
    champion_metrics: Mapping[str, float] | None,
) -> tuple[Compared, dict[str, Interval]]:
    """The challenger in the metric that decides, and the gains in all of them; none without a champion."""
    metric, gain_by_metric = deciding_metric(challenger, policy), dict[str, Interval]()
    # Where the challenger's answers are no numbers there is nothing to resample, and it is rejected.
    if champion is not None and champion_metrics is not None and are_finite(metrics):
        if metric not in metrics:
            raise DataRefused(f"these rows can't decide: {unmeasurable(challenger, policy)}")
        gain_by_metric = gains(challenger, champion, policy, [name for name in metrics if name in champion_metrics])
    return Compared(
        metric, metrics.get(metric), gain_by_metric.get(metric), len(challenger.truth), challenger.groups
    ), gain_by_metric


@dataclass(frozen=True, eq=False)
class Compared:
    """The challenger in the metric that decides."""

    metric: str
    value: float | None
    """None where the metric isn't defined for these rows."""
    gain: Interval | None
    """None for the first bundle of a model, and where nothing can be compared."""
    rows: int
    groups: np.ndarray | None

    @property
    def group_count(self) -> int | None:
        """How many groups the rows are of."""
        return None if self.groups is None or not len(self.groups) else int(self.groups.max()) + 1

    @property
    def rows_text(self) -> str:
        """The number of deciding rows and groups, as a phrase."""
        return f"{self.rows:,} rows" + ("" if self.group_count is None else f" of {self.group_count:,} groups")

    def tolerance(self, policy: DecisionSettings) -> float | None:
        """In the metric's units, where not-worse is enough; its per cent are of the champion's loss."""
        if self.gain is None or self.value is None or policy.policy == "better":
            return None
        return tolerance_of(policy.tolerance, loss_of(self.metric, self.value) + self.gain.estimate)


def _before_comparing(
    rejection: str | None, better_baseline: str | None, incomparable_reason: str | None, policy: DecisionSettings
) -> tuple[Outcome, str] | None:
    """The outcome that doesn't depend on the gain; None where the gain decides."""
    if rejection is not None:
        return "REJECT", rejection
    if better_baseline is not None and policy.baselines == "hold":
        return "HOLD", better_baseline
    return None if incomparable_reason is None else _without_comparison(policy, incomparable_reason)


def _rejection(
    metric: str,
    metrics: Mapping[str, float],
    slices: Mapping[str, Mapping[str, float]],
    policy: DecisionSettings,
) -> str | None:
    """Why the challenger is rejected whatever the champion's figures; None if it isn't."""
    if not are_finite(metrics):
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


def _outcome(compared: Compared, policy: DecisionSettings, tolerance: float | None) -> tuple[Outcome, str]:
    """The outcome by the gain over the champion; the gain is None for the first bundle of a model."""
    metric, gain, value = compared.metric, compared.gain, compared.value
    value_text = f"{metric} can't be told of these rows" if value is None else f"{metric} {figure(value)}"
    if gain is None or value is None:
        return "PROMOTE", f"the first bundle of this model; {value_text}"
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
    least = figure(least_gain(gain, policy.margin), 2)
    return "HOLD", (
        f"no significant gain: {moved} (gain {interval}), which isn't surely more than the margin {policy.margin:g}; "
        f"with these {compared.rows_text} a gain below {least} can't be told from none; the champion stays"
    )


def least_gain(gain: Interval, margin: float) -> float:
    """The minimum gain that would have been significant, had the interval been as wide as this one."""
    return margin + gain.estimate - gain.low


def incomparable(challenger: Predictions, champion: Predictions) -> str | None:
    """Why two models can't be compared; None if they can."""
    if challenger.task != champion.task:
        return f"it is a {champion.task} model, the challenger a {challenger.task} model"
    if not np.isfinite(champion.answers).all():
        return "some of its answers to them are no finite numbers"
    unknown = int((champion.truth < 0).sum()) if champion.task == "classification" else 0
    return f"{unknown:,} rows have a class that it doesn't know" if unknown else None


def _below_floors(metrics: Mapping[str, float], floors: Mapping[str, float], where: str) -> str | None:
    for name, limit in floors.items():
        value = metrics.get(name)
        if value is None:
            needs = " (auc needs two classes, and rows of both)" if name == "auc" else ""
            return f"the floor for {name}{where} can't be judged: known here are {', '.join(metrics)}{needs}"
        if (name in AT_LEAST and value < limit) or (name in AT_MOST and value > limit):
            comparison = "below" if name in AT_LEAST else "above"
            return f"{name}{where} is {figure(value)}, {comparison} the limit of {limit:g}"
    return None
