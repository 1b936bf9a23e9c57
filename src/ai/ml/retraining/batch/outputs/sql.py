"""A table of a database as output, resumable: a part's rows and its receipt go in by one transaction.

::

    T                      kept columns, the answers, and `bundlegate_part`, `bundlegate_row` (together the key)
    T_bundlegate_parts     a receipt for each part that is in T
    T_bundlegate_job       what is being done; the manifest when all is done

A rerun inserts nothing twice: a part whose receipt is there is kept, and the keys make a second row impossible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ai.ml.core.errors import Busy, DataRefused, UsageError
from ai.ml.core.tables.locations import is_database, source_name
from ai.ml.retraining.batch.outputs.job_record import JobRecord, read_job_json
from ai.ml.retraining.batch.outputs.location import OutputLocation
from ai.ml.retraining.batch.outputs.sql_columns import TableColumns, column_type
from ai.ml.retraining.batch.outputs.sql_tables import (
    PART,
    ROW,
    AnswerTables,
    Database,
    is_same_database,
    lock_table,
    open_database,
)
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.receipts import RECEIPT_FORMAT, Receipt
from ai.ml.retraining.batch.score_part import (
    ScoredPart,
    has_changed_input,
    source_content,
    source_stamp,
    unchanged_tables,
)

INSERTED_ROWS = 5_000
"""Of one statement."""


class _Taken(Exception):
    """Another worker has inserted a part, or is at it."""


@dataclass(frozen=True)
class SqlLocation(OutputLocation):
    """`postgresql://…`, `sqlite:///…` or another dialect of SQLAlchemy, and a table of that database."""

    url: str = field(repr=False)
    table: str | None

    def __post_init__(self) -> None:
        AnswerTables.check_name(self.table)

    def check_input(self, source: str, query: str | None, parts: Sequence[Part]) -> None:
        """Refuse a query of the table that its answers go into: `overwrite` would drop it before it is read.

        Raises:
            UsageError: it is one.
        """
        reads = query is not None and is_database(source) and self._tables().is_read_by(query)
        if reads and is_same_database(source, self.url):
            raise UsageError(f"the query reads table {self.table!r}, which the answers go into: give another --table")

    @property
    def name(self) -> str:
        """The table and its database, without the password."""
        return f"table {self.table!r} of {source_name(self.url)}"

    @property
    def exclusive(self) -> bool:
        """True: PostgreSQL and SQLite are locked, and no other database is promised more than its keys can do."""
        return True

    def lock(self) -> AbstractContextManager[None]:
        """Held by the run that writes here, as far as the database can; raises Busy if another one does."""
        return lock_table(self.url, str(self.table))

    def read_job(self) -> JobRecord | None:
        """As `OutputLocation.read_job`."""
        tables = self._tables()
        with open_database(self.url) as database:
            if not database.has_schema(tables.job):
                raise UsageError(f"{database.name} has no schema {tables.job.schema!r}: make it first")
            foreign = self._foreign_records(database)
            if foreign is not None:
                raise UsageError(f"{database.name} has a table {foreign!r} that no batch made: give another --table")
            self._refuse_foreign(database)
            if not database.has_table(tables.job):
                return None
            with database.begin() as connection:
                return self._recorded_job(connection)

    def existing(self, names: Iterable[str]) -> set[str]:
        """As `OutputLocation.existing`: none, as all rows of the table are the job's."""
        return set()

    def claim(self, job: JobRecord, replaced: JobRecord | None) -> None:
        """As `OutputLocation.claim`, by one transaction."""
        tables = self._tables()
        with open_database(self.url) as database:
            # Before any table is made: SQLite and MySQL keep those of a transaction that was rolled back.
            self._refuse_twins(database, job.settings.get("keep", ()))
            with database.begin() as connection:
                tables.create_records(connection)
                if replaced is not None:
                    tables.drop_answers(connection, database.has_table(tables.answers))
                found = self._recorded_job(connection)
                if found is None:
                    connection.execute(tables.job.insert().values(record=job.model_dump_json()))
                else:
                    job.refuse_another(found, self.name)

    def has_claimed(self) -> bool:
        """As `OutputLocation.has_claimed`: whoever holds the lock has made every claim here, or taken it over."""
        with open_database(self.url) as database:
            return (
                self._foreign_records(database) is None
                and self._has_records(database)
                and not self._is_foreign(database)
            )

    def release(self) -> None:
        """As `OutputLocation.release`; the tables go too."""
        with open_database(self.url) as database:
            answers_exist = database.has_table(self._tables().answers)
            with database.begin() as connection:
                # Again: not every database has a lock.
                if not self._has_receipts(connection):
                    self._tables().drop_all(connection, answers_exist)

    def has_receipts(self) -> bool:
        """As `OutputLocation.has_receipts`."""
        with open_database(self.url) as database:
            if not database.has_table(self._tables().parts):
                return False
            with database.begin() as connection:
                return self._has_receipts(connection)

    def read_receipt(self, part: str) -> Receipt | None:
        """As `OutputLocation.read_receipt`."""
        with open_database(self.url) as database, database.begin() as connection:
            return self._receipt(connection, part)

    def holds(self, receipt: Receipt) -> bool:
        """As `OutputLocation.holds`; counts the part's rows."""
        with open_database(self.url) as database:
            return self._is_whole(database, receipt)

    def _is_whole(self, database: Database, receipt: Receipt) -> bool:
        """Whether a part's rows are all there."""
        if not database.has_table(self._tables().answers):
            return False
        with database.begin() as connection:
            return self._rows(connection, receipt.part) == receipt.rows

    def write(self, scored: ScoredPart) -> Receipt:
        """As `OutputLocation.write`: rows and receipt by one transaction."""
        from sqlalchemy.exc import IntegrityError

        scored.partition_columns = True
        name, parts = scored.part.name, self._tables().parts
        before = source_stamp(scored.part)
        source = source_content(scored.part)
        with open_database(self.url) as database, closing(unchanged_tables(scored, source, before)) as tables:
            first = next(tables)
            self._create_answers(database, first.schema)
            columns = self._columns(database, name, first.schema.names)
            try:
                with database.begin() as connection:
                    self._remove(connection, name)
                    # The key first: another worker with this part waits here, or is refused, before any row.
                    self._take(connection, name)
                    self._refuse_another_job(connection, scored)
                    self._insert(connection, name, chain([first], tables), columns)
                    receipt = scored.receipt(None, source)
                    done = parts.update().where(parts.c.part == name)
                    connection.execute(done.values(receipt=receipt.model_dump_json()))
            except IntegrityError as error:
                reason = str(error.orig).strip().splitlines()[0]
                raise DataRefused(f"{name}: table {self.table!r} refuses these rows: {reason}") from None
            except _Taken:
                kept = self.read_receipt(name)
                if kept is None or has_changed_input(kept, scored.part) or not self._is_whole(database, kept):
                    raise Busy(f"{name} is being inserted into table {self.table!r} by another run") from None
                return kept
        return receipt

    def finished_manifest(self) -> bytes | None:
        """None: the manifest has no mark of success beside it that could be missing, and is written again."""
        return None

    def publish_manifest(self, manifest: bytes, job: JobRecord, receipts: Sequence[Receipt]) -> None:
        """As `OutputLocation.publish_manifest`: into the job's row."""
        with open_database(self.url) as database, database.begin() as connection:
            connection.execute(self._tables().job.update().values(manifest=manifest.decode()))

    def remove_progress(self) -> None:
        """As `OutputLocation.remove_progress`: nothing, since the receipts identify the rows."""

    def remove(self, job: JobRecord) -> None:
        """As `OutputLocation.remove`."""
        with open_database(self.url) as database:
            answers_exist = database.has_table(self._tables().answers)
            with database.begin() as connection:
                self._tables().drop_answers(connection, answers_exist)

    def _tables(self) -> AnswerTables:
        return AnswerTables(str(self.table))

    def _create_answers(self, database: Database, schema: Any) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        tables = self._tables()
        if database.has_table(tables.answers):
            return
        self._refuse_twins(database, schema.names)
        columns = [(name, column_type(name, schema.field(name).type, database.dialect)) for name in schema.names]
        try:
            with database.begin() as connection:
                tables.create_answers(connection, columns)
        except SQLAlchemyError:
            # Two workers with their first parts at once: one of them made it.
            if not database.has_table(tables.answers):
                raise

    def _is_foreign(self, database: Database) -> bool:
        """Whether there is a table of this name that no batch made: one without a batch's record or its key."""
        columns = database.columns(self._tables().answers)
        if columns is None:
            return False
        return not ({PART, ROW} <= columns.keys() and self._has_records(database))

    def _has_records(self, database: Database) -> bool:
        """Whether a batch has begun there."""
        from sqlalchemy import select

        tables = self._tables()
        if not (database.has_table(tables.job) and database.has_table(tables.parts)):
            return False
        with database.begin() as connection:
            return connection.execute(select(tables.job.c.record)).scalar() is not None

    def _foreign_records(self, database: Database) -> str | None:
        """The name of a table that is called as a batch's records are, and isn't one."""
        for table in (self._tables().parts, self._tables().job):
            found = database.columns(table)
            if found is not None and not {column.name for column in table.columns} <= found.keys():
                return str(table.name)
        return None

    def _refuse_foreign(self, database: Database) -> None:
        if self._is_foreign(database):
            raise UsageError(f"{database.name} has a table {self.table!r} that no batch made: give another --table")

    def _refuse_twins(self, database: Database, names: Iterable[str]) -> None:
        """Raise UsageError if two columns, or a column and the key, are one to this database."""
        seen = {database.folded(name): name for name in (PART, ROW)}
        longest = database.engine.dialect.max_identifier_length
        for name in dict.fromkeys(names):
            key = database.folded(name)
            if not name or len(name.encode()) > longest:
                what = f"longer than the {longest} bytes of {database.name}" if name else "no name in a database"
                raise UsageError(f"the column {name!r} is {what}: rename it, or don't keep it")
            if key in seen and seen[key] in (PART, ROW):
                raise UsageError(f"the column {name!r} is the key of the table: keep another one")
            if key in seen:
                raise UsageError(
                    f"the columns {seen[key]!r} and {name!r} would be one in {database.name}, to which upper and "
                    "lower case are the same: keep one of them"
                )
            seen[key] = name

    def _columns(self, database: Database, part: str, names: Sequence[str]) -> TableColumns:
        """The table's columns; raises DataRefused unless they are just these, and UsageError if it is no batch's."""
        self._refuse_foreign(database)
        types = database.columns(self._tables().answers) or {}
        unshared = sorted((types.keys() - {PART, ROW}) ^ {*names})
        if unshared:
            where = "this part" if unshared[0] in names else f"table {self.table!r}"
            raise DataRefused(
                f"{part}: the column {unshared[0]!r} is in {where} only: the parts of one table must have the "
                "same columns, those in the folders' names too"
            )
        return TableColumns(types, database.dialect)

    def _insert(self, connection: Any, part: str, pieces: Iterator[Any], columns: TableColumns) -> None:
        row = 0
        statement: Any = None
        for table in pieces:
            if statement is None:
                statement = self._tables().insert_answers(table.column_names)
            for start in range(0, table.num_rows, INSERTED_ROWS):
                try:
                    rows = columns.rows(table.slice(start, INSERTED_ROWS))
                    numbered = [{**cells, PART: part, ROW: row + index} for index, cells in enumerate(rows)]
                    connection.execute(statement, numbered)
                except OverflowError as error:
                    raise DataRefused(f"{part}: the database can't hold these rows: {error}") from None
                except DataRefused as error:
                    raise DataRefused(f"{part}: {error}") from None
                row += len(rows)

    def _take(self, connection: Any, name: str) -> None:
        from sqlalchemy.exc import IntegrityError

        try:
            connection.execute(self._tables().parts.insert().values(part=name, receipt=""))
        except IntegrityError:
            raise _Taken from None

    def _remove(self, connection: Any, part: str) -> None:
        tables = self._tables()
        connection.execute(tables.answers.delete().where(tables.answers.c[PART] == part))
        connection.execute(tables.parts.delete().where(tables.parts.c.part == part))

    def _recorded_job(self, connection: Any) -> JobRecord | None:
        from sqlalchemy import select

        record = connection.execute(select(self._tables().job.c.record)).scalar()
        return None if record is None else read_job_json(record, str(self._tables().job.name), "--table")

    def _refuse_another_job(self, connection: Any, scored: ScoredPart) -> None:
        """Raise UsageError unless the table is still this job's: the owner of this worker may be gone."""
        from sqlalchemy import func, select

        beginning = JobRecord.beginning(scored)
        # Shared, so that no other job takes the table before this transaction's end.
        start = select(func.substr(self._tables().job.c.record, 1, len(beginning))).with_for_update(read=True)
        if connection.execute(start).scalar() == beginning:
            return
        found = self._recorded_job(connection)
        if found is None or not found.is_of(scored):
            raise UsageError(f"another job has taken table {self.table!r} while this one wrote there")

    def _has_receipts(self, connection: Any) -> bool:
        from sqlalchemy import select

        return connection.execute(select(self._tables().parts.c.part).limit(1)).first() is not None

    def _receipt(self, connection: Any, name: str) -> Receipt | None:
        from sqlalchemy import select

        parts = self._tables().parts
        text = connection.execute(select(parts.c.receipt).where(parts.c.part == name)).scalar()
        with suppress(ValueError):
            receipt = Receipt.model_validate_json(text or "")
            return receipt if receipt.format == RECEIPT_FORMAT else None
        return None

    def _rows(self, connection: Any, name: str) -> int:
        from sqlalchemy import func, select

        answers = self._tables().answers
        count = select(func.count()).select_from(answers).where(answers.c[PART] == name)
        return int(connection.execute(count).scalar())
