"""One type for a column whose pieces came in several, so that no cell is cut or rounded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

_SIGNED = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}
"""By unsigned type of codes: a signed one that holds them all; no dictionary has 2^63 entries."""


def plain_types(table: pa.Table) -> pa.Table:
    """The same cells in types that all of Arrow's functions know: no views, no unsigned codes of a dictionary.

    Polars writes categories with unsigned codes, and texts as views.
    """
    for index, column in enumerate(table.columns):
        kind = _plain_type(column.type)
        if kind != column.type:
            table = table.set_column(index, table.schema.names[index], column.cast(kind))
    return table


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_dictionary(kind):
        codes = _SIGNED.get(kind.index_type, kind.index_type)
        return pa.dictionary(codes, _plain_type(kind.value_type), ordered=kind.ordered)
    return kind


def wider_type(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that may hold the cells of both: `widened` says whether it does.

    >>> wider_type(pa.int64(), pa.float64()), wider_type(pa.null(), pa.bool_()), wider_type(pa.int64(), pa.string())
    (DataType(double), DataType(bool), DataType(string))
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    families = (_is_plain_number, pa.types.is_decimal, pa.types.is_temporal)
    if any(family(one) and family(other) for family in families):
        try:
            pair = [pa.schema([("", one)]), pa.schema([("", other)])]
            return pa.unify_schemas(pair, promote_options="permissive").field(0).type
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass
    return pa.string()


def widened(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """The same cells in another type; None if one of them would be another value there."""
    if array.type == kind:
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if pa.types.is_string(kind) and not pa.types.is_floating(array.type):
        return texts_array(array.to_pylist())
    try:
        return array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def cells_array(cells: Sequence[Any]) -> pa.Array:
    """Python cells as one Arrow column; texts where the types don't go together."""
    try:
        array = pa.array(cells, from_pandas=True)
        if not _took_others_for_its_own(array.type, cells):
            return array
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, ValueError):
        pass
    return pa.array([None if _is_null(cell) else cell_text(cell) for cell in cells], pa.string())


def _took_others_for_its_own(kind: pa.DataType, cells: Sequence[Any]) -> bool:
    """Among dates Arrow drops the hours of a time, among bytes it takes a text's."""
    if pa.types.is_date(kind):
        return any(isinstance(cell, datetime) for cell in cells)
    return pa.types.is_binary(kind) and any(isinstance(cell, str) for cell in cells)


def _is_null(cell: Any) -> bool:
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell)


def texts_array(cells: Sequence[object]) -> pa.Array:
    """Python cells as texts; None stays null."""
    return pa.array([None if cell is None else cell_text(cell) for cell in cells], pa.string())


def cell_text(cell: object) -> str:
    """A cell as text: bytes as the UTF-8 that they are, others as Python writes them.

    >>> cell_text(2.5), cell_text(b"caf\\xc3\\xa9 \\xff")
    ('2.5', 'café \\\\xff')
    """
    return cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell)


def _is_plain_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)
