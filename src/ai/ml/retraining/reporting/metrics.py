"""The figures of a report: metrics with intervals, thresholds, slices, quantiles of the residuals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from ai.ml.core.contract import InputContract
from ai.ml.core.number_text import number
from ai.ml.retraining.decision.bootstrap import Interval, Resampling, paired_gain, paired_gain_in_r2
from ai.ml.retraining.decision.metrics import RANK_METRICS, can_rank, has_variance, rank_gain, row_costs
from ai.ml.retraining.decision.predictions import Predictions
from ai.ml.retraining.decision.rank_gain import rank_interval

RANK_RESAMPLES = 500
"""Resamples of metrics that cost more than a mean does."""
MIN_SLICE_ROWS = 5
SLICE_LEVELS = 12
SLICE_COLUMNS = 4
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CONFIDENCES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LABELS = {"rmse": "RMSE", "mae": "MAE", "r2": "R²", "auc": "AUC", "brier score": "Brier score"}
HIGHER_IS_BETTER = frozenset({"accuracy", "balanced accuracy", "auc", "average precision", "r2"})


@dataclass(frozen=True)
class Measure:
    """One metric of one model, and of another on the same rows."""

    @property
    def label(self) -> str:
        """The name as people write it."""
        return LABELS.get(self.name, self.name)

    name: str
    value: Interval
    other: Interval | None = None
    """The other model's."""
    gain: Interval | None = None
    """How much better this one is, paired by row: above 0 is better."""


@dataclass(frozen=True)
class SliceMeasure:
    """The metric of a group of rows that share a column's value."""

    column: str
    level: str
    rows: int
    value: Interval
    other: float | None


def measure_all(scored: Predictions, other: Predictions | None, confidence: float = 0.95) -> list[Measure]:
    """Every metric with its bootstrap interval, and the other model's where there is one."""
    measures: list[Measure] = []
    resampling = Resampling(confidence, groups=scored.groups)
    for name, (values, root) in row_values(scored).items():
        other_values = None if other is None else row_values(other)[name][0]
        gain = None
        if other_values is not None:
            sign = 1 if name not in HIGHER_IS_BETTER else -1
            gain = paired_gain(sign * other_values, sign * values, resampling, root=root)
        beside = None if other_values is None else mean_interval(other_values, root, resampling)
        measures.append(Measure(name, mean_interval(values, root, resampling), beside, gain))
    resampling = replace(resampling, resamples=RANK_RESAMPLES)
    for name in rank_names(scored):
        both = other is not None and name in rank_names(other)
        beside = rank_value(name, other, resampling) if both and other is not None else None
        gain = _rank_gain(name, other, scored, resampling) if both and other is not None else None
        measures.append(Measure(name, rank_value(name, scored, resampling), beside, gain))
    return measures


def row_values(scored: Predictions) -> dict[str, tuple[np.ndarray, bool]]:
    """Metrics that are means over rows: `(n_rows,)` float64, and whether the metric is the root of that mean."""
    costs = row_costs(scored)
    if scored.task == "regression":
        return {"rmse": (costs["rmse"], True), "mae": (costs["mae"], False)}
    return {
        "log loss": (costs["log_loss"], False),
        "accuracy": (1 - costs["accuracy"], False),
        "brier score": (costs["brier"], False),
    }


def mean_interval(values: np.ndarray, root: bool, resampling: Resampling) -> Interval:
    """Mean (or its root) with the percentile interval: the gain over losses of nothing."""
    return paired_gain(values, np.zeros_like(values), resampling, root=root)


def rank_names(scored: Predictions) -> list[str]:
    """The metrics that need more than each row by itself, where the rows determine them."""
    if scored.task == "regression":
        return ["r2"] if has_variance(scored) else []
    return ["auc", "average precision"] if can_rank(scored) else []


def rank_value(name: str, scored: Predictions, resampling: Resampling) -> Interval:
    """The metric with its percentile interval."""
    if name == "r2":
        # R² is the gain over predicting the target's mean.
        mean = np.full_like(scored.answers, scored.truth.mean())
        return paired_gain_in_r2(scored.truth, mean, scored.answers, resampling)
    return rank_interval(RANK_METRICS[name.replace(" ", "_")], scored.truth == 1, scored.answers[:, 1], resampling)


