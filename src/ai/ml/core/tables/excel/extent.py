"""How far a sheet reaches, before it is read: the reader makes the whole rectangle between its first and last cell.

One value in the last cell of an otherwise empty sheet is a file of a kilobyte and a rectangle of 17 billion cells,
which ends the process.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree.ElementTree import ParseError
from xml.parsers import expat

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables.excel.cells import sheet_part

MAX_EMPTY_CELLS = 20_000_000
"""A rectangle of fewer cells is made, however few of them are there."""
MIN_SHARE = 0.05
"""Of the cells of a larger rectangle that must be there."""
_CHUNK_BYTES = 1 << 20
_REFERENCE = re.compile(r"\$?([A-Za-z]{1,3})\$?(\d{1,7})")


class _Extent:
    """What an XML parser sees of a sheet's cells."""

    def __init__(self) -> None:
        self.cells = 0
        self.row, self.column = 0, 0
        self.rows, self.columns = (1 << 62, 0), (1 << 62, 0)
        """First and last that hold a cell, counted from 1."""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if name == "row":
            given = attributes.get("r", "")
            self.row, self.column = int(given) if given.isdecimal() else self.row + 1, 0
        elif name == "c":
            self._cell(_REFERENCE.fullmatch(attributes.get("r", "")))

    def _cell(self, reference: re.Match[str] | None) -> None:
        if reference is None:
            self.column += 1
        else:
            self.column, self.row = _number(reference[1]), int(reference[2])
        self.cells += 1
        self.rows = min(self.rows[0], self.row), max(self.rows[1], self.row)
        self.columns = min(self.columns[0], self.column), max(self.columns[1], self.column)

    @property
    def area(self) -> int:
        """Cells of the rectangle."""
        if not self.cells:
            return 0
        return (self.rows[1] - self.rows[0] + 1) * (self.columns[1] - self.columns[0] + 1)


def refuse_far_cells(path: Path, sheet: str) -> None:
    """Refuse a sheet whose cells lie so far apart that the rectangle between them can't be meant.

    Args:
        path: a workbook; what isn't of Excel's present format isn't looked at.
        sheet: its name.

    Raises:
        DataRefused: it is one; the sentence says where its last cell is, and what to do.
    """
    extent = _Extent()
    parser = expat.ParserCreate()
    parser.StartElementHandler = extent.start
    try:
        with zipfile.ZipFile(path) as archive, archive.open(sheet_part(archive, sheet)) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                parser.Parse(chunk, False)
    except (KeyError, OSError, ValueError, zipfile.BadZipFile, expat.ExpatError, ParseError):
        pass  # another format, or a workbook of an odd make: who reads it says so; what was seen so far counts
    if extent.area > MAX_EMPTY_CELLS and extent.cells < MIN_SHARE * extent.area:
        last = f"{_letters(extent.columns[1])}{extent.rows[1]}"
        raise DataRefused(
            f"{path.name}, sheet {sheet!r}: it reaches to {last}, which makes {extent.area:,} cells, and "
            f"{extent.cells:,} of them are there: delete the rows and columns outside the table (Ctrl+End goes to the "
            "last cell), and save"
        )


def _number(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def _letters(number: int) -> str:
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
