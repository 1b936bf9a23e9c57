"""Paired bootstrap of the difference between two models on the same rows.

Efron B, Tibshirani RJ (1993), An Introduction to the Bootstrap, chapter 13 (percentile interval). The rows are
resampled in pairs, so what makes a row hard for both models cancels. Above `MAX_UNITS` rows, random groups of equal
size are resampled instead of single rows: the variance of a mean is the same, and the cost no longer grows with n.
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


def paired_gain(
    before: np.ndarray,
    after: np.ndarray,
    *,
    root: bool,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Mean loss before minus mean loss after, with its interval.

    Args:
        before: `(n_rows,)` float64, losses of the one.
        after: `(n_rows,)` float64, losses of the other on the same rows.
        root: compare the roots of the means (RMSE from squared errors).
        confidence: of the interval.
        resamples: of the rows.
        seed: same seed, same interval.
    """
    rng = np.random.default_rng(seed)
    sums, sizes = _units(np.stack([before, after], axis=1), rng)
    units = len(sizes)
    draws = rng.integers(0, units, size=(resamples, units))
    offsets = np.arange(resamples)[:, None] * units
    weights = np.bincount((draws + offsets).ravel(), minlength=resamples * units).reshape(resamples, units)
    means = (weights @ sums) / (weights @ sizes)[:, None]
    overall = sums.sum(axis=0) / sizes.sum()
    if root:
        means, overall = np.sqrt(means), np.sqrt(overall)
    gains = means[:, 0] - means[:, 1]
    tail = (1 - confidence) / 2
    low, high = np.quantile(gains, [tail, 1 - tail])
    return Interval(float(overall[0] - overall[1]), float(low), float(high))


def _units(losses: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sums `(n_units, 2)` and sizes `(n_units,)` of what is resampled."""
    rows = len(losses)
    if rows <= MAX_UNITS:
        return losses, np.ones(rows)
    group = rng.permutation(rows) * MAX_UNITS // rows
    sums = np.stack([np.bincount(group, weights=column, minlength=MAX_UNITS) for column in losses.T], axis=1)
    return sums, np.bincount(group, minlength=MAX_UNITS).astype(np.float64)
