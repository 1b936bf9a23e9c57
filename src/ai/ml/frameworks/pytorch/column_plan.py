"""Straight from columns of cells to scaled features, a block of rows at a time: `scale(impute(encode(…)))` in one pass.

A one-hot feature takes two values only, so both are scaled once and looked up; a number column is imputed and scaled
in place. Every operation is the one of `features`, on the same float64 operands, so the bits are the same; blocks are
small enough to stay in the cache until the network reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import StandardScaler

from ai.ml.frameworks.pytorch.features import ColumnCells, feature_name, impute, scale

FEW_TEXTS = 12
"""Up to so many features a look-up per feature is quicker than setting one cell per row."""


@dataclass(frozen=True)
class _Numbers:
    """A number column and its feature."""

    place: int
    values: np.ndarray
    median: float


@dataclass(frozen=True)
class _Texts:
    """A text column: for each row a code, for each code a feature (or none: -1)."""

    codes: np.ndarray
    places: np.ndarray
    hit: np.ndarray
    """The features that a text of this table has."""
    tables: tuple[tuple[int, np.ndarray], ...]
    """For each of them, where they are few, its scaled value by code."""


class ColumnPlan:
    """How the columns of one table fill a block of scaled features."""

    def __init__(self, vectorizer: DictVectorizer, medians: np.ndarray | None, scaler: StandardScaler):
        width = len(vectorizer.feature_names_)
        self.vectorizer = vectorizer
        self.medians = medians if medians is not None and medians.shape == (width,) else np.zeros(width)
        self.mean = cast(np.ndarray, scaler.mean_) if scaler.with_mean else None
        self.divisor = cast(np.ndarray, scaler.scale_) if scaler.with_std else None
        self.zeros, self.ones = (scale(impute(np.full((1, width), x), self.medians), scaler)[0] for x in (0.0, 1.0))
        self._numbers: list[_Numbers] = []
        self._texts: list[_Texts] = []

    def take(self, columns: Sequence[ColumnCells]) -> bool:
        """Plan for these columns; False where only the general way serves: two of them share a feature, or a column
        has numbers in some rows and texts in others."""
        self._numbers, self._texts = [], []
        claimed: set[int] = set()
        for column in columns:
            place = self.vectorizer.vocabulary_.get(column.name)
            if column.numbers is not None and place is not None:
                if column.is_number is not None or place in claimed:
                    return False
                claimed.add(place)
                self._numbers.append(_Numbers(place, column.numbers, float(self.medians[place])))
            if column.codes is not None:
                texts = self._plan_texts(column)
                if not claimed.isdisjoint(texts.hit.tolist()):
                    return False
                claimed.update(texts.hit.tolist())
                self._texts.append(texts)
        return True

    def _plan_texts(self, column: ColumnCells) -> _Texts:
        get = self.vectorizer.vocabulary_.get
        places = np.array([get(feature_name(self.vectorizer, column.name, text), -1) for text in column.texts] + [-1])
        codes = cast(np.ndarray, column.codes)
        if len(codes) and codes.min() < 0:
            codes = np.where(codes < 0, len(column.texts), codes)
        hit = np.unique(places[places >= 0])
        few = hit.tolist() if len(hit) <= FEW_TEXTS else []
        tables = tuple((place, np.where(places == place, self.ones[place], self.zeros[place])) for place in few)
        return _Texts(codes, places, hit, tables)

    def start(self, block_rows: int) -> np.ndarray:
        """A block `(input_dim, block_rows)` float64 with what no column of this table touches."""
        return np.repeat(self.zeros[:, None], block_rows, axis=1)

    def fill(self, block: np.ndarray, start: int, stop: int) -> None:
        """Put rows `start` to `stop` into the first columns of a block that `start` made."""
        rows = stop - start
        for numbers in self._numbers:
            target = block[numbers.place, :rows]
            values = numbers.values[start:stop]
            finite = np.isfinite(values)
            if not finite.all():
                values = np.where(finite, values, numbers.median)
            if self.mean is not None:
                values = np.subtract(values, self.mean[numbers.place], out=target)
            if self.divisor is not None:
                np.divide(values, self.divisor[numbers.place], out=target)
            elif self.mean is None:
                target[:] = values
        for texts in self._texts:
            codes = texts.codes[start:stop]
            for place, table in texts.tables:
                table.take(codes, out=block[place, :rows], mode="clip")
            if len(texts.hit) > len(texts.tables):
                block[texts.hit, :rows] = self.zeros[texts.hit, None]
                places = texts.places[codes]
                known = np.flatnonzero(places >= 0)
                block[places[known], known] = self.ones[places[known]]
