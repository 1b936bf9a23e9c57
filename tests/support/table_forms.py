"""One table in every form that data come in: files, a database, frames and rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from workbook import write_workbook

from ai.ml.core.tables.reader import ReadOptions, read_table, write_table

CITIES = ("Oslo", "Łódź", "São Paulo", "New York")


def shop_table(n_rows: int = 60, seed: int = 0) -> pa.Table:
    """Numbers, a count, categories, a boolean, codes and dates, without missing cells; the target `sold`."""
    rng = np.random.default_rng(seed)
    income = np.round(rng.lognormal(6, 0.5, n_rows), 2)
    age = rng.integers(18, 60, n_rows)
    return pa.table(
        {
            "age": pa.array(age),
            "income": pa.array(income),
            "city": pa.array(rng.choice(CITIES, n_rows)),
            "member": pa.array(np.where(rng.random(n_rows) < 0.5, "Yes", "No")),
            "zip": pa.array(rng.choice(["00123", "98103", "10115"], n_rows)),
            "active": pa.array(rng.random(n_rows) < 0.5),
            "since": pa.array(np.datetime64("2021-01-01") + rng.integers(0, 900, n_rows)),
            "sold": pa.array(np.where(age + rng.normal(0, 9, n_rows) > 40, "yes", "no")),
        }
    )


def via_csv(table: pa.Table, folder: Path) -> pa.Table:
    write_table(table, folder / "t.csv")
    return read_table(folder / "t.csv")


def via_gz(table: pa.Table, folder: Path) -> pa.Table:
    import gzip

    write_table(table, folder / "t.csv")
    (folder / "t.csv.gz").write_bytes(gzip.compress((folder / "t.csv").read_bytes()))
    return read_table(folder / "t.csv.gz")


def via_semicolons(table: pa.Table, folder: Path) -> pa.Table:
    """As a German spreadsheet program writes it: a byte order mark, semicolons, CRLF."""
    frame = table.to_pandas()
    frame.to_csv(folder / "s.csv", sep=";", index=False, encoding="utf-8-sig", lineterminator="\r\n")
    return read_table(folder / "s.csv")


def via_parquet(table: pa.Table, folder: Path) -> pa.Table:
    write_table(table, folder / "t.parquet")
    return read_table(folder / "t.parquet")


def via_excel(table: pa.Table, folder: Path) -> pa.Table:
    return read_table(write_workbook(folder / "t.xlsx", {"notes": pa.table({"x": [1]}), "data": table}), _DATA_SHEET)


_DATA_SHEET = ReadOptions(sheet="data")


def via_sql(table: pa.Table, folder: Path) -> pa.Table:
    path = folder / "t.db"
    path.unlink(missing_ok=True)
    names = ", ".join(f'"{name}"' for name in table.column_names)
    cells = zip(*(map(_sqlite_cell, column.to_pylist()) for column in table.columns), strict=True)
    connection = sqlite3.connect(path)
    connection.execute(f"create table t ({names})")
    connection.executemany(f"insert into t values ({', '.join('?' * table.num_columns)})", cells)
    connection.commit()
    connection.close()
    return read_table(f"sqlite:///{path}", ReadOptions(query="select * from t"))


def via_pandas(table: pa.Table, folder: Path) -> pa.Table:
    frame = table.to_pandas()
    frame.index = frame.index[::-1] + 7
    return read_table(frame)


def via_pandas_objects(table: pa.Table, folder: Path) -> pa.Table:
    objects = {name: pd.Series(table[name].to_pylist(), dtype=object) for name in table.column_names}
    return read_table(pd.DataFrame(objects))


def via_pandas_categories(table: pa.Table, folder: Path) -> pa.Table:
    frame = table.to_pandas()
    for name in frame.columns:
        if frame[name].dtype.kind not in "iufbM":
            frame[name] = frame[name].astype("category")
        elif frame[name].dtype.kind == "i":
            frame[name] = frame[name].astype("Int64")
    return read_table(frame)


def via_polars(table: pa.Table, folder: Path) -> pa.Table:
    return read_table(pl.from_arrow(table))


def via_dicts(table: pa.Table, folder: Path) -> pa.Table:
    return read_table(table.to_pylist())


SOURCES: dict[str, Callable[[pa.Table, Path], pa.Table]] = {
    "CSV": via_csv,
    "CSV ; BOM": via_semicolons,
    "CSV .gz": via_gz,
    "Parquet": via_parquet,
    "Excel": via_excel,
    "SQL": via_sql,
    "pandas": via_pandas,
    "pandas objects": via_pandas_objects,
    "pandas categories": via_pandas_categories,
    "polars": via_polars,
    "dicts": via_dicts,
}


def _sqlite_cell(value: Any) -> Any:
    """SQLite has no dates: they are ISO texts."""
    return value.isoformat(" ") if hasattr(value, "hour") else value.isoformat() if hasattr(value, "year") else value
