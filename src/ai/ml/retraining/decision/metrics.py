"""The metrics of a decision, and the gain of one model over another in each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ai.ml.core.errors import DataRefused
from ai.ml.retraining.decision.bootstrap import Interval, Resampling, paired_gain, paired_gain_in_r2
from ai.ml.retraining.decision.costs import answer_costs
from ai.ml.retraining.decision.predictions import Predictions, rows_of
from ai.ml.retraining.decision.rank_gain import Ranking, auc, average_precision, paired_rank_gain
from ai.ml.retraining.settings.decision import AT_LEAST, METRICS, NO_COSTS, DecisionSettings

MIN_PROBABILITY = 1e-12
"""Lower limit of probabilities in the log loss, so that a class that a model rules out costs a finite loss."""
SHOWN = {"classification": ("log_loss", "accuracy", "auc"), "regression": ("rmse", "mae")}
"""Metrics that every decision shows, beside those of its settings."""
RANK_METRICS = {"auc": auc, "average_precision": average_precision}


def deciding_metric(predictions: Predictions, policy: DecisionSettings) -> str:
    """The metric that decides."""
    if policy.metric != "auto":
        return policy.metric
    return "log_loss" if predictions.task == "classification" else "rmse"


def measure(
    predictions: Predictions, policy: DecisionSettings | None = None, more: Sequence[str] = ()
) -> dict[str, float]:
    """Log loss and accuracy, AUC for two classes; RMSE and MAE for a regression; and what policy and `more` name.

    Metrics that aren't defined for these rows are left out: a rank needs rows of two classes, R² two different values.
    """
    policy = policy or DecisionSettings()
    names = (policy.metric, *policy.floors, *policy.slice_floors, *(("cost",) if policy.costs else ()), *more)
    costs = row_costs(predictions, policy.quantile, policy.costs)
    metrics: dict[str, float] = {}
    for name in dict.fromkeys((*SHOWN[predictions.task], *names)):
        if name in costs:
            mean = float(costs[name].mean())
            metrics[name] = float(np.sqrt(mean)) if name == "rmse" else 1 - mean if name == "accuracy" else mean
        elif name in RANK_METRICS and can_rank(predictions):
            ranking = Ranking.of(predictions.truth == 1, predictions.answers[:, 1])
            metrics[name] = float(RANK_METRICS[name](ranking, np.ones((1, len(predictions.truth))))[0])
        elif name == "r2" and has_variance(predictions):
            metrics[name] = float(1 - costs["rmse"].mean() / predictions.truth.var())
    return metrics


def measure_slices(predictions: Predictions, policy: DecisionSettings | None = None) -> dict[str, dict[str, float]]:
    """The metrics of each slice; none without slices."""
    if predictions.slices is None:
        return {}
    names = np.unique(predictions.slices)
    return {str(name): measure(rows_of(predictions, predictions.slices == name), policy) for name in names}


def row_losses(predictions: Predictions) -> np.ndarray:
    """`(n_rows,)` float64: minus the log of the true class's probability, or the squared error."""
    if predictions.task == "regression":
        return (predictions.answers - predictions.truth) ** 2
    has_known_class = predictions.truth >= 0
    chosen = predictions.answers[np.arange(len(predictions.truth)), np.where(has_known_class, predictions.truth, 0)]
    return -np.log(np.clip(np.where(has_known_class, chosen, 0.0), MIN_PROBABILITY, 1.0))


