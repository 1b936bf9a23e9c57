"""What a table as a whole lost since a model was trained: rows, newer dates, digits. Said, never a reason by itself."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ai.ml.core.contract.dates import ISO, read_dates
from ai.ml.core.input_contract import ColumnContract, InputContract
from ai.ml.core.tables.cells import one_array, read_numbers

FEWER_ROWS = 0.8
"""Of the training table's: below that it is worth a word."""
FINE, LOST = 0.5, 0.05
"""Shares of a column's numbers with so many digits at the training, and now, to say that digits were lost."""
SAMPLE_ROWS = 20_000
MOST_DIGITS = 15


def table_changes(contract: InputContract, table: pa.Table) -> list[str]:
    """Sentences on rows, dates and digits that were there when a model was trained.

    Args:
        contract: the model's.
        table: raw, under the contract's names; columns that it lacks say nothing here.
    """
    found: list[str] = []
    if table.num_rows < FEWER_ROWS * contract.rows:
        found.append(f"the table has {table.num_rows:,} rows, the champion's had {contract.rows:,}")
    measures = {"date": _older, "number": _digits_lost}
    for column in contract.columns:
        if column.kind in measures and column.name in table.column_names:
            change = measures[column.kind](column, table.column(column.name))
            found += [] if change is None else [change]
    return found


def _older(column: ColumnContract, values: pa.ChunkedArray) -> str | None:
    days = read_dates(one_array(values), column.date_format or ISO)[0]
    known = days[~np.isnat(days)].astype("datetime64[D]")
    if not len(known) or column.maximum is None:
        return None
    newest, before = known.max(), np.datetime64(int(column.maximum), "D")
    if newest >= before:
        return None
    return f"the newest {column.name!r} is {newest}, the champion's table went to {before}"


def _digits_lost(column: ColumnContract, values: pa.ChunkedArray) -> str | None:
    step = max(1, len(values) // SAMPLE_ROWS)
    numbers = read_numbers(one_array(values.take(pa.array(np.arange(0, len(values), step)))))[0]
    before, now = _digits(np.asarray(column.quantiles)), _digits(numbers)
    if not len(before) or not len(now):
        return None
    usual = int(np.quantile(before, FINE))
    if usual < 2 or (now >= usual).mean() > LOST:
        return None
    return f"{column.name!r} has lost digits: {int(np.quantile(now, FINE))} now, {usual} at the champion's training"


def _digits(values: np.ndarray) -> np.ndarray:
    """`(n,)` int64: significant digits of the finite numbers that aren't 0."""
    values = np.abs(values[np.isfinite(values) & (values != 0)])
    found = np.full(len(values), MOST_DIGITS, dtype=np.int64)
    size = np.floor(np.log10(values))
    for digits in range(MOST_DIGITS - 1, 0, -1):
        unit = 10.0 ** (size - digits + 1)
        found[np.isclose(np.round(values / unit) * unit, values, rtol=1e-12, atol=0)] = digits
    return found
