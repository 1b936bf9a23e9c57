"""Whose fault it is when a database doesn't answer: the code tells a page at night from a query to mend."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from conftest import free_port

from ai.ml.core.errors import Busy, DataRefused, StorageFailed
from ai.ml.core.tables import ReadOptions, read_table


def test_a_locked_database_is_busy(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    holder = sqlite3.connect(path)
    holder.execute("CREATE TABLE t (x)")
    holder.commit()
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Busy, match="database is locked"):
        read_table(f"sqlite:///{path}?timeout=0.1", ReadOptions(query="SELECT x FROM t"))
    holder.rollback()
    holder.close()
    assert read_table(f"sqlite:///{path}", ReadOptions(query="SELECT 1 AS x FROM t UNION SELECT 1")).num_rows == 1


def test_a_query_that_the_database_refuses_is_the_datas(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "x.db").close()
    with pytest.raises(DataRefused, match="no such table"):
        read_table(f"sqlite:///{tmp_path}/x.db", ReadOptions(query="SELECT x FROM u"))


def test_a_server_that_is_away_is_a_failed_storage_and_no_message_holds_the_password() -> None:
    with pytest.raises(StorageFailed) as refused:
        read_table(f"postgresql://u:secret@127.0.0.1:{free_port()}/d", ReadOptions(query="SELECT 1"))
    assert "secret" not in str(refused.value)