def row_costs(
    predictions: Predictions, quantile: float = 0.5, costs: Mapping[str, float] = NO_COSTS
) -> dict[str, np.ndarray]:
    """`(n_rows,)` float64 by metric: each row's contribution; less is better in all of them.

    Raises:
        UsageError: a key of `costs` names none of the classes.
    """
    losses = row_losses(predictions)
    if predictions.task == "regression":
        errors = predictions.truth - predictions.answers
        pinball = np.maximum(quantile * errors, (quantile - 1) * errors)
        return {"rmse": losses, "mae": np.abs(errors), "pinball": pinball}
    has_known_class = predictions.truth >= 0
    truth = np.zeros_like(predictions.answers)
    truth[np.flatnonzero(has_known_class), predictions.truth[has_known_class]] = 1.0
    return {
        "log_loss": losses,
        "accuracy": (predictions.answers.argmax(axis=1) != predictions.truth).astype(np.float64),
        "brier": ((predictions.answers - truth) ** 2).sum(axis=1),
        **({"cost": answer_costs(predictions, costs)} if costs else {}),
    }


def gains(
    challenger: Predictions, champion: Predictions, policy: DecisionSettings, names: Iterable[str]
) -> dict[str, Interval]:
    """How much better the challenger is in each metric, above 0 in all of them; from paired resamples.

    Args:
        challenger: its answers.
        champion: its answers to the same rows in the same order.
        policy: confidence, resamples and quantile.
        names: metrics that `measure` gave for both.

    Raises:
        DataRefused: the two were scored on different rows.
    """
    if len(challenger.truth) != len(champion.truth):
        raise DataRefused(
            f"challenger and champion were scored on {len(challenger.truth)} and {len(champion.truth)} rows"
        )
    resampling = Resampling(policy.confidence, policy.resamples, groups=challenger.groups)
    costs = [row_costs(each, policy.quantile, policy.costs) for each in (champion, challenger)]
    gain_by_metric: dict[str, Interval] = {}
    for name in names:
        if name in RANK_METRICS:
            gain_by_metric[name] = rank_gain(name, champion, challenger, resampling)
        elif name == "r2":
            gain_by_metric[name] = paired_gain_in_r2(challenger.truth, champion.answers, challenger.answers, resampling)
        else:
            gain_by_metric[name] = paired_gain(costs[0][name], costs[1][name], resampling, root=name == "rmse")
    return gain_by_metric


def rank_gain(name: str, before: Predictions, after: Predictions, resampling: Resampling) -> Interval:
    """The gain in AUC or average precision, of two models that know the same two classes."""
    positive = after.truth == 1
    return paired_rank_gain(RANK_METRICS[name], positive, before.answers[:, 1], after.answers[:, 1], resampling)


def unmeasurable(predictions: Predictions, policy: DecisionSettings) -> str | None:
    """Why the configured metric isn't defined for these rows; None where it is."""
    metric = deciding_metric(predictions, policy)
    if _is_measurable(metric, predictions):
        return None
    if metric in RANK_METRICS:
        return f"{metric} needs two classes, and rows of both"
    if metric == "r2" and predictions.task == "regression":
        return "r2 needs rows of two different values"
    return f"{metric} is no metric of a {predictions.task}: {', '.join(METRICS[predictions.task])}"


def _is_measurable(name: str, predictions: Predictions) -> bool:
    """Whether `measure` gives this metric for these rows, found without measuring it."""
    if name in RANK_METRICS:
        return can_rank(predictions)
    return has_variance(predictions) if name == "r2" else name in METRICS[predictions.task]


def loss_of(name: str, value: float) -> float:
    """One minus the value of a metric of which more is better; the value itself where less is better."""
    return 1 - value if name in AT_LEAST else value


def are_finite(metrics: Mapping[str, float]) -> bool:
    """Whether all of them are numbers."""
    return all(np.isfinite(value) for value in metrics.values())


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The metrics with None for what isn't finite: JSON has no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}


def can_rank(predictions: Predictions) -> bool:
    """Whether AUC and average precision are defined: two classes, rows of both, answers that are numbers."""
    return (
        predictions.task == "classification"
        and predictions.answers.shape[1] == 2
        and bool(np.isfinite(predictions.answers).all())
        and set(np.unique(predictions.truth)) == {0, 1}
    )


def has_variance(predictions: Predictions) -> bool:
    """Whether R² is defined: a regression with rows of two different values."""
    return predictions.task == "regression" and len(np.unique(predictions.truth)) > 1
