"""One type for a column whose pieces came in several, so that no cell is cut or rounded."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa


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
