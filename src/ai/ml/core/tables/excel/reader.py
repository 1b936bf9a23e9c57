"""Excel sheets, through the extra `excel`."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa

from ai.ml.core.errors import DataNotFound, DataRefused, UsageError
from ai.ml.core.tables.excel.cells import audit_cells
from ai.ml.core.tables.excel.extent import refuse_far_cells


def read_sheet(path: Path, sheet: str | None = None, missing_marks: Collection[str] = ()) -> pa.Table:
    """Read one sheet, its first row as names; a column of numbers and texts mixed is read as texts.

    Args:
        path: the workbook.
        sheet: name of the sheet; the first when None.
        missing_marks: errors such as `#N/A` that count as missing cells by the settings.

    Raises:
        UsageError: the extra isn't installed.
        DataNotFound: the workbook has no such sheet.
        DataRefused: it can't be read as a workbook, the sheet is empty, or many cells of a column hold no value.
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
        raise DataNotFound(f"{path.name} has no sheet {sheet!r}{hint}; name one by --sheet")
    refuse_far_cells(path, sheet or names[0])
    sheet_key = sheet if sheet is not None else 0
    try:
        # A second column of a name would be read under a name of the library's.
        header = pa.table(workbook.load_sheet(sheet_key, header_row=None, n_rows=1, dtypes="string").to_arrow())
        _refuse_twice(header, f"{path.name}, sheet {sheet or names[0]!r}")
        # All rows decide a column's type: a text far down would otherwise become a missing cell in silence.
        table = pa.table(workbook.load_sheet(sheet_key, schema_sample_rows=None).to_arrow())
    except fastexcel.FastExcelError as error:
        raise DataRefused(
            f"{path.name}, sheet {sheet or names[0]!r} can't be read: {str(error).splitlines()[0]}"
        ) from None
    _refuse_empty(table, path, sheet or names[0], names)
    audit_cells(path, sheet or names[0], table.num_rows, missing_marks)
    return table


def _refuse_empty(table: pa.Table, path: Path, sheet: str, names: Sequence[str]) -> None:
    others = [name for name in names if name != sheet]
    if table.num_columns and (table.num_rows or not others):
        return
    what = "has no rows" if table.num_columns else "is empty"
    more = f"; the others are {', '.join(map(repr, others))}: name one by --sheet" if others else ""
    raise DataRefused(f"{path.name}: the sheet {sheet!r} {what}{more}")


def _refuse_twice(header: pa.Table, where: str) -> None:
    found = Counter(cell.strip() for column in header.columns for cell in column.to_pylist() if cell is not None)
    twice = [name for name, count in found.items() if count > 1]
    if twice:
        raise DataRefused(f"{where}: more than one column is called {twice[0]!r}; rename or drop all but one")
