"""Small real .xlsx files for the tests, made from the format's own parts: no library that writes them is needed."""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pyarrow as pa

_NS = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'


def write_workbook(path: Path, sheets: dict[str, pa.Table]) -> Path:
    """Write tables as the sheets of a workbook: numbers, texts, booleans and dates; nulls are blank cells."""
    numbered = list(enumerate(sheets, start=1))
    with zipfile.ZipFile(path, "w") as archive:
        kinds = "".join(
            f'<Override PartName="/xl/worksheets/sheet{i}.xml" ContentType="application/vnd.openxmlformats-'
            'officedocument.spreadsheetml.worksheet+xml"/>'
            for i, _ in numbered
        )
        archive.writestr(
            "[Content_Types].xml",
            f'{_HEAD}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default '
            'Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override '
            'PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.'
            'sheet.main+xml"/><Override PartName="/xl/styles.xml" ContentType="application/vnd.openxmlformats-'
            f'officedocument.spreadsheetml.styles+xml"/>{kinds}</Types>',
        )
        archive.writestr("_rels/.rels", _relations([("rId1", "officeDocument", "xl/workbook.xml")]))
        sheet_list = "".join(f'<sheet name="{escape(n)}" sheetId="{i}" r:id="rId{i}"/>' for i, n in numbered)
        archive.writestr(
            "xl/workbook.xml", f'{_HEAD}<workbook {_NS} xmlns:r="{_REL}"><sheets>{sheet_list}</sheets></workbook>'
        )
        targets = [(f"rId{i}", "worksheet", f"worksheets/sheet{i}.xml") for i, _ in numbered]
        archive.writestr("xl/_rels/workbook.xml.rels", _relations([*targets, ("rId99", "styles", "styles.xml")]))
        # Style 1 is a date, style 2 a date with its time.
        archive.writestr(
            "xl/styles.xml",
            f'{_HEAD}<styleSheet {_NS}><cellXfs count="3"><xf numFmtId="0"/><xf numFmtId="14" applyNumberFormat="1"/>'
            '<xf numFmtId="22" applyNumberFormat="1"/></cellXfs></styleSheet>',
        )
        for i, name in numbered:
            archive.writestr(f"xl/worksheets/sheet{i}.xml", _sheet(sheets[name]))
    return path


def _sheet(table: pa.Table) -> str:
    rows = [table.column_names, *(list(row) for row in zip(*(c.to_pylist() for c in table.columns), strict=True))]
    body = "".join(
        f'<row r="{r}">{"".join(_cell(value, f"{_letters(c)}{r}") for c, value in enumerate(row))}</row>'
        for r, row in enumerate(rows, start=1)
    )
    return f"{_HEAD}<worksheet {_NS}><sheetData>{body}</sheetData></worksheet>"


def _cell(value: Any, place: str) -> str:
    match value:
        case None:
            return ""
        case bool():
            return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
        case int() | float():
            return f'<c r="{place}"><v>{value!r}</v></c>'
        case datetime.datetime():
            days = (value - datetime.datetime(1899, 12, 30)) / datetime.timedelta(days=1)  # noqa: DTZ001
            return f'<c r="{place}" s="2"><v>{days!r}</v></c>'
        case datetime.date():
            return f'<c r="{place}" s="1"><v>{(value - datetime.date(1899, 12, 30)).days}</v></c>'
        case _:
            return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(str(value))}</t></is></c>'


def _letters(column: int) -> str:
    return (chr(64 + column // 26) if column >= 26 else "") + chr(65 + column % 26)


def _relations(targets: list[tuple[str, str, str]]) -> str:
    inner = "".join(f'<Relationship Id="{i}" Type="{_REL}/{kind}" Target="{target}"/>' for i, kind, target in targets)
    return f'{_HEAD}<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{inner}</Relationships>'
