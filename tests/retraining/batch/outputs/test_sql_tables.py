"""Cells in a database are those that were read, or the part is refused by name: nothing is rounded, cut or renamed."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from builders import bare_bundle, tiny_rows

from ai.ml.core.errors import BundlegateError, Busy, DataRefused, UsageError
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.batch.job import BatchReport, BatchSettings, open_job, run_job
from ai.ml.retraining.batch.outputs.sql_tables import lock_table
from ai.ml.retraining.batch.pinned import pin_bundle

ROWS = pa.Table.from_pylist(tiny_rows(2))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_bundle(tmp_path_factory.mktemp("bundles"))


def insert(bundle: Path, source: Path, url: str, *parts: pa.Array, keep: str = "key") -> BatchReport:
    """Score parts of two rows each, with `parts` as their kept column."""
    source.mkdir()
    for index, cells in enumerate(parts):
        write_table(ROWS.append_column(keep, cells), source / f"{index}.parquet")
    settings = BatchSettings(keep=(keep,))
    return run_job(open_job(pin_bundle(bundle), str(source), url, settings, table="scored"))


def kept(url: str, column: str = "key") -> list[Any]:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        order = "ORDER BY bundlegate_part, bundlegate_row"
        cells = [row[0] for row in connection.execute(sa.text(f'SELECT "{column}" FROM scored {order}'))]
    engine.dispose()
    return cells


def run_sql(url: str, *statements: str) -> None:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def as_text(cell: Any) -> str | None:
    """A cell whatever type the database gives it back in: SQLite has neither times nor decimals."""
    text = None if cell is None else str(cell)
    return text if text is None else {"True": "1", "False": "0"}.get(text, text.removesuffix(".0"))


DAY, HOUR = dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 13)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([1, 2]), pa.array([2.5, 3.0])),
        (pa.array([1, 2]), pa.array(["007", "008"])),
        (pa.array([DAY, DAY]), pa.array([HOUR, HOUR])),
        (pa.array([HOUR, HOUR]), pa.array([HOUR, HOUR], pa.timestamp("ns")).cast(pa.int64())),
        (pa.array([0.5, 1.5]), pa.array([2**60 + 1, 1])),
        (pa.array([True, False]), pa.array([1, 2])),
    ],
    ids=["fractions", "texts", "hours", "numbers of times", "long numbers", "booleans"],
)
def test_a_part_of_another_type_is_named(
    bundle: Path, tmp_path: Path, database: str, first: pa.Array, second: pa.Array
) -> None:
    report = insert(bundle, tmp_path / "in", database, first, second)
    assert [failure.part for failure in report.failures] == ["1.parquet"]
    assert "the column 'key' holds" in report.failures[0].message
    assert [as_text(cell) for cell in kept(database)] == [as_text(cell) for cell in first.to_pylist()]


@pytest.mark.parametrize(
    ("cells", "others"),
    [
        (pa.array([Decimal("1.10"), None]), pa.array([Decimal("99.001"), None])),
        (pa.array([HOUR, None], pa.timestamp("ns")), pa.array([HOUR, None])),
        (pa.array([dt.time(13, 5), None]), pa.array([dt.time(1), None])),
        (pa.array(["007", None]), pa.array([7, None])),
        (pa.array([0.5, None]), pa.array([3, None])),
        (pa.nulls(2), pa.array(["007", None])),
        (pa.array([DAY, None]), pa.nulls(2)),
    ],
    ids=["decimals", "nanoseconds", "hours", "texts", "whole fractions", "nulls first", "nulls later"],
)
def test_cells_come_back_as_they_were(
    bundle: Path, tmp_path: Path, database: str, cells: pa.Array, others: pa.Array
) -> None:
    report = insert(bundle, tmp_path / "in", database, cells, others)
    assert not report.failures
    wanted = [cells[0].as_py(), None, others[0].as_py(), None]
    assert [as_text(cell) for cell in kept(database)] == [as_text(cell) for cell in wanted]


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([1, 2], pa.timestamp("ns")),
        pa.array([0, 0], pa.timestamp("us", "Mars/Base")),
        pa.array([-(10**6), 0], pa.date32()),
        pa.array([-(2**62), 0], pa.timestamp("us")),
    ],
    ids=["nanoseconds", "zone", "day", "time"],
)
def test_what_no_database_holds_is_told_with_its_column(
    bundle: Path, tmp_path: Path, database: str, cells: pa.Array
) -> None:
    with pytest.raises(BundlegateError, match=r"0\.parquet: the column 'key' holds what a database can't") as raised:
        insert(bundle, tmp_path / "in", database, cells)
    assert raised.value.exit_code == 4


def test_a_table_that_refuses_rows_is_named_with_its_reason(bundle: Path, tmp_path: Path, database: str) -> None:
    insert(bundle, tmp_path / "in", database, pa.array([1, 2]))
    statements = ["DELETE FROM scored", "CREATE UNIQUE INDEX one ON scored (key)"]
    run_sql(database, *statements)
    write_table(ROWS.append_column("key", pa.array([3, 3])), tmp_path / "in" / "0.parquet")
    settings = BatchSettings(keep=("key",), overwrite=False)
    run_sql(database, "DELETE FROM scored_bundlegate_parts")
    with pytest.raises(DataRefused, match=r"0\.parquet: table 'scored' refuses these rows: .*(?i:unique)"):
        run_job(open_job(pin_bundle(bundle), str(tmp_path / "in"), database, settings, table="scored"))


def test_records_of_another_make_are_refused(bundle: Path, tmp_path: Path, database: str) -> None:
    names = ("job", "parts")
    run_sql(database, *(f"CREATE TABLE scored_bundlegate_{name} (mine INTEGER)" for name in names))
    with pytest.raises(UsageError, match="has a table 'scored_bundlegate_parts' that no batch made"):
        insert(bundle, tmp_path / "in", database, pa.array([1, 2]))


def test_names_that_no_column_can_have_are_refused(bundle: Path, tmp_path: Path, database: str) -> None:
    with pytest.raises(UsageError, match="the column '' is no name in a database"):
        insert(bundle, tmp_path / "none", database, pa.array([1, 2]), keep="")
    if database.startswith("postgresql"):
        with pytest.raises(UsageError, match=r"the column 'x+' is longer than the 63 bytes of"):
            insert(bundle, tmp_path / "long", database, pa.array([1, 2]), keep="x" * 64)
    job = open_job(pin_bundle(bundle), str(tmp_path / "none"), database, BatchSettings(), table="nowhere.scored")
    with pytest.raises(UsageError, match="has no schema 'nowhere'"):
        run_job(job)


@pytest.mark.needs("postgresql")
def test_a_table_has_one_lock_however_it_is_called(postgresql_url: str) -> None:
    with lock_table(postgresql_url, "scored"), pytest.raises(Busy), lock_table(postgresql_url, "public.scored"):
        pass
