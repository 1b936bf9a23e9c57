"""Answers into a database: a transaction per part, nothing twice, no password anywhere."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from batch_scenes import dataset, kill_at, predict_process, rows_to_score
from bundles import sealed_bundle
from conftest import PATIENCE_S
from postgresql_server import PASSWORD

from ai.ml.core.errors import Busy, DataRefused, ExitCode, StorageFailed, UsageError
from ai.ml.core.tables.locations import source_name
from ai.ml.core.tables.reader import read_table, write_table
from ai.ml.retraining.batch.job import BatchReport, BatchSettings, open_job, run_job
from ai.ml.retraining.batch.outputs import sql_tables
from ai.ml.retraining.batch.outputs.sql import SqlOutput
from ai.ml.retraining.batch.outputs.sql_tables import lock_table
from ai.ml.retraining.batch.pinned import pin_bundle
from ai.ml.retraining.batch.runners import ProcessRunner, Runner, run_inline

KEPT = BatchSettings(keep=("key",), proba=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_bundle(tmp_path_factory.mktemp("bundles"))


def insert(
    bundle: Path, source: Path, url: str, settings: BatchSettings = KEPT, *, run: Runner = run_inline
) -> BatchReport:
    return run_job(open_job(pin_bundle(bundle), str(source), url, settings, table="scored"), run)


def answered(url: str) -> list[tuple]:
    """Every row of the table, in the order of parts and rows, without the key's part."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        query = "SELECT key, plan, y_predicted, y_probability_no FROM scored ORDER BY bundlegate_part, bundlegate_row"
        rows = [tuple(row) for row in connection.execute(sa.text(query))]
    engine.dispose()
    return rows


def tables_of(url: str) -> set[str]:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    names = set(sa.inspect(engine).get_table_names())
    engine.dispose()
    return names


