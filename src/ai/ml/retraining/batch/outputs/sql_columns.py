"""The columns of a table of answers: their SQL types, and cells that go in as they are or not at all.

A database would take a cell of another type than the column's and change it: PostgreSQL rounds 2.5 into a column of
integers and cuts the hours off a date, SQLite makes 7 of the text 007.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables.type_promotion import texts_array, widened

_KNOWN_DIALECTS = ("postgresql", "sqlite")
"""Databases whose reflected types are those of the created tables."""


def column_type(name: str, kind: pa.DataType, dialect: str = "") -> Any:
    """The SQL type of an Arrow type; SQLite has none for decimals and hours, and holds them as texts.

    Raises:
        DataRefused: there is none.
    """
    import sqlalchemy as sa

    is_sqlite = dialect == "sqlite"
    tests: list[tuple[Any, Any]] = [
        (pa.types.is_boolean, sa.Boolean()),
        (pa.types.is_integer, sa.BigInteger()),
        (pa.types.is_floating, sa.Double()),
        (pa.types.is_decimal, sa.Text() if is_sqlite else sa.Numeric()),
        (pa.types.is_date, sa.Date()),
        (pa.types.is_timestamp, sa.DateTime(timezone=getattr(kind, "tz", None) is not None)),
        (pa.types.is_time, sa.Text() if is_sqlite else sa.Time()),
        (pa.types.is_null, sa.Text()),
        (_is_text, sa.Text()),
    ]
    for fits, sql in tests:
        if fits(kind):
            return sql
    raise DataRefused(f"column {name!r} holds {kind}, which no database column can hold: don't keep it")


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table in the database."""

    types: Mapping[str, Any]
    """By column, as SQLAlchemy reflects them."""
    dialect: str
    """SQLAlchemy's name of the kind of database."""

    def rows(self, table: pa.Table) -> list[dict[str, Any]]:
        """A table's rows as Python cells that the columns hold as they are.

        Raises:
            DataRefused: a column's cells would be others in the database; the sentence names it.
        """
        columns = [_insertable(name, table.column(name), self.types[name], self.dialect) for name in table.column_names]
        return pa.table(columns, names=table.column_names).to_pylist()


def _insertable(name: str, column: pa.ChunkedArray, sql: Any, dialect: str) -> pa.ChunkedArray:
    """The cells as Arrow gives them to the database's driver."""
    try:
        if dialect in _KNOWN_DIALECTS:
            column = _fitted(name, column, sql, dialect)
        if not pa.types.is_temporal(column.type):
            return column
        if pa.types.is_timestamp(column.type):
            # No database that we know holds nanoseconds.
            column = column.cast(pa.timestamp("us", column.type.tz))
        # Checked here, since later errors don't name the column.
        cells = column.to_pylist()
    except DataRefused:
        raise
    except (pa.ArrowInvalid, OverflowError, ValueError, KeyError) as error:
        # An unknown zone is a KeyError.
        raise DataRefused(f"the column {name!r} holds what a database can't: {error}; don't keep it") from None
    return pa.chunked_array([pa.array(map(_plain, cells), pa.string())]) if dialect == "sqlite" else column


def _fitted(name: str, column: pa.ChunkedArray, sql: Any, dialect: str) -> pa.ChunkedArray:
    """The cells in the type of the table's column, or DataRefused."""
    kind, family = column.type, _family(sql)
    if pa.types.is_null(kind) or (_is_text(kind) and family == "String"):
        return column
    if family == "String":
        return pa.chunked_array([texts_array(column.to_pylist())])
    if pa.types.is_integer(kind) and family == "Numeric":
        return column
    if pa.types.is_integer(kind) and family == "Float":
        pieces = [widened(piece, pa.float64()) for piece in column.chunks]
        exact = [piece for piece in pieces if piece is not None]
        if len(exact) == len(pieces):
            return pa.chunked_array(exact, pa.float64())
    elif _family(column_type(name, kind, dialect)) == family and _has_zone(kind, sql, dialect):
        return column
    raise DataRefused(
        f"the column {name!r} holds {kind} here and {sql} in the table: parts of one table must have the same types"
    )


def _family(sql: Any) -> str:
    import sqlalchemy as sa

    families = (sa.Boolean, sa.Integer, sa.Float, sa.Numeric, sa.DateTime, sa.Date, sa.Time, sa.String)
    return next((family.__name__ for family in families if isinstance(sql, family)), type(sql).__name__)


def _has_zone(kind: pa.DataType, sql: Any, dialect: str) -> bool:
    """Whether times have a zone in both or in none; SQLite holds a time's text, with its zone."""
    return dialect == "sqlite" or not pa.types.is_timestamp(kind) or (kind.tz is not None) == bool(sql.timezone)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _plain(cell: Any) -> str | None:
    """Days and times as SQLite holds them."""
    if cell is None:
        return None
    return cell.isoformat(" ") if isinstance(cell, datetime) else cell.isoformat()
