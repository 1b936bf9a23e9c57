"""The figures of a report: metrics with intervals, thresholds, slices, quantiles of the residuals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ai.ml.core.contract import InputContract
from ai.ml.core.number_text import number
from ai.ml.retraining.decision.bootstrap import Interval, paired_gain
from ai.ml.retraining.decision.decision import Predictions, row_losses

RANK_RESAMPLES = 200
RANK_ROWS = 5_000
"""AUC and average precision need a sort per resample; above this many rows their interval comes from a sample."""
LEAST_SLICE_ROWS = 5
SLICE_LEVELS = 12
SLICE_COLUMNS = 4
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CONFIDENCES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LABELS = {"rmse": "RMSE", "mae": "MAE", "r2": "R²", "auc": "AUC", "brier score": "Brier score"}
HIGHER_IS_BETTER = frozenset({"accuracy", "balanced accuracy", "auc", "average precision", "r2"})


@dataclass(frozen=True)
class Measure:
    """One metric of one model, beside another's on the same rows."""

    @property
    def label(self) -> str:
        """The name as people write it."""
        return LABELS.get(self.name, self.name)

    name: str
    value: Interval
    other: Interval | None = None
    """The other model's."""
    gain: Interval | None = None
    """How much better this one is, paired by row: above 0 is better. None where the metric isn't a mean over rows."""


@dataclass(frozen=True)
class SliceMeasure:
    """A group of rows."""

    column: str
    level: str
    rows: int
    value: Interval
    other: float | None


def measure_all(scored: Predictions, other: Predictions | None, confidence: float = 0.95) -> list[Measure]:
    """Every metric with its bootstrap interval, and the other model's where there is one."""
    measures: list[Measure] = []
    for name, (values, root) in row_values(scored).items():
        others = None if other is None else row_values(other)[name][0]
        gain = None
        if others is not None:
            sign = 1 if name not in HIGHER_IS_BETTER else -1
            gain = paired_gain(sign * others, sign * values, root=root, confidence=confidence)
        own = mean_interval(values, root, confidence)
        measures.append(Measure(name, own, None if others is None else mean_interval(others, root, confidence), gain))
    for name, rank in rank_metrics(scored).items():
        beside = None if other is None else rank_interval(other, rank, confidence)
        measures.append(Measure(name, rank_interval(scored, rank, confidence), beside))
    return measures


def row_values(scored: Predictions) -> dict[str, tuple[np.ndarray, bool]]:
    """Metrics that are means over rows: `(n_rows,)` float64, and whether the root of the mean is meant."""
    if scored.task == "regression":
        errors = scored.answers - scored.truth
        return {"rmse": (errors**2, True), "mae": (np.abs(errors), False)}
    hits = (scored.answers.argmax(axis=1) == scored.truth).astype(np.float64)
    truth = np.zeros_like(scored.answers)
    known = scored.truth >= 0
    truth[np.flatnonzero(known), scored.truth[known]] = 1.0
    brier = ((scored.answers - truth) ** 2).sum(axis=1)
    return {"log loss": (row_losses(scored), False), "accuracy": (hits, False), "brier score": (brier, False)}


def mean_interval(values: np.ndarray, root: bool, confidence: float) -> Interval:
    """Mean (or its root) with the percentile interval: the gain over losses of nothing."""
    return paired_gain(values, np.zeros_like(values), root=root, confidence=confidence)


RankMetric = Callable[[np.ndarray, np.ndarray], float]


def rank_metrics(scored: Predictions) -> dict[str, RankMetric]:
    """Metrics that need an order of the rows."""
    from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

    if scored.task == "regression":
        return {"r2": lambda truth, answers: float(r2_score(truth, answers))} if len(scored.truth) > 1 else {}
    if scored.answers.shape[1] != 2 or set(np.unique(scored.truth)) != {0, 1}:
        return {}
    return {
        "auc": lambda truth, answers: float(roc_auc_score(truth, answers[:, 1])),
        "average precision": lambda truth, answers: float(average_precision_score(truth, answers[:, 1])),
    }


def rank_interval(scored: Predictions, metric: RankMetric, confidence: float) -> Interval:
    """Percentile interval over resampled rows; resamples with a single class are left out."""
    rng = np.random.default_rng(0)
    size = min(len(scored.truth), RANK_ROWS)
    values: list[float] = []
    for _ in range(RANK_RESAMPLES):
        rows = rng.integers(0, len(scored.truth), size)
        if len(np.unique(scored.truth[rows])) > 1:
            values.append(metric(scored.truth[rows], scored.answers[rows]))
    estimate = metric(scored.truth, scored.answers)
    if not values:
        return Interval(estimate, float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high))


def slice_columns(contract: InputContract, table: pa.Table, chosen: str | None) -> list[str]:
    """The column that was asked for, else the first categories with few levels."""
    if chosen is not None:
        return [chosen] if chosen in table.column_names else []
    found = [
        column.name
        for column in contract.columns
        if column.kind == "category" and 2 <= len(column.levels or {}) <= SLICE_LEVELS
    ]
    return [name for name in found if name in table.column_names][:SLICE_COLUMNS]


def measure_slices(
    table: pa.Table, columns: list[str], scored: Predictions, other: Predictions | None, confidence: float = 0.95
) -> list[SliceMeasure]:
    """Accuracy or RMSE of each group, with its interval; groups of fewer than five rows are left out."""
    name = "rmse" if scored.task == "regression" else "accuracy"
    values, root = row_values(scored)[name]
    others = None if other is None else row_values(other)[name][0]
    found: list[SliceMeasure] = []
    for column in columns:
        texts = np.array(["(missing)" if cell in (None, "") else str(cell) for cell in table[column].to_pylist()])
        for level in np.unique(texts)[: 4 * SLICE_LEVELS]:
            rows = texts == level
            if rows.sum() < LEAST_SLICE_ROWS:
                continue
            beside = None
            if others is not None:
                beside = float(np.sqrt(others[rows].mean()) if root else others[rows].mean())
            interval = mean_interval(values[rows], root, confidence)
            found.append(SliceMeasure(column, str(level), int(rows.sum()), interval, beside))
    return found


def threshold_rows(scored: Predictions, classes: list[str]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the threshold table: two classes, what each cut-off gives; more, what each confidence keeps."""
    if len(classes) == 2:
        score, positive = scored.answers[:, 1], scored.truth == 1
        head = ["score at least", "share flagged", "precision", "recall", "specificity", "F1"]
        return head, [[f"{cut:.1f}", *_at_cut(score, positive, cut)] for cut in THRESHOLDS]
    confidence, hits = scored.answers.max(axis=1), scored.answers.argmax(axis=1) == scored.truth
    head = ["confidence at least", "rows answered", "share answered", "accuracy of those"]
    rows: list[list[str]] = []
    for cut in CONFIDENCES:
        kept = confidence >= cut
        accuracy = percent(hits[kept].mean()) if kept.any() else "–"
        rows.append([f"{cut:g}", f"{int(kept.sum()):,}", percent(kept.mean()), accuracy])
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
