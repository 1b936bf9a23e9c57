"""Excel sheets, through the extra `excel`."""

from __future__ import annotations

import difflib
from pathlib import Path

import pyarrow as pa

from ai.ml.core.errors import DataNotFound, DataRefused, UsageError


def read_sheet(path: Path, sheet: str | None = None) -> pa.Table:
    """Read one sheet, its first row as names; a column of numbers and texts mixed is read as texts.

    Args:
        path: the workbook.
        sheet: name of the sheet; the first when None.

    Raises:
        UsageError: the extra isn't installed.
        DataNotFound: the workbook has no such sheet.
        DataRefused: it can't be read as a workbook.
    """
    try:
        import fastexcel
    except ImportError:
        raise UsageError(f"reading {path.name} needs the extra: pip install 'bundlegate[excel]'") from None
    try:
        workbook = fastexcel.read_excel(str(path))
    except fastexcel.FastExcelError as error:
        raise DataRefused(f"{path.name} can't be read as a workbook: {str(error).splitlines()[0]}") from None
    names = workbook.sheet_names
    if sheet is not None and sheet not in names:
        near = difflib.get_close_matches(sheet, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(map(repr, names))}"
        raise DataNotFound(f"{path.name} has no sheet {sheet!r}{hint}")
    try:
        # All rows decide a column's type: a text far down would otherwise become a missing cell in silence.
        loaded = workbook.load_sheet(sheet if sheet is not None else 0, schema_sample_rows=None)
        return pa.table(loaded.to_arrow())
    except fastexcel.FastExcelError as error:
        raise DataRefused(
            f"{path.name}, sheet {sheet or names[0]!r} can't be read: {str(error).splitlines()[0]}"
        ) from None
