"""Tables and rows to the float64 matrix that the network reads: vectorize, impute, scale, column by column.

The vectorizer stays a plain `sklearn.feature_extraction.DictVectorizer`, but no row ever becomes a dict: a column of
numbers fills one column of the matrix, a column of texts is dictionary-encoded and sets one cell per row through a
look-up table. The values are exactly those of `DictVectorizer.transform`, impute and `StandardScaler.transform` on
float64 input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import StandardScaler

from ai.ml.core.errors import BundleRefused, DataRefused
from ai.ml.frameworks.pytorch.column_cells import (
    ColumnCells,
    feature_name,
    known_columns,
    raw_columns,
    row_columns,
    typed_cells,
)

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


def fit_features(table: pa.Table) -> FittedFeatures:
    """Fit vectorizer, medians and scaler on a typed table.

    Args:
        table: columns of numbers (float64, null = missing) and of texts (string or dictionary), as `conform` gives it.

    Raises:
        DataRefused: no row or no column is left, or two columns claim the same feature.
    """
    if table.num_columns and not table.num_rows:
        raise DataRefused("no row is left to learn from")
    columns = [typed_cells(name, table.column(name)) for name in table.column_names]
    vectorizer = fit_vectorizer(columns)
    if not vectorizer.feature_names_:
        raise DataRefused("no column is left to learn from")
    matrix = fill_matrix(vectorizer, columns, table.num_rows)
    medians = finite_medians(matrix)
    imputed = impute(matrix, medians)
    refuse_enormous(imputed, vectorizer.feature_names_)
    scaler = StandardScaler().fit(imputed)
    return FittedFeatures(vectorizer, scaler, medians, scale(imputed, scaler))


def fit_vectorizer(columns: Sequence[ColumnCells]) -> DictVectorizer:
    """The vectorizer that `DictVectorizer(sparse=False).fit` gives on the same cells as dicts.

    Raises:
        DataRefused: a column's name is that of another column's category.
    """
    vectorizer = DictVectorizer(sparse=False)
    owner: dict[str, str] = {}
    for column in columns:
        names = [feature_name(vectorizer, column.name, text) for text in _used_texts(column)]
        if column.numbers is not None:
            names.append(column.name)
        for name in names:
            if owner.setdefault(name, column.name) != column.name:
                raise DataRefused(
                    f"columns {owner[name]!r} and {column.name!r} both give a feature {name!r}: rename one"
                )
    vectorizer.feature_names_ = sorted(owner)
    vectorizer.vocabulary_ = {name: index for index, name in enumerate(vectorizer.feature_names_)}
    return vectorizer


def refuse_enormous(matrix: np.ndarray, names: Sequence[str]) -> None:
    """Refuse training values whose squares, and with them the variance, overflow.

    Args:
        matrix: `(n_rows, n_features)` float64, finite.
        names: of the features.

    Raises:
        DataRefused: names the column and its largest value.
    """
    largest = np.abs(matrix).max(axis=0, initial=0.0)
    place = int(largest.argmax()) if len(largest) else 0
    if len(largest) and largest[place] > MOST:
        raise DataRefused(
            f"column {names[place]!r} has values up to {largest[place]:.3g}, more than {MOST:.0e}, whose squares "
            "overflow: give it in another unit, take its logarithm, or exclude it"
        )


def encode_table(vectorizer: DictVectorizer, table: pa.Table | pa.RecordBatch) -> np.ndarray:
    """Vectorize a typed table: `(n_rows, n_features)` float64, NaN where a number is missing."""
    columns = [typed_cells(name, table.column(name)) for name in table.column_names]
    return fill_matrix(vectorizer, columns, table.num_rows)


def encode_raw_table(vectorizer: DictVectorizer, table: pa.Table | pa.RecordBatch) -> np.ndarray:
    """The same for a table without a contract: texts that read as numbers are numbers, blank cells are missing."""
    return fill_matrix(vectorizer, raw_columns(table, known_columns(vectorizer)), table.num_rows)


def encode_rows(vectorizer: DictVectorizer, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The same for rows as dicts; a key that a row lacks leaves its features 0, as `DictVectorizer` does."""
    return fill_matrix(vectorizer, row_columns(rows, known_columns(vectorizer)), len(rows))