def _rank_gain(name: str, before: Predictions, after: Predictions, resampling: Resampling) -> Interval:
    if name == "r2":
        return paired_gain_in_r2(after.truth, before.answers, after.answers, resampling)
    return rank_gain(name.replace(" ", "_"), before, after, resampling)


def slice_columns(contract: InputContract, table: pa.Table, chosen: str | None) -> list[str]:
    """The chosen column, else the first categories with few levels."""
    if chosen is not None:
        return [chosen] if chosen in table.column_names else []
    categories = [
        column.name
        for column in contract.columns
        if column.kind == "category" and 2 <= len(column.levels or {}) <= SLICE_LEVELS
    ]
    return [name for name in categories if name in table.column_names][:SLICE_COLUMNS]


def measure_slices(
    table: pa.Table, columns: list[str], scored: Predictions, other: Predictions | None, confidence: float = 0.95
) -> list[SliceMeasure]:
    """Accuracy or RMSE of each group, with its interval; groups of fewer than five rows are left out."""
    name = "rmse" if scored.task == "regression" else "accuracy"
    values, root = row_values(scored)[name]
    groups = scored.groups
    other_values = None if other is None else row_values(other)[name][0]
    slices: list[SliceMeasure] = []
    for column in columns:
        texts = np.array(["(missing)" if cell in (None, "") else str(cell) for cell in table[column].to_pylist()])
        for level in np.unique(texts)[: 4 * SLICE_LEVELS]:
            rows = texts == level
            if rows.sum() < MIN_SLICE_ROWS:
                continue
            beside = None
            if other_values is not None:
                beside = float(np.sqrt(other_values[rows].mean()) if root else other_values[rows].mean())
            of_rows = None if groups is None else np.unique(groups[rows], return_inverse=True)[1]
            interval = mean_interval(values[rows], root, Resampling(confidence, groups=of_rows))
            slices.append(SliceMeasure(column, str(level), int(rows.sum()), interval, beside))
    return slices


def threshold_rows(scored: Predictions, classes: list[str]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the threshold table: figures at each cut-off for two classes, at each confidence for more."""
    if len(classes) == 2:
        score, positive = scored.answers[:, 1], scored.truth == 1
        head = ["score at least", "share flagged", "precision", "recall", "specificity", "F1"]
        return head, [[f"{cut:.1f}", *_at_cut(score, positive, cut)] for cut in THRESHOLDS]
    confidence, hits = scored.answers.max(axis=1), scored.answers.argmax(axis=1) == scored.truth
    head = ["confidence at least", "rows answered", "share answered", "accuracy of those"]
    rows: list[list[str]] = []
    for cut in CONFIDENCES:
        answered = confidence >= cut
        accuracy = percent(hits[answered].mean()) if answered.any() else "–"
        rows.append([f"{cut:g}", f"{int(answered.sum()):,}", percent(answered.mean()), accuracy])
    return head, rows


def _at_cut(score: np.ndarray, positive: np.ndarray, cut: float) -> list[str]:
    flagged = score >= cut
    hits = int((flagged & positive).sum())
    precision = hits / flagged.sum() if flagged.any() else float("nan")
    recall = hits / positive.sum() if positive.any() else float("nan")
    specificity = float((~flagged)[~positive].mean()) if (~positive).any() else float("nan")
    total = precision + recall
    f1 = 2 * precision * recall / total if total > 0 else float("nan")
    return [percent(value) for value in (flagged.mean(), precision, recall, specificity, f1)]


def residual_quantiles(scored: Predictions) -> list[list[str]]:
    """Rows of the residuals' quantile table: share, residual, absolute residual."""
    residuals = scored.truth - scored.answers
    signed = np.quantile(residuals, QUANTILES)
    absolute = np.quantile(np.abs(residuals), QUANTILES)
    return [
        [f"{share:.0%}", number(low), number(size)]
        for share, low, size in zip(QUANTILES, signed, absolute, strict=True)
    ]


def percent(value: float) -> str:
    """`93.1 %`; an en dash for what isn't defined."""
    return "–" if value != value else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def interval_text(interval: Interval) -> str:
    """`0.912 (0.881 to 0.940)`; the bounds stay on one line."""
    if interval.low != interval.low:
        return number(interval.estimate)
    return f"{number(interval.estimate)} ({range_text(interval.low, interval.high)})"


def range_text(low: float, high: float) -> str:
    """`0.881 to 0.940`, on one line."""
    return f"{number(low)}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{number(high)}"
