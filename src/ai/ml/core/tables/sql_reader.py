"""Tables from a database, through SQLAlchemy and the extra `sql`. No message ever holds the URL's password."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa

from ai.ml.core.errors import BundlegateError, Busy, DataNotFound, DataRefused, StorageFailed, UsageError
from ai.ml.core.tables.locations import source_name, with_password
from ai.ml.core.tables.type_promotion import cells_array, texts_array, widened, wider_type

_FETCH_ROWS = 16_384
"""Rows that are Python objects at a time."""
_POSTGRESQL_TYPES = {
    16: pa.bool_(),
    20: pa.int64(),
    21: pa.int64(),
    23: pa.int64(),
    25: pa.string(),
    700: pa.float64(),
    701: pa.float64(),
    1042: pa.string(),
    1043: pa.string(),
    1082: pa.date32(),
    1114: pa.timestamp("us"),
    1184: pa.timestamp("us", "UTC"),
    2950: pa.string(),
}
"""By the number that the server gives a type."""
_NUMERIC = 1700
_BUSY_STATES = ("40", "53300", "55P03", "57014")
"""SQLSTATEs (PostgreSQL 15, appendix A): rolled back, too many connections, lock not available, cancelled."""
_AWAY_STATES = ("08", "57P", "58")
"""Connection exceptions, the server's shutdown or start-up, its system's errors."""
_SQLITE_BUSY = ("database is locked", "database table is locked", "database schema is locked")
_TURNED_AWAY = ("authentication failed", "no password supplied", "does not exist", "permission denied", "pg_hba.conf")
_SQLITE_DISK = ("disk i/o error", "unable to open database file", "database or disk is full")


def read_query(url: str, query: str | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Run a query and give its rows in batches as the database sends them, the first one without rows.

    Nothing can be written by the query (SQLite, PostgreSQL). PostgreSQL sends the rows through a cursor of its own,
    and its types are kept, so that a batch of nulls has the type of the column: `NUMERIC(p, s)` is a decimal, `NUMERIC`
    alone a float64.

    Args:
        url: such as `sqlite:///x.db`, or `postgresql+psycopg://user:password@host/name` with the extra `postgresql`
            (leave the password out, and libpq looks for $PGPASSWORD and ~/.pgpass); any dialect of SQLAlchemy whose
            driver is installed.
        query: SQL that returns rows.
        batch_rows: most rows of a batch.

    Raises:
        UsageError: no query, an unusable URL, or the extra or the database's driver isn't installed.
        DataNotFound: the SQLite file isn't there.
        DataRefused: the database refused the query, or who asks.
        Busy: a lock or too many connections are in the way: try again.
        StorageFailed: the database can't be reached, or its disk failed.
    """
    engine, password = _connectable(url)
    shown_url = source_name(url)
    if not query:
        raise UsageError(f"{shown_url}: say what to read by --query 'SELECT … FROM …'")
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    options = {"stream_results": True, "max_row_buffer": _FETCH_ROWS}
    if engine.dialect.name == "postgresql":
        options["postgresql_readonly"] = True
    try:
        with engine.connect().execution_options(**options) as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = ON")
            # A colon in the query is its own: `::date` casts, and nothing is bound.
            result = connection.execute(text(query.rstrip().rstrip(";").replace(":", r"\:")))
            if not result.returns_rows:
                raise DataRefused(f"{shown_url}: the query returns no rows: {query}")
            yield from _batches(result, min(batch_rows, _FETCH_ROWS))
    except SQLAlchemyError as error:
        raise _refusal(error)(f"{shown_url}: {_clean(error, password)}") from None
    finally:
        engine.dispose()


def _refusal(error: Exception) -> type[BundlegateError]:
    """Whose fault it is: the data's, or one that goes away by itself or with a repair."""
    from sqlalchemy.exc import OperationalError

    cause = getattr(error, "orig", None)
    state, text = str(getattr(cause, "sqlstate", None) or ""), str(cause).lower()
    if state.startswith(_BUSY_STATES) or any(words in text for words in _SQLITE_BUSY):
        return Busy
    # A driver that gives no state got no session from a server; who was turned away must ask otherwise.
    got_none = isinstance(error, OperationalError) and hasattr(cause, "sqlstate") and not state
    is_away = got_none and not any(words in text for words in _TURNED_AWAY)
    if is_away or state.startswith(_AWAY_STATES) or any(words in text for words in _SQLITE_DISK):
        return StorageFailed
    return DataRefused


