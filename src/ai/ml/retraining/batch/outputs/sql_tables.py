"""The tables that a batch makes in a database, their lock, and a connection whose errors never show a password."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ai.ml.core.errors import Busy, DataRefused, StorageFailed, UsageError, storage_failed
from ai.ml.core.files.atomic import sha256_bytes
from ai.ml.core.files.lock import locked_file
from ai.ml.core.tables.locations import source_name, with_password

PART = "bundlegate_part"
ROW = "bundlegate_row"
LOCK_WAIT_S = 5.0
"""For the lock: a server notices that the run which held it was killed when it next looks for it, a moment later."""
_NAME = re.compile(r"^([A-Za-z_][A-Za-z0-9_]{0,39}\.)?[A-Za-z_][A-Za-z0-9_]{0,39}$")
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_ENDS = "where|on|using|select|group|order|limit|union|having|join"
_SOURCES = re.compile(rf"\b(?:from|join)\b((?:(?!\b(?:{_ENDS})\b).)*)", re.IGNORECASE | re.DOTALL)
_CASE_SENSITIVE = ("postgresql", "oracle")
_LOCK_POLL_S = 0.1
_NULL_HANDLER = logging.NullHandler()
_DEFAULT_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


@dataclass(frozen=True)
class AnswerTables:
    """The three tables of an output, by the name that the user gave (`table` or `schema.table`)."""

    given: str

    @staticmethod
    def check_name(table: str | None) -> None:
        """Refuse what isn't a plain name.

        Raises:
            UsageError: it isn't, or none was given.
        """
        if table is None:
            raise UsageError("say which table of the database to insert into, by --table NAME")
        if not _NAME.fullmatch(table):
            raise UsageError(
                f"can't make a table {table!r}: expected NAME or SCHEMA.NAME of letters, digits and _, at most 40 each"
            )

    def is_read_by(self, query: str) -> bool:
        """Whether a query names the users' table behind a FROM or a JOIN; a view of it isn't seen."""
        name = re.escape(self._split()[1])
        sources = _SOURCES.findall(_LITERAL.sub("''", query))
        return any(re.search(rf"(?<!\w){name}(?!\w)", clause, re.IGNORECASE) for clause in sources)

    @cached_property
    def answers(self) -> Any:
        """The users' table; its other columns are known to the database alone."""
        import sqlalchemy as sa

        return self._table("", sa.Column(PART, sa.Text), sa.Column(ROW, sa.BigInteger))

    @cached_property
    def parts(self) -> Any:
        """One receipt per part."""
        import sqlalchemy as sa

        return self._table("_bundlegate_parts", *_key_columns("part"), sa.Column("receipt", sa.Text))

    @cached_property
    def job(self) -> Any:
        """One row: the job's record, and the manifest when all is done."""
        import sqlalchemy as sa

        return self._table("_bundlegate_job", sa.Column("record", sa.Text), sa.Column("manifest", sa.Text))

    def create_records(self, connection: Any) -> None:
        """Make the tables of job and parts where they aren't there."""
        self.parts.create(connection, checkfirst=True)
        self.job.create(connection, checkfirst=True)

    def create_answers(self, connection: Any, columns: Sequence[tuple[str, Any]]) -> None:
        """Make the users' table."""
        import sqlalchemy as sa

        named = [sa.Column(column, kind) for column, kind in columns]
        self._table("", *named, *_key_columns(PART, ROW)).create(connection)

    def insert_answers(self, columns: Sequence[str]) -> Any:
        """The statement that inserts rows with these columns and the key."""
        import sqlalchemy as sa

        schema, name = self._split()
        return sa.insert(sa.table(name, *[sa.column(column) for column in (*columns, PART, ROW)], schema=schema))

    def drop_answers(self, connection: Any, answers_exist: bool) -> None:
        """Delete an earlier job's rows and receipts."""
        if answers_exist:
            self.answers.drop(connection)
        connection.execute(self.parts.delete())
        connection.execute(self.job.delete())

    def drop_all(self, connection: Any, answers_exist: bool) -> None:
        """Drop the answers and the records beside them."""
        if answers_exist:
            self.answers.drop(connection)
        self.parts.drop(connection)
        self.job.drop(connection)

    def _split(self) -> tuple[str | None, str]:
        schema, _, name = self.given.rpartition(".")
        return schema or None, name

    def _table(self, suffix: str, *columns: Any) -> Any:
        import sqlalchemy as sa

        schema, name = self._split()
        return sa.Table(name + suffix, sa.MetaData(), *columns, schema=schema)


