"""Tables and rows to the float64 matrix that the network reads: vectorize, impute, scale, column by column.

The vectorizer stays a plain `sklearn.feature_extraction.DictVectorizer`, but no row ever becomes a dict: a column of
numbers fills one column of the matrix, a column of texts is dictionary-encoded and sets one cell per row through a
look-up table. The values are exactly those of `DictVectorizer.transform`, impute and `StandardScaler.transform` on
float64 input. Fitting is in `fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pyarrow as pa
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import StandardScaler

from ai.ml.core.errors import BundleRefused
from ai.ml.frameworks.pytorch.features.cells import (
    ColumnCells,
    feature_name,
    typed_cells,
)


def encode_table(vectorizer: DictVectorizer, table: pa.Table | pa.RecordBatch) -> np.ndarray:
    """Vectorize a typed table: `(n_rows, n_features)` float64, NaN where a number is missing."""
    columns = [typed_cells(name, table.column(name)) for name in table.column_names]
    return fill_matrix(vectorizer, columns, table.num_rows)


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
    """Fill the matrix from columns of cells: `(n_rows, n_features)` float64."""
    vocabulary = vectorizer.vocabulary_
    # Column-major while it is filled: each column is then one run of memory.
    matrix = np.zeros((len(vocabulary), n_rows))
    row_numbers = np.arange(n_rows)
    for column in columns:
        index = vocabulary.get(column.name)
        if column.numbers is not None and index is not None:
            values = column.numbers if column.is_number is None else np.where(column.is_number, column.numbers, 0.0)
            # Added, not assigned: DictVectorizer sums what lands on one feature, and 0 + -0.0 is 0.0 there.
            matrix[index] += values
        if column.codes is not None and n_rows:
            indices = text_indices(vectorizer, column)
            found = indices[column.codes]
            known = found >= 0
            matrix[found[known], row_numbers[known]] += 1.0
    return np.ascontiguousarray(matrix.T)


def impute(matrix: np.ndarray, medians: np.ndarray) -> np.ndarray:
    """Replace values that aren't finite by the column's median."""
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


def text_indices(vectorizer: DictVectorizer, column: ColumnCells) -> np.ndarray:
    """For each text of the column its feature, -1 where there is none; the last entry serves code -1."""
    get = vectorizer.vocabulary_.get
    return np.array([get(feature_name(vectorizer, column.name, text), -1) for text in column.texts] + [-1])
