"""Tables from a database, through SQLAlchemy and the extra `sql`. No message ever holds the URL's password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from ai.ml.core.errors import DataNotFound, DataRefused, UsageError

_FETCH_ROWS = 65_536


def read_query(url: str, query: str | None, batch_rows: int | None) -> Iterator[pa.RecordBatch]:
    """Run a query and give its rows: in one batch, or in batches as the database sends them.

    Args:
        url: such as `sqlite:///x.db`, or `postgresql+psycopg://user:password@host/name` with `pip install
            'psycopg[binary]'`; any dialect of SQLAlchemy whose driver is installed.
        query: SQL that returns rows.
        batch_rows: None for one batch of all rows; a column's type is then decided by all of them.

    Raises:
        UsageError: no query, an unusable URL, or the extra or the database's driver isn't installed.
        DataNotFound: the SQLite file isn't there.
        DataRefused: the database refused the connection or the query.
    """
    engine, place, password = _connectable(url)
    if not query:
        raise UsageError(f"{place}: say what to read by --query 'SELECT … FROM …'")
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with engine.connect().execution_options(stream_results=True) as connection:
            result = connection.execute(text(query))
            if not result.returns_rows:
                raise DataRefused(f"{place}: the query returns no rows: {query}")
            yield from _batches(list(result.keys()), result, batch_rows)
    except SQLAlchemyError as error:
        raise DataRefused(f"{place}: {_clean(error, password)}") from None
    finally:
        engine.dispose()


def _connectable(url: str) -> tuple[Any, str, Any]:
    """The engine, the URL as it may be shown, and the password that may not."""
    try:
        import sqlalchemy
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        raise UsageError("reading a database needs the extra: pip install 'bundlegate[sql]'") from None
    try:
        address = sqlalchemy.make_url(url)
    except SQLAlchemyError:
        dialect = url.partition("://")[0]
        raise UsageError(f"{dialect}://… is no database URL; expected dialect://user:password@host/name") from None
    place = address.render_as_string(hide_password=True)
    if address.get_backend_name() == "sqlite" and address.database and not Path(address.database).exists():
        # SQLite would make an empty database of that name.
        raise DataNotFound(f"no SQLite file at {address.database}")
    try:
        return sqlalchemy.create_engine(address), place, address.password
    except (SQLAlchemyError, ImportError) as error:
        raise UsageError(f"{place}: {_clean(error, address.password)}; is the database's driver installed?") from None


def _batches(names: list[str], result: Any, batch_rows: int | None) -> Iterator[pa.RecordBatch]:
    from ai.ml.core.tables import cells_array

    def batch(rows: list[Any]) -> pa.RecordBatch:
        columns = zip(*rows, strict=True) if rows else ([] for _ in names)
        return pa.RecordBatch.from_arrays([cells_array(list(cells)) for cells in columns], names=names)

    if batch_rows is None:
        yield batch(result.fetchall())
        return
    yield batch([])
    for rows in result.partitions(min(batch_rows, _FETCH_ROWS)):
        yield batch(rows)


def _clean(error: Exception, password: Any) -> str:
    text = str(getattr(error, "orig", None) or error).splitlines()[0]
    return text.replace(str(password), "***") if password else text
