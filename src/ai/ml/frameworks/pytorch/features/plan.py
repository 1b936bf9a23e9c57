"""Straight from columns of cells to scaled features, a block of rows at a time: `scale(impute(encode(…)))` in one pass.

A one-hot feature takes two values only, so both are scaled once and looked up; a number column is imputed and scaled
in place. Every operation is the one of `matrix`, on the same float64 operands, so the bits are the same; blocks are
small enough to stay in the cache until the network reads them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import StandardScaler

from ai.ml.core.parallel import map_columns, thread_count
from ai.ml.frameworks.pytorch.features.cells import ColumnCells
from ai.ml.frameworks.pytorch.features.matrix import scale, text_indices

FEW_TEXTS = 12
"""Up to so many features a look-up per feature is quicker than setting one cell per row."""
BLOCK_BYTES = 2 << 20
"""Of features at a time: small enough to stay in the cache until the network reads them."""
PADDING = 16
MATRIX_TILE = 1024
"""Rows that are turned from columns into rows at once."""


@dataclass(frozen=True)
class _Numbers:
    """A number column and its feature."""

    index: int
    values: np.ndarray
    """`(n_rows,)` float64, finite."""


@dataclass(frozen=True)
class _Texts:
    """A text column: for each row a code, for each code a feature (or none: -1)."""

    codes: np.ndarray
    indices: np.ndarray
    hit: np.ndarray
    """The features that a text of this table has."""
    tables: tuple[tuple[int, np.ndarray], ...]
    """For each of them, where they are few, its scaled value by code."""


class ColumnPlan:
    """How the columns of one table fill tiles of scaled features."""

    def __init__(self, vectorizer: DictVectorizer, medians: np.ndarray | None, scaler: StandardScaler):
        width = len(vectorizer.feature_names_)
        self.vectorizer = vectorizer
        self.medians = medians if medians is not None and medians.shape == (width,) else np.zeros(width)
        self.mean = cast(np.ndarray, scaler.mean_) if scaler.with_mean else None
        self.divisor = cast(np.ndarray, scaler.scale_) if scaler.with_std else None
        self.zeros, self.ones = (scale(np.full((1, width), x), scaler)[0] for x in (0.0, 1.0))
        self._numbers: list[_Numbers] = []
        self._texts: list[_Texts] = []

    def take(self, columns: Sequence[ColumnCells]) -> bool:
        """Plan for these columns; False where only the general way serves: two of them share a feature, or a column
        has numbers in some rows and texts in others."""
        self._numbers, self._texts = [], []
        claimed: set[int] = set()
        for column in columns:
            index = self.vectorizer.vocabulary_.get(column.name)
            if column.numbers is not None and index is not None:
                if column.is_number is not None or index in claimed:
                    return False
                claimed.add(index)
                self._numbers.append(self._plan_numbers(index, column.numbers))
            if column.codes is not None:
                texts = self._plan_texts(column)
                if not claimed.isdisjoint(texts.hit.tolist()):
                    return False
                claimed.update(texts.hit.tolist())
                self._texts.append(texts)
        return True

    def filler(
        self, rows: int, tile_rows: int, dtype: np.dtype, first: int = 0
    ) -> Callable[[np.ndarray, int, int], None]:
        """`fill(tile, start, stop)`, which fills tiles `(tile_rows, input_dim)` of `dtype` with rows, in order.

        The first tile starts at row `first`. Features are made column by column for a few tiles at once, then turned
        into rows.
        """
        width = len(self.zeros)
        tiles = max(1, min(BLOCK_BYTES // (width * tile_rows * dtype.itemsize or 1), -(-rows // tile_rows)))
        block_rows = tiles * tile_rows
        # Columns a power of two apart would share a few lines of the cache.
        block = np.empty((width, block_rows + PADDING), dtype)
        with np.errstate(over="ignore"):
            block[:] = self.zeros[:, None]
        scratch = np.empty(block_rows)

        def fill(tile: np.ndarray, start: int, stop: int) -> None:
            offset = (start - first) % block_rows
            if offset == 0:
                self._fill_block(block, scratch, start, min(start + block_rows, rows))
            np.copyto(tile[: stop - start], block[:, offset : offset + stop - start].T)

        return fill

    def matrix(self, rows: int) -> np.ndarray:
        """All rows as the network reads them: `(rows, input_dim)` float64."""
        matrix = np.empty((rows, len(self.zeros)))
        pieces = np.linspace(0, -(-rows // MATRIX_TILE), 2 * thread_count() + 1).astype(np.int64) * MATRIX_TILE

        def fill_piece(bounds: tuple[int, int]) -> None:
            first, last = bounds[0], min(bounds[1], rows)
            fill = self.filler(rows, MATRIX_TILE, matrix.dtype, first)
            for start in range(first, last, MATRIX_TILE):
                fill(matrix[start : start + MATRIX_TILE], start, min(start + MATRIX_TILE, last))

        map_columns(fill_piece, list(itertools.pairwise(pieces.tolist())), rows)
        return matrix

    def _plan_numbers(self, index: int, values: np.ndarray) -> _Numbers:
        finite = np.isfinite(values)
        if not finite.all():
            values = np.where(finite, values, self.medians[index])
        if self.mean is None or self.mean[index] == 0:
            # DictVectorizer adds to a matrix of zeros, where -0.0 becomes 0.0; any other mean takes the sign away too.
            values = values + 0.0
        return _Numbers(index, values)

    def _plan_texts(self, column: ColumnCells) -> _Texts:
        indices = text_indices(self.vectorizer, column)
        codes = cast(np.ndarray, column.codes)
        if len(codes) and codes.min() < 0:
            codes = np.where(codes < 0, len(column.texts), codes)
        hit = np.unique(indices[indices >= 0])
        few = hit.tolist() if len(hit) <= FEW_TEXTS else []
        tables = tuple((index, np.where(indices == index, self.ones[index], self.zeros[index])) for index in few)
        return _Texts(codes, indices, hit, tables)

    def _fill_block(self, block: np.ndarray, scratch: np.ndarray, start: int, stop: int) -> None:
        for numbers in self._numbers:
            self._fill_numbers(numbers, block[numbers.index, : stop - start], scratch[: stop - start], start, stop)
        for texts in self._texts:
            self._fill_texts(texts, block[:, : stop - start], start, stop)

    def _fill_numbers(self, numbers: _Numbers, target: np.ndarray, scratch: np.ndarray, start: int, stop: int) -> None:
        values, index = numbers.values[start:stop], numbers.index
        if self.mean is not None:
            values = np.subtract(values, self.mean[index], out=scratch)
        if self.divisor is not None:
            np.divide(values, self.divisor[index], out=target, casting="same_kind")
        else:
            np.copyto(target, values, casting="same_kind")

    def _fill_texts(self, texts: _Texts, block: np.ndarray, start: int, stop: int) -> None:
        codes = texts.codes[start:stop]
        for index, table in texts.tables:
            table.astype(block.dtype).take(codes, out=block[index], mode="clip")
        if len(texts.hit) > len(texts.tables):
            block[texts.hit] = self.zeros[texts.hit, None]
            indices = texts.indices[codes]
            known = np.flatnonzero(indices >= 0)
            block[indices[known], known] = self.ones[indices[known]]
