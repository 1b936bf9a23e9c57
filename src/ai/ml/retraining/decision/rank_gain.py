"""Paired bootstrap of rank metrics: AUC and average precision.

The rows of each class are drawn anew by themselves, so that every resample has both classes in their shares (stratified
bootstrap: Carpenter J, Bithell J (2000), Statistics in Medicine 19:1141; for two ROC curves on the same rows Robin X et
al. (2011), pROC, BMC Bioinformatics 12:77). Groups that hold rows of both classes are drawn whole instead, and a
resample without one of the classes is left out. A resample is a weight for each row, so each model's rows are put in
order once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ai.ml.retraining.decision.bootstrap import USUAL, Interval, Resampling, draw_units

MAX_CELLS = 40_000_000
"""Rows times resamples: above that fewer resamples are drawn, `MIN_RESAMPLES` at the least."""
MIN_RESAMPLES = 200
_BATCH_CELLS = 2_000_000


@dataclass(frozen=True)
class Ranking:
    """Rows in the order of a model's scores, the greatest first."""

    order: np.ndarray
    """`(n_rows,)` int64."""
    starts: np.ndarray
    """`(n_ties,)` int64: where in the order each score begins."""
    positive: np.ndarray
    """`(n_rows,)` bool, in the order."""

    @classmethod
    def of(cls, positive: np.ndarray, scores: np.ndarray) -> Ranking:
        """Order rows by `(n_rows,)` scores; `positive` is `(n_rows,)` bool."""
        order = np.argsort(-scores, kind="stable")
        starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
        return cls(order, starts, positive[order])

    def tied(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights `(n, n_ties)` of the positive and of the negative rows of each score, from those of rows."""
        ordered = weights[:, self.order]
        parts = np.where(self.positive, ordered, 0.0), np.where(self.positive, 0.0, ordered)
        if len(self.starts) == len(self.order):
            return parts
        of_positive, of_negative = (np.add.reduceat(part, self.starts, axis=1) for part in parts)
        return of_positive, of_negative


RankMetric = Callable[[Ranking, np.ndarray], np.ndarray]
"""`(n,)` float64 from a ranking and `(n, n_rows)` float64 weights of its rows; NaN where a class has no weight."""


def auc(ranking: Ranking, weights: np.ndarray) -> np.ndarray:
    """The area under the ROC curve: how often a positive row is ranked above a negative one, ties half."""
    positive, negative = ranking.tied(weights)
    below = negative.sum(axis=1, keepdims=True) - np.cumsum(negative, axis=1)
    won = (positive * (below + negative / 2)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return won / (positive.sum(axis=1) * negative.sum(axis=1))


def average_precision(ranking: Ranking, weights: np.ndarray) -> np.ndarray:
    """The mean of the precision over the positive rows, each at its own score, as scikit-learn has it."""
    positive, negative = ranking.tied(weights)
    hits = np.cumsum(positive, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = hits / (hits + np.cumsum(negative, axis=1))
        return np.where(positive > 0, positive * precision, 0.0).sum(axis=1) / positive.sum(axis=1)


def paired_rank_gain(
    metric: RankMetric, positive: np.ndarray, before: np.ndarray, after: np.ndarray, resampling: Resampling = USUAL
) -> Interval:
    """The metric of the one after minus that of the one before, with its interval.

    Args:
        metric: `auc` or `average_precision`.
        positive: `(n_rows,)` bool, some of either.
        before: `(n_rows,)` float64, scores of the one.
        after: `(n_rows,)` float64, scores of the other.
        resampling: the rows are drawn; fewer times where there are very many.
    """
    rankings = [Ranking.of(positive, scores) for scores in (before, after)]
    all_rows = np.ones((1, len(positive)))
    first, second = (float(metric(ranking, all_rows)[0]) for ranking in rankings)
    values = [
        metric(rankings[1], weights) - metric(rankings[0], weights)
        for weights in resampled_weights(positive, resampling)
    ]
    return resampling.interval(second - first, np.concatenate(values))


def rank_interval(
    metric: RankMetric, positive: np.ndarray, scores: np.ndarray, resampling: Resampling = USUAL
) -> Interval:
    """The metric of `(n_rows,)` scores with its interval; `positive` is `(n_rows,)` bool, some of either."""
    ranking = Ranking.of(positive, scores)
    values = np.concatenate([metric(ranking, weights) for weights in resampled_weights(positive, resampling)])
    return resampling.interval(float(metric(ranking, np.ones((1, len(positive))))[0]), values)


def resampled_weights(positive: np.ndarray, resampling: Resampling) -> Iterator[np.ndarray]:
    """Weights `(n, n_rows)` float64 of resampled rows, in batches of resamples."""
    rng, rows = np.random.default_rng(resampling.seed), len(positive)
    left = min(resampling.resamples, max(MIN_RESAMPLES, MAX_CELLS // rows))
    at_once = max(1, _BATCH_CELLS // rows)
    while left > 0:
        many = min(left, at_once)
        left -= many
        if resampling.groups is not None:
            yield draw_units(int(resampling.groups.max()) + 1, many, rng)[:, resampling.groups]
            continue
        weights = np.empty((many, rows))
        for part in (positive, ~positive):
            weights[:, part] = draw_units(int(part.sum()), many, rng)
        yield weights