def apply_features(
    vectorizer: DictVectorizer, medians: np.ndarray | None, scaler: StandardScaler, matrix: np.ndarray
) -> np.ndarray:
    """Impute and scale a vectorized matrix in float64.

    Args:
        vectorizer: says how wide the matrix must be.
        medians: `(n_features,)`; zeros are imputed where it is None or has another length.
        scaler: fitted on `n_features` columns.
        matrix: `(n_rows, n_features)` float64; left as it is.

    Raises:
        BundleRefused: the scaler was fitted on another number of columns.
    """
    width = len(vectorizer.feature_names_)
    expected = getattr(scaler, "n_features_in_", width)
    if expected != width:
        raise BundleRefused(f"scaler: fitted on {expected} columns, the vectorizer gives {width}")
    if medians is None or medians.shape != (width,):
        medians = np.zeros(width)
    return scale(impute(matrix, medians), scaler)


def fill_matrix(vectorizer: DictVectorizer, columns: Sequence[ColumnCells], n_rows: int) -> np.ndarray:
    """Put columns of cells at their places: `(n_rows, n_features)` float64."""
    vocabulary = vectorizer.vocabulary_
    # Column-major while it is filled: each column is then one run of memory.
    matrix = np.zeros((len(vocabulary), n_rows))
    row_numbers = np.arange(n_rows)
    for column in columns:
        place = vocabulary.get(column.name)
        if column.numbers is not None and place is not None:
            values = column.numbers if column.is_number is None else np.where(column.is_number, column.numbers, 0.0)
            # Added, not assigned: DictVectorizer sums what lands on one feature, and 0 + -0.0 is 0.0 there.
            matrix[place] += values
        if column.codes is not None and n_rows:
            places = _places(vectorizer, column)
            found = places[column.codes]
            known = found >= 0
            matrix[found[known], row_numbers[known]] += 1.0
    return np.ascontiguousarray(matrix.T)


def finite_medians(matrix: np.ndarray) -> np.ndarray:
    """Median of each column's finite values, 0 where there are none: `(n_features,)` float64."""
    finite = np.where(np.isfinite(matrix), matrix, np.nan)
    empty = np.isnan(finite).all(axis=0)
    finite[:, empty] = 0.0
    return np.nanmedian(finite, axis=0) if len(finite) else np.zeros(matrix.shape[1])


def impute(matrix: np.ndarray, medians: np.ndarray) -> np.ndarray:
    """Replace what isn't finite by the column's median."""
    return np.where(np.isfinite(matrix), matrix, medians)


def scale(matrix: np.ndarray, scaler: StandardScaler) -> np.ndarray:
    """`(x - mean) / scale` in float64, operation by operation as scikit-learn does it on float64 input."""
    # 1e300 in a column that hardly varied overflows: the network answers as it does for an infinity.
    with np.errstate(over="ignore"):
        if scaler.with_mean:
            matrix = matrix - cast(np.ndarray, scaler.mean_)
        if scaler.with_std:
            matrix = matrix / cast(np.ndarray, scaler.scale_)
    return matrix


def _used_texts(column: ColumnCells) -> list[str]:
    if column.codes is None:
        return []
    used = np.unique(column.codes)
    return [column.texts[code] for code in used if code >= 0]


def _places(vectorizer: DictVectorizer, column: ColumnCells) -> np.ndarray:
    """For each text of the column its feature, -1 where there is none; the last entry serves code -1."""
    get = vectorizer.vocabulary_.get
    return np.array([get(feature_name(vectorizer, column.name, text), -1) for text in column.texts] + [-1])
