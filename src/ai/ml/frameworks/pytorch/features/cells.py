"""Raw columns as `DictVectorizer` reads their cells: numbers, and codes of distinct texts.

Three readers: of typed tables (the column's type says what its cells are), of raw tables and of rows as dicts (each
cell is coerced by the rules of `ai.ml.core.tables.cells`, once per distinct value).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.feature_extraction import DictVectorizer

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables.cells import coerce, is_text_type

_ABSENT = object()
_NUMBER, _NOTHING = -1, -2
"""Codes of cells that are no text."""


class _Everything:
    def __contains__(self, _: object) -> bool:
        return True


@dataclass(frozen=True)
class ColumnCells:
    """One raw column as `DictVectorizer` reads its cells."""

    name: str
    numbers: np.ndarray | None
    """`(n_rows,)` float64, NaN where missing; None if no cell is a number."""
    codes: np.ndarray | None
    """`(n_rows,)` int64 into `texts`, -1 where the cell is no text; None if no cell is a text."""
    texts: list[str]
    is_number: np.ndarray | None = None
    """`(n_rows,)` bool, where only some cells are numbers; None: all are, if `numbers` is set."""


def known_columns(vectorizer: DictVectorizer) -> Container[str]:
    """The raw columns that can have a feature: every one that a feature's name starts with."""
    separator = vectorizer.separator
    if not separator:
        return _Everything()
    known: set[str] = set(vectorizer.feature_names_)
    for name in vectorizer.feature_names_:
        end = name.find(separator)
        while end >= 0:
            known.add(name[:end])
            end = name.find(separator, end + 1)
    return known


def raw_columns(table: pa.Table | pa.RecordBatch, known: Container[str]) -> list[ColumnCells]:
    """The cells of a table without a contract; columns that have no feature stay unread, whatever they hold."""
    return [raw_cells(name, table.column(name)) for name in table.schema.names if name in known]


def row_columns(rows: Sequence[Mapping[str, Any]], known: Container[str]) -> list[ColumnCells]:
    """The cells of rows as dicts, a column per key; the rows are left as they are."""
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if str(name) in known]
    return [_row_cells(name, [row.get(name, _ABSENT) for row in rows]) for name in names]


def feature_name(vectorizer: DictVectorizer, column: str, text: str) -> str:
    """The name that `DictVectorizer` gives to a text in a column."""
    return f"{column}{vectorizer.separator}{text}"


def typed_cells(name: str, column: pa.ChunkedArray | pa.Array) -> ColumnCells:
    """Cells by their Arrow type: numbers are numbers, texts are categories unchanged."""
    if pa.types.is_dictionary(column.type) or is_text_type(column.type):
        codes, texts = dictionary_codes(column)
        return ColumnCells(name, None, codes, ["" if text is None else str(text) for text in texts])
    return ColumnCells(name, number_values(name, column), None, [])


def raw_cells(name: str, column: pa.ChunkedArray | pa.Array) -> ColumnCells:
    """Cells of a raw column under the original's rules, decided once per distinct value.

    Raises:
        DataRefused: the column holds lists or the like.
    """
    if _is_plain_number(column.type):
        return ColumnCells(name, number_values(name, column), None, [])
    try:
        codes, values = dictionary_codes(column)
    except pa.ArrowNotImplementedError:
        raise DataRefused(f"column {name!r} holds {column.type}, expected numbers or texts") from None
    cells = [coerce(value) for value in values]
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


def dictionary_codes(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, list[Any]]:
    """Codes `(n_rows,)` int64, -1 for null, and the values of the codes, None among them."""
    array = _one_array(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    indices = array.indices.cast(pa.int64())
    codes = (indices.fill_null(-1) if indices.null_count else indices).to_numpy(zero_copy_only=False)
    try:
        return codes, array.dictionary.to_pylist()
    except (OverflowError, ValueError, KeyError) as error:
        # Days beyond the year 9999; a zone that nobody knows is a KeyError.
        raise DataRefused(f"a column of {array.dictionary.type} holds what can't be read: {error}") from None


def number_values(name: str, column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """`(n_rows,)` float64, NaN for null; read-only.

    Raises:
        DataRefused: the column's type isn't a number.
    """
    array = _one_array(column)
    try:
        if pa.types.is_boolean(array.type):
            array = pc.cast(array, pa.int8())
        if not pa.types.is_float64(array.type):
            array = pc.cast(array, pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataRefused(f"column {name!r} holds {column.type}, expected numbers or texts") from None
    # Without nulls Arrow's own memory is read, and never written to.
    return array.to_numpy(zero_copy_only=not array.null_count)


def _one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array


def _row_cells(name: str, cells: list[Any]) -> ColumnCells:
    texts: dict[str, int] = {}
    coerced: dict[str, float | str | None] = {}
    numbers: list[float] = []
    codes: list[int] = []
    for cell in cells:
        code, number = _NUMBER, 0.0
        if type(cell) is float:
            number = cell
        elif cell is _ABSENT:
            code = _NOTHING
        else:
            # Once per distinct text; 1, 1.0 and True are one key of a dict, so nothing else is looked up.
            is_text = type(cell) is str
            value = coerced[cell] if is_text and cell in coerced else coerce(cell)
            if is_text:
                coerced[cell] = value
            if isinstance(value, str):
                code = texts.setdefault(value, len(texts))
            else:
                number = np.nan if value is None else value
        numbers.append(number)
        codes.append(code)
    row_codes = np.array(codes, dtype=np.int64)
    return ColumnCells(name, np.array(numbers), np.maximum(row_codes, -1), list(texts), row_codes == _NUMBER)


def _is_plain_number(kind: pa.DataType) -> bool:
    # Not decimals: Arrow's conversion to float64 isn't Python's to the last bit.
    return (
        pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    )
