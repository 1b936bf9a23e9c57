"""What a batch takes for its own: its tables, its input, its former output. Never a user's table, nor another input."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from batch_scenes import dataset, rows_to_score
from bundles import sealed_bundle

from ai.ml.core.errors import DataRefused, ExitCode, UsageError
from ai.ml.core.tables.reader import read_table, write_table
from ai.ml.retraining.batch.job import BatchReport, BatchSettings, open_job, run_job
from ai.ml.retraining.batch.pinned import pin_bundle

KEPT = BatchSettings(keep=("key",))
AGAIN = KEPT.model_copy(update={"overwrite": True})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_bundle(tmp_path_factory.mktemp("bundles"))


def score(
    bundle: Path, source: str | Path, output: str | Path, settings: BatchSettings = KEPT, table: str | None = None
) -> BatchReport:
    return run_job(open_job(pin_bundle(bundle), str(source), str(output), settings, table=table))


def executed(database: Path, *statements: str) -> list[tuple]:
    """The rows of the last statement."""
    rows: list[tuple] = []
    with closing(sqlite3.connect(database)) as connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        connection.commit()
    return rows


def tables_of(database: Path) -> set[str]:
    return {name for (name,) in executed(database, "SELECT name FROM sqlite_master WHERE type = 'table'")}


def database_of(path: Path, table: pa.Table) -> str:
    with closing(sqlite3.connect(path)) as connection:
        columns = ", ".join(f'"{name}"' for name in table.column_names)
        connection.execute(f"CREATE TABLE IF NOT EXISTS people ({columns})")
        marks = ", ".join("?" * table.num_columns)
        # As text: Python's own way from a date is deprecated as of 3.12.
        plain = [
            [str(value) if isinstance(value, date) else value for value in row.values()] for row in table.to_pylist()
        ]
        connection.executemany(f"INSERT INTO people VALUES ({marks})", plain)
        connection.commit()
    return f"sqlite:///{path}"


@pytest.mark.parametrize("settings", [KEPT, AGAIN])
def test_a_users_table_outlives_a_refused_run(bundle: Path, tmp_path: Path, settings: BatchSettings) -> None:
    database, source = tmp_path / "u.db", tmp_path / "in.parquet"
    write_table(rows_to_score(5, seed=1), source)
    executed(database, "CREATE TABLE mine (a)", "INSERT INTO mine VALUES (1)")
    for _ in range(2):
        with pytest.raises(UsageError, match="has a table 'mine' that no batch made"):
            score(bundle, source, f"sqlite:///{database}", settings, "mine")
        assert executed(database, "SELECT a FROM mine") == [(1,)]
    assert tables_of(database) == {"mine"}


@pytest.mark.parametrize("settings", [KEPT, AGAIN])
def test_a_users_table_beside_an_interrupted_batchs_records(
    bundle: Path, tmp_path: Path, settings: BatchSettings
) -> None:
    database, source = tmp_path / "u.db", tmp_path / "in.parquet"
    write_table(rows_to_score(5, seed=1), source)
    job = open_job(pin_bundle(bundle), str(source), f"sqlite:///{database}", settings, table="mine")
    job.task.destination.begin(job.record, overwrite=False)  # and killed before its first part
    executed(database, "CREATE TABLE mine (a)", "INSERT INTO mine VALUES (1)")
    with pytest.raises(UsageError, match="has a table 'mine' that no batch made"):
        run_job(job)
    assert executed(database, "SELECT a FROM mine") == [(1,)]


def test_another_database_is_another_input(bundle: Path, tmp_path: Path) -> None:
    rows = rows_to_score(12, seed=1)
    first, second = database_of(tmp_path / "a.db", rows[:5]), database_of(tmp_path / "b.db", rows[5:])
    settings = KEPT.model_copy(update={"query": "SELECT * FROM people"})
    out = tmp_path / "out"
    assert score(bundle, first, out, settings).rows == 5
    with pytest.raises(UsageError, match=r"begun with another input: .*a\.db, now .*b\.db"):
        score(bundle, second, out, settings)
    taken_over = score(bundle, second, out, settings.model_copy(update={"overwrite": True}))
    assert (taken_over.rows, taken_over.kept) == (7, 0)
    assert read_table(out / "query.csv")["key"].to_pylist() == rows["key"].to_pylist()[5:]


def test_a_query_is_asked_again(bundle: Path, tmp_path: Path) -> None:
    rows = rows_to_score(8, seed=1)
    settings = KEPT.model_copy(update={"query": "SELECT * FROM people"})
    table = tmp_path / "answers.db"
    for count, piece in ((5, rows[:5]), (8, rows[5:])):
        source = database_of(tmp_path / "a.db", piece)
        for output, name in ((str(tmp_path / "out"), None), (f"sqlite:///{table}", "scored")):
            report = score(bundle, source, output, settings, name)
            assert (report.rows, report.kept) == (count, 0)
        assert read_table(tmp_path / "out" / "query.csv").num_rows == count
        assert executed(table, "SELECT count(*) FROM scored") == [(count,)]


def test_no_record_holds_the_password_of_its_source(bundle: Path, tmp_path: Path) -> None:
    job = open_job(pin_bundle(bundle), "postgresql://ada:secret@db/shop", str(tmp_path / "out"), KEPT)
    assert job.record.source == "postgresql://ada:***@db/shop"


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_overwrite_takes_a_changed_input(bundle: Path, tmp_path: Path, kind: str) -> None:
    source = dataset(tmp_path / "in", 2, 20)
    output, table = (tmp_path / "out", None) if kind == "folder" else (f"sqlite:///{tmp_path}/o.db", "scored")
    score(bundle, source, output, KEPT, table)
    assert score(bundle, source, output, AGAIN, table).kept == 2, "nothing has changed"
    write_table(rows_to_score(9, seed=9).drop_columns(["plan"]), source / "plan=basic" / "part-0.parquet")
    with pytest.raises(UsageError, match="has changed since it was scored"):
        score(bundle, source, output, KEPT, table)
    report = score(bundle, source, output, AGAIN, table)
    assert (report.rows, report.kept) == (9 + 21, 0)
    assert score(bundle, source, output, KEPT, table).kept == 2


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_a_part_that_is_lost_and_whose_input_has_changed_is_refused(bundle: Path, tmp_path: Path, kind: str) -> None:
    source = dataset(tmp_path / "in", 2, 20)
    output, table = (tmp_path / "out", None) if kind == "folder" else (f"sqlite:///{tmp_path}/o.db", "scored")
    score(bundle, source, output, KEPT, table)
    if table is None:
        (tmp_path / "out" / "plan=basic" / "part-0.parquet").unlink()
    else:
        executed(tmp_path / "o.db", "DELETE FROM scored WHERE plan = 'basic'")
    write_table(rows_to_score(9, seed=9).drop_columns(["plan"]), source / "plan=basic" / "part-0.parquet")
    with pytest.raises(UsageError, match=r"input of plan=basic/part-0\.parquet has changed since it was scored"):
        score(bundle, source, output, KEPT, table)


def test_a_part_with_other_columns_than_the_table_is_named(bundle: Path, tmp_path: Path) -> None:
    folder, database = tmp_path / "in", tmp_path / "o.db"
    (folder / "country=NO").mkdir(parents=True)
    for index, name in enumerate(("a.parquet", "country=NO/b.parquet", "x.parquet")):
        write_table(rows_to_score(4, seed=index), folder / name)
    report = score(bundle, folder, f"sqlite:///{database}", table="t")
    assert (report.exit_code, report.rows) == (ExitCode.DATA, 8)
    (failure,) = report.failures
    assert failure.source == str(folder / "country=NO" / "b.parquet")
    assert "column 'country' is in this part only" in failure.message
    assert executed(database, "SELECT count(*) FROM t") == [(8,)]


def test_columns_that_are_one_to_the_database_are_refused_at_once(bundle: Path, tmp_path: Path) -> None:
    source, database = tmp_path / "in.parquet", tmp_path / "o.db"
    rows = rows_to_score(4, seed=1)
    write_table(rows.append_column("KEY", rows["key"]).append_column("Y_predicted", rows["key"]), source)
    for keep, said in (
        (("key", "KEY"), "'key' and 'KEY' would be one"),
        (("Y_predicted",), "'Y_predicted' and 'y_predicted' would be one"),
        (("BUNDLEGATE_part",), "is the key of the table"),
    ):
        with pytest.raises(UsageError, match=said):
            score(bundle, source, f"sqlite:///{database}", BatchSettings(keep=keep), "t")
        assert tables_of(database) == set()


def test_tables_whose_names_are_one_to_sqlite_have_one_lock(tmp_path: Path) -> None:
    from ai.ml.core.errors import Busy
    from ai.ml.retraining.batch.outputs.sql_tables import lock_table

    url = f"sqlite:///{tmp_path}/o.db"
    with lock_table(url, "scores"), pytest.raises(Busy, match="another run"), lock_table(url, "main.Scores"):
        raise AssertionError("two runs in one table")


@pytest.mark.parametrize("drift", ["report", "refuse"])
def test_a_corrupt_part_is_left_out_of_the_drift_and_named(bundle: Path, tmp_path: Path, drift: str) -> None:
    source = tmp_path / "in"
    (source / "b").mkdir(parents=True)
    for index, name in enumerate(("a.parquet", "b/b.parquet", "c.parquet")):
        write_table(rows_to_score(30, seed=index), source / name)
    part = source / "b" / "b.parquet"
    part.write_bytes(part.read_bytes()[:200])
    settings = BatchSettings.model_validate({"drift": drift, "keep": ("key",)})
    report = score(bundle, source, tmp_path / "out", settings)
    assert (report.exit_code, report.rows, len(report.failures)) == (ExitCode.DATA, 60, 1)
    assert report.failures[0].source == str(part)
    assert report.drift is not None
    assert report.drift.document["rows"] == 60
    for other in source.rglob("*.parquet"):
        other.write_bytes(b"PAR1 no")
    with pytest.raises(DataRefused, match=r"none of 3 parts can be read; .*in/a\.parquet: "):
        score(bundle, source, tmp_path / "none", settings)


def test_a_part_that_breaks_off_is_in_no_figure_of_a_refusal(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 3, 40, suffix=".csv")
    part = source / "plan=plus" / "part-1.csv"
    part.write_bytes(part.read_bytes() + b'"a,b\n')
    with pytest.raises(DataRefused, match=r"'plan' \(PSI .*1 of 3 parts couldn't be read .*plan=plus/part-1\.csv: "):
        score(bundle, source, tmp_path / "out", BatchSettings(drift="refuse"))
