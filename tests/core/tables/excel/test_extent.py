"""A far cell is refused before the rectangle up to it is made."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from workbook import write_workbook

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables.excel.extent import refuse_far_cells
from ai.ml.core.tables.excel.reader import read_sheet

FAR: dict[str, str] = {
    "plain": '<row r="1048576"><c r="XFD1048576"><v>2</v></c></row>',
    "single quotes": "<row r='1048576'><c r='XFD1048576'><v>2</v></c></row>",
    "a character reference": '<row r="1048576"><c r="&#88;FD1048576"><v>2</v></c></row>',
    "behind an attribute with a bracket": '<row r="1048576"><c t="n" x=">" r="XFD1048576"><v>2</v></c></row>',
    "a cell that doesn't say where it is": '<row r="1048576"><c r="XFC1048576"><v>1</v></c><c><v>2</v></c></row>',
}


def with_rows(path: Path, change: Callable[[str], str]) -> Path:
    """A workbook of one table whose sheet's XML is changed."""
    write_workbook(path, {"s": pa.table({"a": [1, 2], "b": ["x", "y"]})})
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    parts["xl/worksheets/sheet1.xml"] = change(parts["xl/worksheets/sheet1.xml"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("name", FAR)
def test_one_far_cell_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    path = with_rows(tmp_path / "t.xlsx", lambda xml: xml.replace("</sheetData>", f"{FAR[name]}</sheetData>"))
    with pytest.raises(
        DataRefused, match=r"t\.xlsx, sheet 's': it reaches to XFD1048576, .* delete the rows and columns"
    ):
        read_sheet(path)


def test_a_sheet_as_people_have_them_is_read(tmp_path: Path) -> None:
    path = with_rows(
        tmp_path / "t.xlsx",
        lambda xml: xml.replace("</sheetData>", '<row r="2000"><c r="Z2000"><v>9</v></c></row></sheetData>'),
    )
    assert read_sheet(path).num_rows == 1999


def test_an_empty_sheet_and_what_is_no_workbook_are_left_to_the_reader(tmp_path: Path) -> None:
    write_workbook(tmp_path / "t.xlsx", {"s": pa.table({"a": pa.array([], pa.int64())})})
    refuse_far_cells(tmp_path / "t.xlsx", "s")
    refuse_far_cells(tmp_path / "t.xlsx", "another")
    (tmp_path / "t.xls").write_bytes(b"no zip")
    refuse_far_cells(tmp_path / "t.xls", "s")
