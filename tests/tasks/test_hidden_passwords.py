"""No password of a database reaches Prefect: neither its parameters nor its database nor its logs."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ai.ml.core.errors import DataRefused, StorageFailed
from ai.ml.core.tables.locations import hide_password, with_password
from ai.ml.core.tables.read_options import ReadOptions
from ai.ml.core.tables.reader import read_table
from ai.ml.retraining.runs.resume import write_run
from ai.ml.retraining.settings.retrain import RetrainConfig
from tasks.hidden_passwords import without_passwords

ROOT = Path(__file__).parent.parent.parent
URL = "postgresql+psycopg://ada:s3:cr@t@127.0.0.1:1/shop?sslpassword=also"
SHOWN = "postgresql+psycopg://ada:***@127.0.0.1:1/shop?sslpassword=***"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hidden here is known to no other test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


def settings(source: str, query: str | None = None) -> RetrainConfig:
    given = {"name": "m", "data": {"source": source, "target": "y", "query": query}}
    return RetrainConfig.model_validate(given)


def test_the_settings_show_no_password_and_the_process_still_has_it() -> None:
    hidden = without_passwords(settings(URL, "select 'https://u:p@h' from t"))
    assert hidden.data.source == SHOWN
    assert hidden.data.query == "select 'https://u:p@h' from t", "a query is left as it is"
    assert with_password(hidden.data.source) == URL
    assert "cr@t" not in hidden.model_dump_json()
    assert without_passwords(hidden) == hidden


@pytest.mark.parametrize(
    "location", ["t.csv", "s3://bucket/key", "sqlite:///t.db", "https://u:p@host/x", "postgresql://h/d"]
)
def test_what_has_no_password_of_a_database_is_as_it_was(location: str) -> None:
    plain = settings(location)
    assert without_passwords(plain) is plain
    assert hide_password(location) == with_password(location) == location


def test_the_connection_is_made_with_the_password(tmp_path: Path) -> None:
    """SQLite ignores the user; the file is found only if the whole URL came back."""
    with sqlite3.connect(tmp_path / "t.db") as database:
        database.execute("create table t (a integer)")
        database.execute("insert into t values (1)")
    shown = hide_password(f"sqlite:///{tmp_path}/t.db?password=s3cret")
    assert "s3cret" not in shown
    os.environ.update({name: f"sqlite:///{tmp_path}/t.db" for name in os.environ if name.startswith("BUNDLEGATE_URL_")})
    assert read_table(shown, ReadOptions(query="select a from t")).num_rows == 1


def test_a_refused_connection_names_no_password() -> None:
    with pytest.raises((StorageFailed, DataRefused)) as refused:
        read_table(hide_password(URL), ReadOptions(query="select 1"))
    assert "cr@t" not in str(refused.value)
    assert SHOWN in str(refused.value)


def test_a_run_remembers_that_its_password_must_be_given_again(tmp_path: Path) -> None:
    write_run(tmp_path, without_passwords(settings(URL)))
    content = (tmp_path / "run.json").read_text()
    assert '"secret": true' in content
    assert "cr@t" not in content


@pytest.mark.slow(22)
@pytest.mark.processor_seconds(40)
def test_nothing_that_prefect_keeps_holds_it(tmp_path: Path) -> None:
    words = ["--name", "x", "--store", "store", "--data", URL, "--query", "select 1", "--target", "y"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path / "home")}
    environment.pop("PREFECT_API_URL", None)
    done = subprocess.run(
        [sys.executable, "-m", "flows.retrain", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode in (4, 74), done.stderr
    assert SHOWN in done.stderr
    assert "s3:cr@t" not in done.stderr + done.stdout
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in kept), "Prefect kept the run"
    assert [path for path in kept if b"s3:cr@t" in path.read_bytes() or b"s3%3Acr" in path.read_bytes()] == []