def whole_table(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """The batches of one query as one table: a column that came in several types is of the type that holds all."""
    names = batches[0].schema.names
    return pa.table([_joined([batch.column(index) for batch in batches]) for index in range(len(names))], names=names)


def _joined(pieces: list[pa.Array]) -> pa.ChunkedArray:
    kind = reduce(wider_type, [piece.type for piece in pieces], pa.null())
    whole = [widened(piece, kind) for piece in pieces]
    exact = [piece for piece in whole if piece is not None]
    if len(exact) < len(whole):
        # Such as integers that no float64 holds, where fractions came too.
        exact = [texts_array(piece.to_pylist()) for piece in pieces]
    return pa.chunked_array(exact, exact[0].type)


def _connectable(url: str) -> tuple[Any, Any]:
    """The engine, and the password that may not be shown."""
    try:
        import sqlalchemy
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        raise UsageError("reading a database needs the extra: pip install 'bundlegate[sql]'") from None
    try:
        address = sqlalchemy.make_url(with_password(url))
    except SQLAlchemyError:
        dialect = url.partition("://")[0]
        raise UsageError(f"{dialect}://… is no database URL; expected dialect://user:password@host/name") from None
    if address.drivername in ("postgresql", "postgres"):
        # SQLAlchemy's own choice is a driver that no extra of ours brings.
        address = address.set(drivername="postgresql+psycopg")
    if address.get_backend_name() == "sqlite" and address.database and not Path(address.database).exists():
        # SQLite would make an empty database of that name.
        raise DataNotFound(f"no SQLite file at {address.database}")
    try:
        return sqlalchemy.create_engine(address), address.password
    except (SQLAlchemyError, ImportError) as error:
        extra = "postgresql" if address.get_backend_name() == "postgresql" else "sql"
        raise UsageError(
            f"{source_name(url)}: {_clean(error, address.password)}; is the database's driver installed? "
            f"pip install 'bundlegate[{extra}]'"
        ) from None


def _batches(result: Any, batch_rows: int) -> Iterator[pa.RecordBatch]:
    names = list(result.keys())
    declared = _declared(result)
    seen = [pa.null()] * len(names)

    def batch(rows: Sequence[Any]) -> pa.RecordBatch:
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
        arrays = [
            _found_array(cells, before) if kind is None else _declared_array(cells, kind)
            for cells, kind, before in zip(columns, declared, seen, strict=True)
        ]
        seen[:] = [array.type for array in arrays]
        return pa.RecordBatch.from_arrays(arrays, names=names)

    yield batch([])
    for rows in result.partitions(batch_rows):
        yield batch(rows)


def _declared(result: Any) -> list[pa.DataType | None]:
    """The type of each column as the database declares it; None where it says nothing of use."""
    description = getattr(result.cursor, "description", None) or []
    if not hasattr(result.cursor, "pgresult"):
        return [None] * len(description)
    kinds: list[pa.DataType | None] = []
    for column in description:
        if column.type_code == _NUMERIC:
            exact = column.precision is not None and column.precision <= 38 and (column.scale or 0) >= 0
            kinds.append(pa.decimal128(column.precision, column.scale or 0) if exact else pa.float64())
        else:
            kinds.append(_POSTGRESQL_TYPES.get(column.type_code))
    return kinds


def _found_array(cells: Sequence[Any], before: pa.DataType) -> pa.Array:
    """Cells whose type only they tell (SQLite): of the type of the batch before, or of a wider one that holds them."""
    array = cells_array(cells)
    wide = widened(array, wider_type(before, array.type))
    return texts_array(array.to_pylist()) if wide is None else wide


def _declared_array(cells: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        cells = [None if cell is None else str(cell) for cell in cells]
    elif pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        # Arrow refuses the decimal NaN, which is a missing cell, and a decimal where it expects a float.
        cells = [None if cell is None or cell != cell else cell for cell in cells]
        if pa.types.is_floating(kind):
            cells = [float(cell) if isinstance(cell, Decimal) else cell for cell in cells]
    try:
        return pa.array(cells, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return cells_array(list(cells))


def _clean(error: Exception, password: Any) -> str:
    text = str(getattr(error, "orig", None) or error).splitlines()[0]
    return text.replace(str(password), "***") if password else text
