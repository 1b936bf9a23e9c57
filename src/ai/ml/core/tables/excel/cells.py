"""Cells of an Excel sheet that hold no value: errors such as `#N/A`, and formulas that no program has calculated."""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree

from ai.ml.core.errors import DataRefused
from ai.ml.core.number_text import counted
from ai.ml.core.tables.notes import say_note

ERROR_SHARE = 0.1
"""Of a column's rows, that may be such cells: beyond it the sheet isn't what somebody meant to export."""
_CELL = re.compile(rb"<(?:\w+:)?c\b([^>]*?)(?:/>|>(.*?)</(?:\w+:)?c>)", re.DOTALL)
_COLUMN = re.compile(rb'\br="([A-Z]+)(\d+)"')
_VALUE = re.compile(rb"<(?:\w+:)?v\b[^>]*>([^<]*)</(?:\w+:)?v>|<(?:\w+:)?is>")
_FORMULA = re.compile(rb"<(?:\w+:)?f\b")
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


def audit_cells(path: Path, sheet: str, rows: int, missing_marks: Collection[str] = ()) -> None:
    """Log how many cells are errors or formulas without a result, which are read as missing.

    Args:
        path: the workbook; what isn't of Excel's present format isn't looked at.
        sheet: its name.
        rows: below the header.
        missing_marks: errors that the settings list as missing cells, such as `#N/A`; they aren't counted.

    Raises:
        DataRefused: more than a tenth of a column's rows are such cells; names column and count.
    """
    content = _sheet_xml(path, sheet)
    if content is None:
        return
    accepted = {mark.strip().upper() for mark in missing_marks}
    errors, formulas, examples = Counter[str](), Counter[str](), dict[str, str]()
    for found in _CELL.finditer(content):
        reference = _COLUMN.search(found[1])
        if reference is None or not found[2]:
            continue
        column, value = reference[1].decode(), _VALUE.search(found[2])
        text = b"" if value is None else value[1] or b""
        if b't="e"' in found[1]:
            if text.decode().upper() not in accepted:
                errors[column] += 1
                examples.setdefault(column, text.decode() or "#ERROR")
        elif _FORMULA.search(found[2]) and not text and b't="str"' not in found[1]:
            formulas[column] += 1
    for column, cells in errors.items():
        what = f"{counted(cells, 'cell')} in column {column} hold errors such as {examples[column]}"
        _log_or_refuse(
            path, sheet, what, cells / max(1, rows), f"--missing-mark '{examples[column]}' takes them as missing"
        )
    for column, cells in formulas.items():
        what = f"{counted(cells, 'cell')} in column {column} hold formulas that were never calculated"
        _log_or_refuse(path, sheet, what, cells / max(1, rows), "open and save the workbook in a spreadsheet program")


def _log_or_refuse(path: Path, sheet: str, what: str, share: float, remedy: str) -> None:
    if share > ERROR_SHARE:
        raise DataRefused(f"{path.name}, sheet {sheet!r}: {what}, {share:.0%} of its rows: {remedy}")
    say_note(f"{path.name}, sheet {sheet!r}: {what}: read as missing")


def sheet_part(archive: zipfile.ZipFile, sheet: str) -> str:
    """The name of the file in a workbook that holds a sheet; KeyError or ParseError where there is none."""
    book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
    links = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
    targets = {link.get("Id"): link.get("Target", "") for link in links}
    ids = {found.get("name"): found.get(_ID) for found in book.iter(f"{_MAIN}sheet")}
    target = targets.get(ids.get(sheet), "")
    return target.lstrip("/") if target.startswith("/") else posixpath.join("xl", target)


def _sheet_xml(path: Path, sheet: str) -> bytes | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(sheet_part(archive, sheet))
    except (KeyError, OSError, zipfile.BadZipFile, ElementTree.ParseError):
        # Another format, or a workbook of an odd make: who reads it says so.
        return None
