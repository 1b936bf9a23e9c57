"""Numbers written with a decimal comma or thousands marks, as the texts that Python reads as the same numbers."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from ai.ml.core.cells import is_text_type


def plain_numbers(table: pa.Table, decimal: str, thousands: str | None) -> pa.Table:
    """Rewrite the text cells that are numbers in the given marks; other cells stay.

    `1.234,5` with `decimal=","` and `thousands="."` becomes `1234.5`. Groups must have three digits: `1.2` isn't a
    number with thousands marks, and stays.
    """
    groups = rf"[0-9]{{1,3}}(?:{re.escape(thousands)}[0-9]{{3}})+|" if thousands else ""
    pattern = rf"^\s*[-+]?(?:{groups}[0-9]+)?(?:{re.escape(decimal)}[0-9]*)?(?:[eE][-+]?[0-9]+)?\s*$"
    for index, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if is_text_type(kind):
            texts = table.column(index).cast(kind)
            table = table.set_column(index, field.name, _plain_column(texts, pattern, decimal, thousands))
    return table


def _plain_column(column: pa.ChunkedArray, pattern: str, decimal: str, thousands: str | None) -> pa.ChunkedArray:
    numbers = column
    if thousands:
        numbers = pc.replace_substring(numbers, thousands, "")
    if decimal != ".":
        numbers = pc.replace_substring(numbers, decimal, ".")
    # A lone mark or blank matches the pattern but holds no digit.
    has_digit = pc.match_substring_regex(column, "[0-9]")
    return pc.if_else(pc.and_(pc.match_substring_regex(column, pattern), has_digit), numbers, column)
