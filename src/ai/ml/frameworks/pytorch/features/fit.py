"""Fitting the preprocessing on training rows, column by column.

Names, vocabulary, medians and scaler have the bits that `DictVectorizer.fit`, a median of the finite values and
`StandardScaler.fit` give on the same rows. The scaled rows are the only dense matrix that is ever made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import StandardScaler

from ai.ml.core.errors import DataRefused
from ai.ml.core.parallel import map_columns
from ai.ml.frameworks.pytorch.features.cells import ColumnCells, feature_name, typed_cells
from ai.ml.frameworks.pytorch.features.matrix import text_indices
from ai.ml.frameworks.pytorch.features.plan import ColumnPlan
from ai.ml.frameworks.pytorch.features.standard_scaler import Features, NumberFeature, OneHotFeatures, fit_scaler

MOST = 1e150
"""Largest training value: the sum of its squares over any number of rows is still a float64."""


@dataclass(frozen=True)
class FittedFeatures:
    """Preprocessing as fitted on the training rows, and those rows as the network sees them."""

    vectorizer: DictVectorizer
    scaler: StandardScaler
    medians: np.ndarray
    """`(input_dim,)` float64, of the finite training values; 0 where a column has none."""
    scaled: np.ndarray
    """`(n_rows, input_dim)` float64."""


@dataclass(frozen=True)
class _Column:
    """A training column: its cells, numbers imputed, and what they add up to."""

    cells: ColumnCells
    median: float = 0.0
    """Of the finite numbers."""
    counts: np.ndarray | None = None
    """`(n_texts,)` int64: rows of each text."""


def fit_features(table: pa.Table) -> FittedFeatures:
    """Fit vectorizer, medians and scaler on a typed table.

    Args:
        table: columns of numbers (float64, null = missing) and of texts (string or dictionary), as a `Conformer` casts.

    Raises:
        DataRefused: no row or no column is left, two columns claim the same feature, or a value is enormous.
    """
    n_rows = table.num_rows
    if table.num_columns and not n_rows:
        raise DataRefused("no row is left to learn from")
    columns = map_columns(lambda name: _prepared(typed_cells(name, table.column(name))), table.column_names, n_rows)
    vectorizer = _vectorizer(columns)
    width = len(vectorizer.feature_names_)
    if not width:
        raise DataRefused("no column is left to learn from")
    medians = np.zeros(width)
    features: list[Features] = []
    for column in columns:
        cells = column.cells
        if cells.numbers is not None:
            index = vectorizer.vocabulary_[cells.name]
            medians[index] = column.median
            features.append(NumberFeature(index, cells.numbers))
        elif cells.codes is not None and column.counts is not None:
            indices = text_indices(vectorizer, cells)[:-1]
            feature = OneHotFeatures(indices, cells.codes, column.counts)
            known = np.unique(indices[indices >= 0])
            medians[known] = _one_hot_medians(feature, n_rows, width)[known]
            features.append(feature)
    scaler = fit_scaler(features, n_rows, width)
    plan = ColumnPlan(vectorizer, medians, scaler)
    plan.take([column.cells for column in columns])
    return FittedFeatures(vectorizer, scaler, medians, plan.matrix(n_rows))


def refuse_enormous(values: np.ndarray, name: str) -> None:
    """Refuse training values whose squares, and with them the variance, overflow.

    Args:
        values: `(n_rows,)` float64, finite.
        name: of the column.

    Raises:
        DataRefused: names the column and its largest value.
    """
    largest = max(values.max(initial=0.0), -values.min(initial=0.0))
    if largest > MOST:
        raise DataRefused(
            f"column {name!r} has values up to {largest:.3g}, more than {MOST:.0e}, whose squares overflow: give it "
            "in another unit, take its logarithm, or exclude it"
        )


def _prepared(cells: ColumnCells) -> _Column:
    if cells.codes is not None:
        counts = np.bincount(cells.codes + 1, minlength=len(cells.texts) + 1)[1:]
        return _Column(cells, counts=counts)
    numbers = np.asarray(cells.numbers)
    finite = np.isfinite(numbers)
    # DictVectorizer adds to a matrix of zeros, where -0.0 becomes 0.0.
    content = numbers[finite] + 0.0
    refuse_enormous(content, cells.name)
    median = float(np.median(content)) if len(content) else 0.0
    imputed = content if len(content) == len(numbers) else np.where(finite, numbers + 0.0, median)
    return _Column(replace(cells, numbers=imputed), median)


def _vectorizer(columns: Sequence[_Column]) -> DictVectorizer:
    """The vectorizer that `DictVectorizer(sparse=False).fit` gives on the same cells as dicts.

    Raises:
        DataRefused: a column's name is that of another column's category.
    """
    vectorizer = DictVectorizer(sparse=False)
    owner: dict[str, str] = {}
    for column in columns:
        cells = column.cells
        used = [] if column.counts is None else np.flatnonzero(column.counts).tolist()
        names = [feature_name(vectorizer, cells.name, cells.texts[code]) for code in used]
        if cells.numbers is not None:
            names.append(cells.name)
        for name in names:
            if owner.setdefault(name, cells.name) != cells.name:
                raise DataRefused(
                    f"columns {owner[name]!r} and {cells.name!r} both give a feature {name!r}: rename one"
                )
    vectorizer.feature_names_ = sorted(owner)
    vectorizer.vocabulary_ = {name: index for index, name in enumerate(vectorizer.feature_names_)}
    return vectorizer


def _one_hot_medians(feature: OneHotFeatures, n_rows: int, width: int) -> np.ndarray:
    """Median of each feature's zeros and ones: `(width,)` float64, 0 for features of other columns."""
    known = feature.indices >= 0
    ones = np.bincount(feature.indices[known], feature.counts[known], width)
    zeros = n_rows - ones
    # The two middle positions of the sorted values, equal for an odd number of values.
    return ((zeros <= (n_rows - 1) // 2).astype(np.float64) + (zeros <= n_rows // 2)) / 2
