"""A file that isn't what its name says is called what it is, with what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from workbook import write_workbook

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables import read_batches, read_table

TABLE = pa.table({"x": [1, 2], "y": ["a", "b"]})
CSV = b"x,y\n1,a\n2,b\n"


def tarred(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("t.csv")
        member.size = len(CSV)
        archive.addfile(member, io.BytesIO(CSV))


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("t.csv", CSV)


def workbook(path: Path) -> None:
    write_workbook(path.with_suffix(".xlsx"), {"t": TABLE})
    path.with_suffix(".xlsx").rename(path)


def database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("create table t (x)")
    connection.commit()
    connection.close()


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "zip": (zipped, "a ZIP archive, whatever its name says: unpack it"),
    "tar": (tarred, "a tar archive"),
    "bzip2": (lambda path: path.write_bytes(bz2.compress(CSV)), "packed with bzip2"),
    "xz": (lambda path: path.write_bytes(lzma.compress(CSV)), "packed with xz"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(CSV)), "a gzip file.*as .csv.gz"),
    "workbook": (workbook, "a workbook.*end with .xlsx"),
    "parquet": (lambda path: pq.write_table(TABLE, path), "a Parquet file.*end with .parquet"),
    "feather": (lambda path: feather.write_feather(TABLE, str(path)), "an Arrow file"),
    "database": (database, "an SQLite database, whatever its name says: read it as sqlite:///"),
    "HTML": (lambda path: path.write_bytes(b"\n<!DOCTYPE html>\n<html><body>404"), "an HTML page"),
    "XML": (lambda path: path.write_bytes(b"<?xml version='1.0'?><rows/>"), "an XML document"),
    "JSON": (lambda path: path.write_bytes(b'[{"x": 1}]'), "JSON"),
    "JSON lines": (lambda path: path.write_bytes(b'{"x": 1}\n{"x": 2}\n'), "JSON"),
    "LFS": (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid x\n"), "git lfs pull"),
    "PDF": (lambda path: path.write_bytes(b"%PDF-1.7\n"), "a PDF document"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_csv_is_called_what_it_is(tmp_path: Path, kind: str) -> None:
    write, said = WRONG[kind]
    path = tmp_path / "t.csv"
    write(path)
    with pytest.raises(DataRefused, match=f"t.csv is {said}" if kind != "LFS" else said):
        read_table(path)
    with pytest.raises(DataRefused):
        next(read_batches(path))


def test_what_is_no_workbook_and_no_parquet_is_called_what_it_is_too(tmp_path: Path) -> None:
    (tmp_path / "t.xls").write_bytes(b"<html><table><tr><td>x</td></tr></table></html>")
    with pytest.raises(DataRefused, match=r"t\.xls is an HTML page"):
        read_table(tmp_path / "t.xls")
    pq.write_table(TABLE, tmp_path / "t.xlsx")
    with pytest.raises(DataRefused, match=r"t\.xlsx is a Parquet file"):
        read_table(tmp_path / "t.xlsx")
    workbook(tmp_path / "t.parquet")
    with pytest.raises(DataRefused, match=r"t\.parquet is a workbook"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("text", ['"<b>",y\n1,2\n', "[x],y\n1,2\n", "{a},y\n1,2\n", "<x,y\n1,2\n", "PK,y\n1,2\n"])
def test_odd_names_of_columns_make_no_other_kind(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert read_table(tmp_path / "t.csv").num_rows == 1
