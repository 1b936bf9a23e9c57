"""Marks in cells that somebody told us of: decimal and thousands marks, units, texts for missing cells."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ai.ml.core.reading import Reading
from ai.ml.core.tables.cells import is_text_type, one_array, read_number

_THREE_DECIMALS = r"^\s*[-+]?[0-9]{1,3}\.[0-9]{3}\s*$"
_WITH_POINT = r"^\s*[-+]?[0-9]*\.[0-9]+\s*$"


@dataclass(frozen=True)
class CellMarks:
    """How cells are written.

    What `plain` gives is written as Python writes numbers, and another `plain` by the same marks leaves it as it is:
    so a table may meet the marks where it is read and again where it is scored.
    """

    decimal: str = "."
    thousands: str | None = None
    missing: tuple[str, ...] = ()
    """Texts, and numbers, that stand for a missing cell in any column; in any case of letters."""
    units: tuple[str, ...] = ()
    """What may stand before or behind a number: `kg`, `%`, `$`."""
    points_divide: bool = False
    """A point in the result may be taken for a thousands mark by who reads it next: `1.234` is written `1.2340`."""

    @classmethod
    def of(cls, reading: Reading, later: Reading | None = None) -> CellMarks:
        """The marks of a reading.

        Args:
            reading: as told.
            later: the marks that the result meets next; the same ones if None.
        """
        thousands = reading.thousands if reading.thousands != "none" else None
        next_marks = reading if later is None else later
        return cls(reading.decimal or ".", thousands, reading.missing_marks, reading.units, next_marks.thousands == ".")

    @property
    def is_plain(self) -> bool:
        """Every cell stays as it is."""
        return self == PLAIN

    def plain_table(self, table: pa.Table) -> pa.Table:
        """The same table with its cells as Python writes them."""
        if self.is_plain:
            return table
        for index, field in enumerate(table.schema):
            column = table.column(index)
            plain = self.plain(one_array(column, decode=False))
            if plain is not None:
                table = table.set_column(index, field.name, pa.chunked_array([plain]))
        return table

    def plain(self, array: pa.Array) -> pa.Array | None:
        """A column's cells as Python writes them; None if these marks say nothing about such a column."""
        kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
        if is_text_type(kind):
            if not len(array):
                return None
            if pa.types.is_dictionary(array.type):
                return pa.DictionaryArray.from_arrays(array.indices, self._plain_texts(array.dictionary)).cast(kind)
            return self._plain_texts(array)
        return self._without_numbers(array)

    def _plain_texts(self, texts: pa.Array) -> pa.Array:
        texts = texts.cast(pa.string())
        if self.missing:
            marked = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(texts)), value_set=pa.array(self._spellings()))
            texts = pc.if_else(marked, pa.scalar(None, pa.string()), texts)
        if self.units:
            texts = self._without_units(texts)
        if self.decimal != "." or self.thousands is not None:
            texts = _plain_numbers(texts, self.decimal, self.thousands)
        if self.points_divide:
            texts = pc.if_else(
                pc.match_substring_regex(texts, _THREE_DECIMALS),
                pc.binary_join_element_wise(pc.utf8_trim_whitespace(texts), "0", ""),
                texts,
            )
        return texts

    def _spellings(self) -> list[str]:
        lower = [mark.strip().lower() for mark in self.missing]
        return lower + [f"{mark}.{'0' * zeros}" for mark in lower if re.fullmatch(r"-?\d+", mark) for zeros in (1, 2)]

    def _without_units(self, texts: pa.Array) -> pa.Array:
        unit = "|".join(re.escape(unit.strip()) for unit in sorted(self.units, key=len, reverse=True))
        inner = f"[0-9][0-9{re.escape(self.decimal + (self.thousands or ''))}]*"
        pattern = rf"^\s*(?P<sign>[-+]?)\s*(?P<before>{unit})?\s*(?P<number>[-+]?{inner})\s*(?P<after>{unit})?\s*$"
        found = pc.extract_regex(texts, pattern)
        number = pc.binary_join_element_wise(pc.struct_field(found, "sign"), pc.struct_field(found, "number"), "")
        return pc.if_else(pc.is_valid(found), number, texts)

    def _without_numbers(self, array: pa.Array) -> pa.Array | None:
        """Cells that hold the number of a mark such as -999 are missing."""
        kind = array.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)) or not len(array):
            return None
        numbers = [number for mark in self.missing if (number := read_number(mark)) is not None and number == number]
        if not numbers:
            return None
        marked = np.isin(pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False), numbers)
        return pc.if_else(pa.array(marked), pa.scalar(None, kind), array) if marked.any() else None

    def contradictions(self, column: pa.Array | pa.ChunkedArray) -> tuple[int, str]:
        """How many texts are numbers with a decimal point where these marks have a comma, and one of them."""
        array = one_array(column) if self.decimal != "." else column
        if self.decimal == "." or not is_text_type(array.type):
            return 0, ""
        odd = pc.match_substring_regex(array, _WITH_POINT)
        if self.thousands == ".":
            odd = pc.and_not(odd, pc.match_substring_regex(array, _THREE_DECIMALS))
        found = array.filter(odd.fill_null(False))
        return len(found), found[0].as_py() if len(found) else ""


PLAIN = CellMarks()


def _plain_numbers(column: pa.Array, decimal: str, thousands: str | None) -> pa.Array:
    """`1.234,5` with `decimal=","` and `thousands="."` becomes `1234.5`; what is no number in these marks stays.

    Groups must have three digits: `1.2` isn't a number with thousands marks.
    """
    groups = rf"[0-9]{{1,3}}(?:{re.escape(thousands)}[0-9]{{3}})+|" if thousands else ""
    pattern = rf"^\s*[-+]?(?:{groups}[0-9]+)?(?:{re.escape(decimal)}[0-9]*)?(?:[eE][-+]?[0-9]+)?\s*$"
    numbers = column
    if thousands:
        numbers = pc.replace_substring(numbers, thousands, "")
    if decimal != ".":
        numbers = pc.replace_substring(numbers, decimal, ".")
    # A lone mark or blank matches the pattern but holds no digit.
    has_digit = pc.match_substring_regex(column, "[0-9]")
    return pc.if_else(pc.and_(pc.match_substring_regex(column, pattern), has_digit), numbers, column)
