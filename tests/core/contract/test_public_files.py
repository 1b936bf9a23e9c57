"""Tables as people have them: each kind is read right, or refused with a sentence that a person can act on.

Every file is a synthetic twin made here; `docs/public-files.md` describes the kinds.
"""

from __future__ import annotations

import gzip
import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from workbook import write_workbook

from ai.ml.core.contract import derive_contract
from ai.ml.core.contract.casting import Conformer
from ai.ml.core.errors import DataRefused
from ai.ml.core.tables import ReadOptions, read_table
from ai.ml.core.types import TrainingConfig

ROWS = 60
SIZES = [round(2.5 + 13.25 * row, 2) for row in range(ROWS)]
KINDS = ["red", "green", "blue"]
AS_FOUND = ReadOptions()
Write = Callable[[Path], Path]


@dataclass(frozen=True)
class Read:
    """A kind that is read: `size` comes out as `SIZES`, but for cells that are missing, and `kind` as three levels."""

    write: Write
    options: ReadOptions = AS_FOUND
    missing: int = 0


@dataclass(frozen=True)
class Refused:
    """A kind that is refused, with what the sentence says."""

    write: Write
    said: str


def lines(delimiter: str = ",", end: str = "\n", size: Callable[[float], str] = str) -> str:
    header = delimiter.join(["size", "kind", "y"])
    rows = [delimiter.join([size(value), KINDS[row % 3], "ab"[row % 2]]) for row, value in enumerate(SIZES)]
    return end.join([header, *rows, ""])


def text(content: str, encoding: str = "utf-8", name: str = "t.csv") -> Write:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content.encode(encoding))
        return folder / name

    return write


def table() -> pa.Table:
    kinds = [KINDS[row % 3] for row in range(ROWS)]
    return pa.table({"size": SIZES, "kind": kinds, "y": ["ab"[row % 2] for row in range(ROWS)]})


def parquet(change: Callable[[pa.Table], pa.Table] = lambda made: made) -> Write:
    def write(folder: Path) -> Path:
        pq.write_table(change(table()), folder / "t.parquet")
        return folder / "t.parquet"

    return write


def with_column(name: str, cells: Any) -> Callable[[pa.Table], pa.Table]:
    return lambda made: made.set_column(made.column_names.index(name), name, cells)


def packed(folder: Path) -> Path:
    (folder / "t.csv.gz").write_bytes(gzip.compress(lines().encode()))
    return folder / "t.csv.gz"


def cut_off(folder: Path) -> Path:
    packed(folder).write_bytes(gzip.compress(lines().encode())[:-12])
    return folder / "t.csv.gz"


