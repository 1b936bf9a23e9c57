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
import pyarrow.compute as pc
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import StandardScaler

from ai.ml.core.cells import coerce
from ai.ml.core.errors import BundleRefused, DataRefused

_ABSENT = object()
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
class ColumnCells:
    """One raw column as what `DictVectorizer` makes of its cells."""

    name: str
    numbers: np.ndarray | None
    """`(n_rows,)` float64, NaN where missing; None if no cell is a number."""
    codes: np.ndarray | None
    """`(n_rows,)` int64 into `texts`, -1 where the cell is no text; None if no cell is a text."""
    texts: list[str]
    is_number: np.ndarray | None = None
    """`(n_rows,)` bool, where only some cells are numbers; None: all are, if `numbers` is set."""


def fit_features(table: pa.Table) -> FittedFeatures:
    """Fit vectorizer, medians and scaler on a typed table.

    Args:
        table: columns of numbers (float64, null = missing) and of texts (string or dictionary), as `conform` gives it.

    Raises:
        DataRefused: no column is left, or two columns claim the same feature.
    """
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
    columns = [raw_cells(name, table.column(name)) for name in table.column_names]
    return fill_matrix(vectorizer, columns, table.num_rows)


def encode_rows(vectorizer: DictVectorizer, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The same for rows as dicts; a key that a row lacks leaves its features 0, as `DictVectorizer` does."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [_row_cells(name, [row.get(name, _ABSENT) for row in rows]) for name in names]
    return fill_matrix(vectorizer, columns, len(rows))


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


def feature_name(vectorizer: DictVectorizer, column: str, text: str) -> str:
    """The name that `DictVectorizer` gives to a text in a column."""
    return f"{column}{vectorizer.separator}{text}"


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


def typed_cells(name: str, column: pa.ChunkedArray | pa.Array) -> ColumnCells:
    """Cells whose Arrow type says what they are: numbers are numbers, texts are categories as they stand."""
    if pa.types.is_dictionary(column.type) or _is_text(column.type):
        codes, texts = dictionary_codes(column)
        return ColumnCells(name, None, codes, texts)
    return ColumnCells(name, number_values(name, column), None, [])


def raw_cells(name: str, column: pa.ChunkedArray | pa.Array) -> ColumnCells:
    """Cells of a raw column under the original's rules, decided once per distinct text."""
    if not (pa.types.is_dictionary(column.type) or _is_text(column.type)):
        return ColumnCells(name, number_values(name, column), None, [])
    codes, texts = dictionary_codes(column)
    cells = [coerce(text) for text in texts]
    # One more entry for code -1, a null: missing, so a number that is NaN.
    numbers = np.array([cell if isinstance(cell, float) else np.nan for cell in cells] + [np.nan])
    is_text = np.array([isinstance(cell, str) for cell in cells] + [False])
    if is_text[:-1].all() and (codes >= 0).all():
        return ColumnCells(name, None, codes, [str(cell) for cell in cells])
    if not is_text.any():
        return ColumnCells(name, numbers[codes], None, [])
    return ColumnCells(
        name,
        numbers[codes],
        np.where(is_text[codes], codes, -1),
        [cell if isinstance(cell, str) else "" for cell in cells],
        ~is_text[codes],
    )


def dictionary_codes(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, list[str]]:
    """Codes `(n_rows,)` int64, -1 for null, and the texts that they stand for."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    indices = array.indices.cast(pa.int64())
    codes = (indices.fill_null(-1) if indices.null_count else indices).to_numpy(zero_copy_only=False)
    texts = ["" if text is None else str(text) for text in array.dictionary.to_pylist()]
    return codes, texts


def number_values(name: str, column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """`(n_rows,)` float64, NaN for null.

    Raises:
        DataRefused: the column's type isn't a number.
    """
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.int8())
    try:
        return np.array(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataRefused(f"column {name!r} holds {column.type}, expected numbers or texts") from None


def _row_cells(name: str, cells: list[Any]) -> ColumnCells:
    numbers = np.zeros(len(cells))
    is_number = np.zeros(len(cells), dtype=bool)
    codes = np.full(len(cells), -1)
    texts: dict[str, int] = {}
    for index, cell in enumerate(cells):
        if cell is _ABSENT:
            continue
        value = coerce(cell)
        if isinstance(value, str):
            codes[index] = texts.setdefault(value, len(texts))
        else:
            numbers[index] = np.nan if value is None else value
            is_number[index] = True
    return ColumnCells(name, numbers, codes, list(texts), is_number)


def _used_texts(column: ColumnCells) -> list[str]:
    if column.codes is None:
        return []
    used = np.unique(column.codes)
    return [column.texts[code] for code in used if code >= 0]


def _places(vectorizer: DictVectorizer, column: ColumnCells) -> np.ndarray:
    """For each text of the column its feature, -1 where there is none; the last entry serves code -1."""
    get = vectorizer.vocabulary_.get
    return np.array([get(feature_name(vectorizer, column.name, text), -1) for text in column.texts] + [-1])


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
