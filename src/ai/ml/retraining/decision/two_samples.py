"""The rise of a loss between two samples without common rows: the unpaired bootstrap.

Efron B, Tibshirani RJ (1993), An Introduction to the Bootstrap, chapter 8: each sample is resampled by itself.
"""

from __future__ import annotations

import numpy as np

from ai.ml.retraining.decision.bootstrap import MAX_UNITS, Interval, Resampling


def unpaired_rise(
    before: np.ndarray, after: np.ndarray, *, root: bool, confidence: float, resamples: int = 2_000, seed: int = 0
) -> Interval:
    """Mean loss after minus mean loss before, with its percentile interval.

    Args:
        before: `(n_before,)` float64, losses of the one sample.
        after: `(n_after,)` float64, losses of the other.
        root: compare the roots of the means (RMSE from squared errors).
        confidence: of the interval.
        resamples: of each sample.
        seed: same seed, same interval.
    """
    rng = np.random.default_rng(seed)
    means = [_resampled_means(losses, resamples, rng) for losses in (before, after)]
    whole = [float(losses.mean()) for losses in (before, after)]
    if root:
        means, whole = [np.sqrt(each) for each in means], [float(np.sqrt(each)) for each in whole]
    return Resampling(confidence).interval(whole[1] - whole[0], means[1] - means[0])


def _resampled_means(losses: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """`(resamples,)` means of losses `(n_rows,)` drawn with replacement, above `MAX_UNITS` rows in groups."""
    units = min(len(losses), MAX_UNITS)
    groups = np.array_split(rng.permutation(losses), units)
    sums, sizes = np.array([group.sum() for group in groups]), np.array([float(len(group)) for group in groups])
    draws = rng.integers(0, units, size=(resamples, units))
    return sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
