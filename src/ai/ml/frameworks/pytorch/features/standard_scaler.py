"""A `StandardScaler` from columns of cells, with the bits of its own `fit` on the dense matrix, which is never made.

scikit-learn's sums run down the rows of the matrix one after the other. So do these, over blocks of rows that stay in
the cache. A one-hot feature takes two values only: its sum is a count, and its deviations are looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import StandardScaler

from ai.ml.core.parallel import map_columns, thread_count

BLOCK_BYTES = 1 << 19


@dataclass(frozen=True)
class NumberFeature:
    """A feature that is a column of numbers."""

    index: int
    values: np.ndarray
    """`(n_rows,)` float64, finite, without -0.0."""


@dataclass(frozen=True)
class OneHotFeatures:
    """The features of a column of texts."""

    indices: np.ndarray
    """`(n_texts,)` int64: the feature of each text, -1 for none."""
    codes: np.ndarray
    """`(n_rows,)` int64 into the texts, -1 for none."""
    counts: np.ndarray
    """`(n_texts,)` int64: rows of each text."""


Features = NumberFeature | OneHotFeatures


def fit_scaler(features: Sequence[Features], n_rows: int, width: int) -> StandardScaler:
    """`StandardScaler().fit(matrix)` for the C-ordered matrix `(n_rows, width)` of these features.

    Args:
        features: one for every column of the matrix.
        n_rows: at least 1.
        width: number of features.
    """
    if width == 1:
        # numpy sums a single column pairwise, not in order.
        return StandardScaler().fit(_only_column(features[0])[:, None])
    mean, variance = np.empty(width), np.empty(width)
    groups = [_Group(part, n_rows) for part in _shared_out(features, thread_count())]
    for group, moments in zip(groups, map_columns(_Group.moments, groups, n_rows), strict=True):
        mean[group.indices], variance[group.indices] = moments
    # Fitted on anything of this width for its other attributes.
    scaler = StandardScaler().fit(np.zeros((2, width)))
    scaler.n_samples_seen_ = type(scaler.n_samples_seen_)(n_rows)
    scaler.mean_, scaler.var_, scaler.scale_ = mean, variance, _divisors(mean, variance, n_rows)
    return scaler


class _Group:
    """Some of the features side by side, the numbers first; one more column takes the rows without a text."""

    def __init__(self, features: Sequence[Features], n_rows: int):
        self.n_rows = n_rows
        self.numbers = [feature for feature in features if isinstance(feature, NumberFeature)]
        texts = [feature for feature in features if isinstance(feature, OneHotFeatures)]
        hot = [np.unique(feature.indices[feature.indices >= 0]) for feature in texts]
        self.indices = np.concatenate([np.array([number.index for number in self.numbers], dtype=np.int64), *hot])
        self.width = len(self.indices) + 1
        local = np.full(int(self.indices.max(initial=0)) + 2, self.width - 1)
        local[self.indices] = np.arange(self.width - 1)
        # Index -1 and code -1 are the last entries.
        self.texts = [(local[np.append(feature.indices, -1)], feature) for feature in texts]

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the features at `indices`."""
        block_rows = max(16, BLOCK_BYTES // (8 * self.width))
        mean = self._sums(block_rows) / self.n_rows
        correction, squares = self._deviations(mean, block_rows)
        squares -= correction**2 / self.n_rows
        return mean[:-1], (squares / self.n_rows)[:-1]

    def _sums(self, block_rows: int) -> np.ndarray:
        totals = np.zeros(self.width)
        # At least two columns, or numpy sums pairwise.
        block = np.zeros((block_rows + 1, max(2, len(self.numbers))))
        for start in range(0, self.n_rows if self.numbers else 0, block_rows):
            stop = min(start + block_rows, self.n_rows)
            for index, number in enumerate(self.numbers):
                block[1 : stop - start + 1, index] = number.values[start:stop]
            block[0] = block[: stop - start + 1].sum(axis=0)
        totals[: len(self.numbers)] = block[0, : len(self.numbers)]
        for local, text in self.texts:
            totals += np.bincount(local[:-1], text.counts, self.width)
        return totals

    def _deviations(self, mean: np.ndarray, block_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Sums of the deviations from the mean and of their squares: `(width,)` each."""
        correction, squares = np.zeros(self.width), np.zeros(self.width)
        block = np.empty((block_rows + 1, self.width))
        absent, present = 0.0 - mean, 1.0 - mean
        row_starts = np.arange(1, block_rows + 1) * self.width
        for start in range(0, self.n_rows, block_rows):
            rows = min(block_rows, self.n_rows - start)
            used = block[: rows + 1]
            used[1:, len(self.numbers) :] = absent[len(self.numbers) :]
            for index, number in enumerate(self.numbers):
                np.subtract(number.values[start : start + rows], mean[index], out=used[1:, index])
            for local, text in self.texts:
                hit = local.take(text.codes[start : start + rows], mode="wrap")
                block.reshape(-1)[row_starts[:rows] + hit] = present.take(hit)
            used[0] = correction
            correction = used.sum(axis=0)
            np.square(used[1:], out=used[1:])
            used[0] = squares
            squares = used.sum(axis=0)
        return correction, squares


def _shared_out(features: Sequence[Features], parts: int) -> list[list[Features]]:
    """The features in at most `parts` lists of about the same width."""
    lists: list[list[Features]] = [[] for _ in range(parts)]
    widths = [0] * parts
    for feature in sorted(features, key=_width, reverse=True):
        least = widths.index(min(widths))
        lists[least].append(feature)
        widths[least] += _width(feature)
    return [part for part in lists if part]


def _width(feature: Features) -> int:
    return 1 if isinstance(feature, NumberFeature) else len(feature.indices)


def _only_column(feature: Features) -> np.ndarray:
    if isinstance(feature, NumberFeature):
        return feature.values
    return (np.append(feature.indices, -1) >= 0).astype(np.float64)[feature.codes]


def _divisors(mean: np.ndarray, variance: np.ndarray, n_rows: int) -> np.ndarray:
    """`scale_` as scikit-learn derives it: 1 where the variance is no more than the error of its computation."""
    epsilon = np.finfo(np.float64).eps
    constant = variance <= n_rows * epsilon * variance + (n_rows * mean * epsilon) ** 2
    return np.where(constant, 1.0, np.sqrt(variance))