@dataclass(frozen=True)
class Database:
    """An engine, and the database's name without a password."""

    engine: Any
    name: str

    def begin(self) -> AbstractContextManager[Any]:
        """A transaction, committed at the end and rolled back on an error."""
        return self.engine.begin()

    def has_table(self, table: Any) -> bool:
        """Whether the database has it now."""
        import sqlalchemy as sa

        return sa.inspect(self.engine).has_table(table.name, schema=table.schema)

    def columns(self, table: Any) -> dict[str, Any] | None:
        """A table's or view's columns with their types; None if there is none of that name."""
        import sqlalchemy as sa

        if not self.has_table(table):
            return None
        found = sa.inspect(self.engine).get_columns(table.name, schema=table.schema)
        return {str(column["name"]): column["type"] for column in found}

    def has_schema(self, table: Any) -> bool:
        """Whether the schema that a table's name gives is there."""
        import sqlalchemy as sa

        return table.schema is None or table.schema in sa.inspect(self.engine).get_schema_names()

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of the kind of database."""
        return str(self.engine.dialect.name)

    def folded(self, column: str) -> bytes:
        """A column's name with what this database doesn't distinguish folded."""
        name = column.encode()
        return name if self.dialect in _CASE_SENSITIVE else name.lower()


@contextmanager
def open_database(url: str) -> Generator[Database]:
    """Connect, and turn the database's errors into one sentence without the password.

    Raises:
        UsageError: an unusable URL, or an extra isn't installed.
        DataRefused: the database can't hold the rows.
        StorageFailed: the database refused or was lost.
    """
    engine, name, password = _engine(url)
    from sqlalchemy.exc import DataError, SQLAlchemyError

    try:
        yield Database(engine, name)
    except DataError as error:
        raise DataRefused(f"{name} can't hold these rows: {_clean(error, password)}") from None
    except SQLAlchemyError as error:
        raise StorageFailed(f"{name}: {_clean(error, password)}; parts that were inserted stay") from None
    finally:
        engine.dispose()


def is_same_database(one: str, other: str) -> bool:
    """Whether two URLs name one database, judged by the URLs alone."""
    first, second = _engine(one)[0].url, _engine(other)[0].url
    if first.get_backend_name() == second.get_backend_name() == "sqlite":
        return Path(first.database or "").resolve() == Path(second.database or "").resolve()
    kept = ("host", "port", "database")
    return [getattr(first, name) for name in kept] == [getattr(second, name) for name in kept]


@contextmanager
def lock_table(url: str, table: str) -> Generator[None]:
    """Keep other runs off an output, as far as the database can: PostgreSQL by an advisory lock, SQLite by a file.

    Raises:
        Busy: another run is writing there.
    """
    with open_database(url) as database:
        kind = database.dialect
        if kind == "postgresql":
            with _advisory_lock(database, table):
                yield
        elif kind == "sqlite":
            with _file_lock(database, table):
                yield
        else:
            yield


@contextmanager
def _advisory_lock(database: Database, table: str) -> Generator[None]:
    from sqlalchemy import text

    # Held by the session: it goes with this process, whatever becomes of it.
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        schema, _, name = table.rpartition(".")
        # `scored` and `public.scored` may be one table.
        schema = schema or str(connection.execute(text("SELECT current_schema()")).scalar())
        key = int(sha256_bytes(f"{schema}.{name}".encode())[:15], 16)
        deadline = time.monotonic() + LOCK_WAIT_S
        while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar():
            if time.monotonic() > deadline:
                raise Busy(f"another run is writing into table {table!r} of {database.name}; try again later")
            time.sleep(_LOCK_POLL_S)
        yield


@contextmanager
def _file_lock(database: Database, table: str) -> Generator[None]:
    file = database.engine.url.database
    if not file or file == ":memory:":
        raise UsageError("an SQLite database in memory would be gone when the run ends: give sqlite:///FILE.db")
    path = Path(file).absolute()
    if not path.parent.is_dir():
        raise UsageError(f"can't write {path}: there is no folder {path.parent}")
    with ExitStack() as stack:
        try:
            # SQLite doesn't tell `Order` from `order`, nor from `main.order`: one table, one lock.
            name = table.lower().removeprefix("main.")
            stack.enter_context(locked_file(path.with_name(f".{path.name}.{name}.lock"), 0.0))
        except Busy:
            raise Busy(f"another run is writing into table {table!r} of {database.name}; try again later") from None
        except OSError as error:
            raise storage_failed(f"locking {path}", error, "nothing was written") from error
        yield


def _key_columns(text: str, number: str | None = None) -> list[Any]:
    """The columns of a primary key."""
    import sqlalchemy as sa

    # MySQL has no keys of unlimited texts.
    kind = sa.Text().with_variant(sa.String(500), "mysql", "mariadb")
    key = [sa.Column(text, kind, primary_key=True)]
    return [*key, sa.Column(number, sa.BigInteger, primary_key=True, autoincrement=False)] if number else key


def _engine(url: str) -> tuple[Any, str, Any]:
    name = source_name(url)
    # Its warnings about a refused statement would stand beside our sentence.
    logging.getLogger("psycopg").addHandler(_NULL_HANDLER)
    try:
        import sqlalchemy
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        raise UsageError("a database needs the extra: pip install 'bundlegate[sql]' (or [postgresql])") from None
    try:
        address = sqlalchemy.make_url(with_password(url))
        if address.drivername in _DEFAULT_DRIVERS:
            address = address.set(drivername=_DEFAULT_DRIVERS[address.drivername])
    except SQLAlchemyError:
        raise UsageError(f"{name} is no database URL; expected dialect://user:password@host/name") from None
    try:
        return sqlalchemy.create_engine(address), name, address.password
    except (SQLAlchemyError, ImportError) as error:
        raise UsageError(f"{name}: {_clean(error, address.password)}; is the database's driver installed?") from None


def _clean(error: Exception, password: Any) -> str:
    text = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    return text.replace(str(password), "***") if password else text