def parts_of(url: str) -> int:
    """How many parts have their receipts."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT count(*) FROM scored_bundlegate_parts")).scalar()
    engine.dispose()
    return int(found or 0)


def expected(bundle: Path, source: Path, folder: Path) -> list[tuple]:
    """The same answers, by way of a file."""
    run_job(open_job(pin_bundle(bundle), str(source), str(folder / "one.parquet"), KEPT))
    table = read_table(folder / "one.parquet")
    columns = [table[name].to_pylist() for name in ("key", "plan", "y_predicted", "y_probability_no")]
    return list(zip(*columns, strict=True))


def test_every_row_is_there_once_and_a_rerun_inserts_nothing(bundle: Path, tmp_path: Path, database: str) -> None:
    source = dataset(tmp_path / "in", 4)
    report = insert(bundle, source, database)
    rows = answered(database)
    assert rows == expected(bundle, source, tmp_path)
    again = insert(bundle, source, database)
    assert (again.kept, again.rows) == (4, report.rows) == (4, len(rows))
    assert answered(database) == rows
    hidden = report.model_dump_json()
    assert PASSWORD not in hidden
    assert quote(PASSWORD, safe="") not in hidden


def test_an_unreadable_part_inserts_no_row_until_it_is_mended(bundle: Path, tmp_path: Path, database: str) -> None:
    source = dataset(tmp_path / "in", 3)
    part = source / "plan=plus" / "part-1.parquet"
    sound = part.read_bytes()
    part.write_bytes(sound[: len(sound) // 2])
    report = insert(bundle, source, database)
    assert report.exit_code == ExitCode.DATA
    assert {row[1] for row in answered(database)} == {"basic", "pro"}
    part.write_bytes(sound)
    assert insert(bundle, source, database).kept == 2
    assert answered(database) == expected(bundle, source, tmp_path)


def test_rows_that_somebody_deleted_are_inserted_again(bundle: Path, tmp_path: Path, database: str) -> None:
    source = dataset(tmp_path / "in", 2)
    insert(bundle, source, database)
    rows = answered(database)
    engine = sa.create_engine(database.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM scored WHERE bundlegate_row = 7 AND plan = 'plus'"))
    engine.dispose()
    assert insert(bundle, source, database).kept == 1
    assert answered(database) == rows
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE scored"))
    engine.dispose()
    assert insert(bundle, source, database).kept == 0
    assert answered(database) == rows


def test_another_job_and_a_strangers_table_are_refused(bundle: Path, tmp_path: Path, database: str) -> None:
    source = dataset(tmp_path / "in", 2)
    insert(bundle, source, database)
    rows = answered(database)
    with pytest.raises(UsageError, match=r"table 'scored' of .* was begun with other settings \(proba\)") as refusal:
        insert(bundle, source, database, BatchSettings(keep=("key",)))
    assert PASSWORD not in str(refusal.value)
    assert quote(PASSWORD, safe="") not in str(refusal.value)
    assert answered(database) == rows
    write_table(rows_to_score(9, seed=9), source / "plan=basic" / "part-0.parquet")
    with pytest.raises(UsageError, match="has changed since it was scored"):
        insert(bundle, source, database)
    insert(bundle, source, database, KEPT.model_copy(update={"overwrite": True, "keep": ("key", "age")}))
    assert len(answered(database)) == 9 + 151
    engine = sa.create_engine(database.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE people (name TEXT)"))
    engine.dispose()
    with pytest.raises(UsageError, match="has a table 'people' that no batch made"):
        run_job(open_job(pin_bundle(bundle), str(source), database, KEPT, table="people"))
    assert {name for name in tables_of(database) if name.startswith("people")} == {"people"}


def test_two_runs_never_write_to_one_table(
    bundle: Path, tmp_path: Path, database: str, warm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_tables, "LOCK_WAIT_S", 0.1)
    source = dataset(tmp_path / "in", 2)
    with lock_table(database, "scored"), pytest.raises(Busy, match="another run is writing into table 'scored'"):
        insert(bundle, source, database)


@pytest.mark.needs("postgresql")
def test_the_lock_of_a_run_that_is_ending_is_waited_for(bundle: Path, tmp_path: Path, postgresql_url: str) -> None:
    """As after a kill: PostgreSQL lets go of it when it notices."""
    source, held = dataset(tmp_path / "in", 1), ExitStack()
    held.enter_context(lock_table(postgresql_url, "ending"))
    notices = threading.Timer(1.0, held.close)
    notices.start()
    try:
        job = open_job(pin_bundle(bundle), str(source), postgresql_url, KEPT, table="ending")
        assert run_job(job, run_inline).rows == 150
    finally:
        notices.join()


@pytest.mark.slow
def test_processes_insert_side_by_side(bundle: Path, tmp_path: Path, database: str) -> None:
    source = dataset(tmp_path / "in", 6)
    insert(bundle, source, database, run=ProcessRunner(2))
    assert answered(database) == expected(bundle, source, tmp_path)


@pytest.mark.slow
def test_killed_at_any_moment_no_row_is_missing_or_twice(
    bundle: Path, tmp_path: Path, database: str, warm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_tables, "LOCK_WAIT_S", PATIENCE_S)
    source = dataset(tmp_path / "in", 8, 4_000)
    whole = expected(bundle, source, tmp_path)
    kept: list[int] = []
    for done in (0, 3, 6):
        process = predict_process(warm, bundle, source, database, "--table", "scored", "--keep", "key", "--proba")
        kill_at(lambda done=done: "scored" in tables_of(database) and parts_of(database) >= done, process)
        kept.append(insert(bundle, source, database).kept)
        assert answered(database) == whole
        drop_all(database)
    # The kills fell between parts.
    assert min(kept) < 6 <= max(kept), kept


def drop_all(url: str) -> None:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for name in tables_of(url):
            connection.execute(sa.text(f'DROP TABLE "{name}"'))
    engine.dispose()


@pytest.mark.needs("postgresql")
def test_messages_show_no_password(bundle: Path, tmp_path: Path, postgresql_url: str) -> None:
    source = dataset(tmp_path / "in", 1)
    wrong = postgresql_url.replace(quote(PASSWORD, safe=""), "hunter2")
    with pytest.raises(StorageFailed) as refusal:
        insert(bundle, source, wrong)
    assert "hunter2" not in str(refusal.value)
    assert "ada:***@127.0.0.1" in str(refusal.value)
    assert "hunter2" not in repr(SqlOutput(wrong, "scored"))


def test_a_table_that_cant_be_is_refused_before_anything_is_done(bundle: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/answers.db"
    for table, said in ((None, "by --table NAME"), ("a;drop", "can't make a table 'a;drop'")):
        with pytest.raises(UsageError, match=said):
            open_job(pin_bundle(bundle), str(dataset(tmp_path / "in", 1)), url, KEPT, table=table)
    with pytest.raises(UsageError, match="a table 't' is for a database"):
        open_job(pin_bundle(bundle), str(tmp_path / "in"), str(tmp_path / "out"), KEPT, table="t")
    with pytest.raises(UsageError, match="in memory"):
        run_job(open_job(pin_bundle(bundle), str(tmp_path / "in"), "sqlite://", KEPT, table="t"))
    assert not (tmp_path / "answers.db").exists()


def test_a_refused_only_part_leaves_no_tables(bundle: Path, tmp_path: Path, database: str) -> None:
    (tmp_path / "in.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataRefused):
        insert(bundle, tmp_path / "in.parquet", database)
    assert not tables_of(database)


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("postgresql://ann:a@b:c@db:5432/x", "postgresql://ann:***@db:5432/x"),
        ("postgresql://db/x?sslpassword=q&application_name=y", "postgresql://db/x?sslpassword=***&application_name=y"),
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("/data/a:b@c", "/data/a:b@c"),
    ],
)
def test_how_a_place_is_shown(place: str, shown: str) -> None:
    assert source_name(place) == shown
