"""Cells of a workbook that hold no value are counted, and refused beyond a limit; an empty sheet names the others."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from workbook import write_workbook

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables import ReadOptions, read_table

TABLE = pa.table({"x": pa.array([float(row) for row in range(40)]), "y": ["a", "b"] * 20})


def changed(path: Path, change: Callable[[str], str]) -> Path:
    """The workbook with the XML of its first sheet changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = "xl/worksheets/sheet1.xml"
    parts[name] = change(parts[name].decode()).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return path


def cells(path: Path, first: int, last: int, cell: str) -> Path:
    """The workbook with the cells of column A in these rows as `cell`, which has `{row}` in it."""
    pattern = re.compile(r'<c r="A(\d+)"[^>]*>.*?</c>')
    return changed(
        path,
        lambda xml: pattern.sub(
            lambda found: cell.format(row=found[1]) if first <= int(found[1]) <= last else found[0], xml
        ),
    )


ERROR = '<c r="A{row}" t="e"><f>1/0</f><v>#DIV/0!</v></c>'
FORMULA = '<c r="A{row}"><f>B{row}*2</f><v></v></c>'
NO_VALUE = '<c r="A{row}"><f>B{row}*2</f></c>'


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (ERROR, "column A hold errors such as #DIV/0!"),
        (FORMULA, "column A hold formulas that were never calculated"),
        (NO_VALUE, "column A hold formulas that were never calculated"),
    ],
    ids=["error", "empty value", "no value"],
)
def test_few_are_said_and_many_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cell: str, said: str
) -> None:
    caplog.set_level(logging.INFO, "bundlegate")
    book = write_workbook(tmp_path / "t.xlsx", {"data": TABLE})
    read_table(cells(book, 2, 4, cell))
    assert f"t.xlsx, sheet 'data': 3 cells in {said}: read as missing" in caplog.text
    assert read_table(book)["x"].null_count == 3
    with pytest.raises(DataRefused, match=r"sheet 'data': 30 cells in column A.*75% of its rows: "):
        read_table(cells(write_workbook(tmp_path / "t.xlsx", {"data": TABLE}), 2, 31, cell))


def test_errors_that_were_told_are_missing_cells(tmp_path: Path) -> None:
    book = cells(write_workbook(tmp_path / "t.xlsx", {"data": TABLE}), 2, 31, ERROR)
    assert read_table(book, ReadOptions(missing_marks=("#DIV/0!",)))["x"].null_count == 30


def test_a_calculated_formula_and_its_empty_text_are_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bundlegate")
    book = write_workbook(tmp_path / "t.xlsx", {"data": TABLE})
    cells(book, 2, 20, '<c r="A{row}"><f>B{row}*2</f><v>7</v></c>')
    cells(book, 21, 41, '<c r="A{row}" t="str"><f>IF(1,"","x")</f><v></v></c>')
    assert read_table(book).num_rows == 40
    assert "note" not in caplog.text


def test_an_empty_first_sheet_names_the_others(tmp_path: Path) -> None:
    book = write_workbook(tmp_path / "t.xlsx", {"Readme": pa.table({"x": [1]}), "data": TABLE})
    changed(book, lambda xml: re.sub(r"<sheetData>.*</sheetData>", "<sheetData></sheetData>", xml, flags=re.DOTALL))
    with pytest.raises(DataRefused, match="the sheet 'Readme' is empty; the others are 'data': name one by --sheet"):
        read_table(book)
    assert read_table(book, ReadOptions(sheet="data")).num_rows == 40