def folder_of(*names: str, other: bool = False) -> Write:
    def write(folder: Path) -> Path:
        parts = [line for line in lines().splitlines() if line]
        step = -(-ROWS // len(names))
        for place, name in enumerate(names):
            own = [parts[0], *parts[1 + step * place : 1 + step * (place + 1)]]
            if other and place:
                own = [line.partition(",")[2] for line in own]
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("\n".join(own) + "\n", encoding="utf-8")
        return folder

    return write


def german(value: float) -> str:
    return f"{value:,.2f}".replace(",", "_").replace(".", ",").replace("_", ".")


def marked(mark: str) -> str:
    return re.sub(r"^(135\.0|3?[35]\d\.\d+),", lambda _: f"{mark},", lines(), flags=re.MULTILINE)


MISSING = sum(bool(re.match(r"(135\.0|3?[35]\d\.\d+)$", str(value))) for value in SIZES)
GERMAN = ReadOptions(decimal=",", thousands=".")
CASES: dict[str, Read | Refused] = {
    "comma": Read(text(lines())),
    "semicolons, CRLF, byte order mark": Read(text(lines(";", "\r\n"), "utf-8-sig")),
    "tabs": Read(text(lines("\t"), name="t.tsv")),
    "pipes": Read(text(lines("|"))),
    "returns of old Macs": Read(text(lines(end="\r"))),
    "UTF-16 of a spreadsheet's Unicode text": Read(text(lines("\t"), "utf-16", "t.txt")),
    "gzip": Read(packed),
    "gzip that was cut off": Refused(cut_off, r"t\.csv\.gz: the compressed file is cut off or damaged"),
    "sep= of a spreadsheet": Read(text("sep=;\n" + lines(";"))),
    "title above the header": Refused(text("Sales of 2024\n" + lines()), r"say --skip-lines 1"),
    "title, told": Read(text("Sales of 2024\n" + lines()), ReadOptions(skip_lines=1)),
    "remarks above the header": Refused(text("# source: X\n# licence: Y\n" + lines()), r"--comment '#'"),
    "remarks, told": Read(text("# source: X\n" + lines() + "# end\n"), ReadOptions(comment="#")),
    "header again in the middle": Read(text(lines().replace("\n267.5,", "\nsize,kind,y\n267.5,", 1))),
    "every cell in quotes": Read(text(re.sub(r"[^,\n]+", r'"\g<0>"', lines()))),
    "a stray quote": Refused(text(lines().replace("\n267.5,blue", '\n267.5,"blue', 1)), "say --quote none"),
    "cells parted by blanks": Refused(text(lines(" ")), "no target column 'y'; there are 'size kind y'"),
    "question marks of old repositories": Read(text(marked("?")), missing=MISSING),
    "NA of statistics programs": Read(text(marked("NA")), missing=MISSING),
    "backslash N of databases": Read(text(marked(r"\N")), missing=MISSING),
    "-999 of sensors, told": Read(text(marked("-999")), ReadOptions(missing_marks=("-999",)), missing=MISSING),
    "German numbers": Read(text(lines(";", size=german)), GERMAN),
    "dollars": Read(text(lines(";", size=lambda value: f"${value:,.2f}"))),
    "euros behind": Read(text(lines(";", size=lambda value: german(value) + " €"))),
    "percent": Read(text(lines(size=lambda value: f"{value}%"))),
    "kilograms": Read(text(lines(size=lambda value: f"{value} kg"))),
    "letters in cp1252": Read(text(lines().replace("red", "rød"), "cp1252")),
    "two columns of one name": Refused(text(lines().replace("size,kind", "size,size", 1)), "more than one column is"),
    "nothing but a header": Refused(text("size,kind,y\n"), "the table has no rows"),
    "an HTML page": Refused(text("<!DOCTYPE html><html>Sign in</html>"), "is an HTML page"),
    "a pointer of Git LFS": Refused(text("version https://git-lfs.github.com/spec/v1\noid 1\n"), "git lfs pull"),
    "JSON lines": Refused(text('{"size": 1}\n{"size": 2}\n'), "is JSON.*write it as CSV"),
    "a folder of CSV parts": Read(folder_of("a.csv", "b.csv")),
    "a folder by months": Read(folder_of("month=1/p.csv", "month=2/p.csv")),
    "a folder whose columns changed": Refused(folder_of("a.csv", "b.csv", other=True), r"b\.csv lacks 'size'"),
    "a folder with a letter in it": Refused(folder_of("a.csv", "README.md"), r"no parts \(README\.md\)"),
    "Parquet": Read(parquet()),
    "Parquet with categories of polars": Read(
        parquet(lambda made: with_column("kind", made["kind"].dictionary_encode())(made))
    ),
    "Parquet with decimals": Read(
        parquet(lambda made: with_column("size", made["size"].cast(pa.decimal128(9, 2)))(made))
    ),
    "Parquet with lists": Refused(parquet(with_column("kind", pa.array([["a"]] * ROWS))), "'kind' holds list"),
    "workbook": Read(lambda folder: write_workbook(folder / "t.xlsx", {"data": table()})),
    "workbook with a second sheet, told": Read(
        lambda folder: write_workbook(folder / "t.xlsx", {"notes": pa.table({"x": [1]}), "data": table()}),
        ReadOptions(sheet="data"),
    ),
    "workbook under the name of a CSV": Refused(
        lambda folder: write_workbook(folder / "t.xlsx", {"data": table()}).rename(folder / "t.csv"), "is a workbook"
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_tables_as_people_have_them(tmp_path: Path, kind: str) -> None:
    case = CASES[kind]
    path = case.write(tmp_path)
    config = TrainingConfig("y")
    if isinstance(case, Refused):
        with pytest.raises(DataRefused, match=case.said):
            derive_contract(read_table(path), config)
        return
    found = read_table(path, case.options)
    contract = derive_contract(found, config).contract
    columns = {column.name: column for column in contract.columns}
    assert columns["size"].kind == "number"
    assert len(columns["kind"].levels or ()) == 3
    read = Conformer(contract).table(found).table["size"].to_pylist()
    assert sum(cell is None for cell in read) == case.missing
    assert [cell for cell in read if cell is not None] == [
        value for cell, value in zip(read, SIZES, strict=True) if cell is not None
    ]


def test_a_database_is_read_by_its_query(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.db") as connection:
        connection.execute("create table t (size real, kind text, y text)")
        connection.executemany("insert into t values (?, ?, ?)", [tuple(row.values()) for row in table().to_pylist()])
    connection.close()
    found = read_table(f"sqlite:///{tmp_path}/t.db", ReadOptions(query="select * from t"))
    assert found.to_pydict() == table().to_pydict()


def test_the_page_describes_every_kind() -> None:
    page = (Path(__file__).parents[3] / "docs" / "public-files.md").read_text(encoding="utf-8")
    assert [kind for kind in CASES if f"| {kind} |" not in page] == []
    assert len(CASES) >= 30
