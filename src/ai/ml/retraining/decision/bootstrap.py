"""Paired bootstrap of the difference between two models on the same rows.

Efron B, Tibshirani RJ (1993), An Introduction to the Bootstrap, chapter 13 (percentile interval). The rows are
resampled in pairs, so what makes a row hard for both models cancels. Rows that hang together are resampled together
(Davison AC, Hinkley DV (1997), Bootstrap Methods and their Application, section 3.8): a hundred rows of one customer
say little more than one. Above `MAX_UNITS` rows, random groups of equal size are resampled instead of single rows: the
variance of a mean is the same, and the cost no longer grows with n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_UNITS = 2_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its percentile interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Resampling:
    """The settings of a bootstrap."""

    confidence: float = 0.95
    """The confidence level of the interval."""
    resamples: int = 2_000
    seed: int = 0
    """The same seed gives the same interval."""
    groups: np.ndarray | None = None
    """`(n_rows,)` int64 from 0 on: rows of one number are drawn together; None where each is drawn by itself."""

    def interval(self, estimate: float, values: np.ndarray) -> Interval:
        """The percentile interval of `(n,)` resampled values; NaN is left out."""
        values = values[np.isfinite(values)]
        if not len(values):
            return Interval(estimate, float("nan"), float("nan"))
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(values, [tail, 1 - tail])
        return Interval(estimate, float(low), float(high))


USUAL = Resampling()


def paired_gain(before: np.ndarray, after: np.ndarray, resampling: Resampling = USUAL, *, root: bool) -> Interval:
    """Mean loss before minus mean loss after, with its interval.

    Args:
        before: `(n_rows,)` float64, losses of the one.
        after: `(n_rows,)` float64, losses of the other on the same rows.
        resampling: the rows are drawn.
        root: compare the roots of the means (RMSE from squared errors).
    """
    overall, means = _resampled_means(np.stack([before, after], axis=1), resampling)
    if root:
        means, overall = np.sqrt(means), np.sqrt(overall)
    return resampling.interval(float(overall[0] - overall[1]), means[:, 0] - means[:, 1])


def paired_gain_in_r2(
    truth: np.ndarray, before: np.ndarray, after: np.ndarray, resampling: Resampling = USUAL
) -> Interval:
    """R² after minus R² before, with its interval: each resample has the variance of its own rows.

    Args:
        truth: `(n_rows,)` float64, not all equal.
        before: `(n_rows,)` float64, answers of the one.
        after: `(n_rows,)` float64, answers of the other.
        resampling: the rows are drawn.
    """
    centred = truth - truth.mean()
    columns = [(before - truth) ** 2, (after - truth) ** 2, centred, centred**2]
    overall, means = _resampled_means(np.stack(columns, axis=1), resampling)

    def gain(values: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (values[..., 0] - values[..., 1]) / (values[..., 3] - values[..., 2] ** 2)

    return resampling.interval(float(gain(overall)), gain(means))


def _resampled_means(columns: np.ndarray, resampling: Resampling) -> tuple[np.ndarray, np.ndarray]:
    """Means `(n_columns,)` of all rows, and `(resamples, n_columns)` of the resamples."""
    rng = np.random.default_rng(resampling.seed)
    sums, sizes = _units(columns, resampling.groups, rng)
    units = len(sizes)
    weights = draw_units(units, resampling.resamples, rng)
    return sums.sum(axis=0) / sizes.sum(), (weights @ sums) / (weights @ sizes)[:, None]


def draw_units(units: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each unit is drawn, `(resamples, units)` float64: as many of them as there are, with replacement."""
    draws = rng.integers(0, units, size=(resamples, units)) + np.arange(resamples)[:, None] * units
    counts = np.bincount(draws.ravel(), minlength=resamples * units)
    return counts.reshape(resamples, units).astype(np.float64)


def _units(columns: np.ndarray, groups: np.ndarray | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sums `(n_units, n_columns)` and sizes `(n_units,)` of the units that are resampled: rows or groups."""
    rows = len(columns)
    many = rows if groups is None else int(groups.max()) + 1
    if groups is None and rows <= MAX_UNITS:
        return columns, np.ones(rows)
    unit = np.arange(many)
    if many > MAX_UNITS:
        unit = rng.permutation(many) * MAX_UNITS // many
    unit = unit if groups is None else unit[groups]
    count = min(many, MAX_UNITS)
    sums = np.stack([np.bincount(unit, weights=column, minlength=count) for column in columns.T], axis=1)
    return sums, np.bincount(unit, minlength=count).astype(np.float64)
