"""Columns that give the target away: reported, never dropped, for now and then one really is that good."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ai.ml.core.contract.casting import Conformer
from ai.ml.core.contract.findings import Finding
from ai.ml.core.input_contract import InputContract
from ai.ml.core.tables.cells import one_array

SAMPLE_ROWS = 20_000
MIN_ROWS = 30
PURITY = 0.999
"""Share of the rows (of the target's variance, in a regression) that the column alone explains."""
RUNS_PER_CLASS = 2
"""Along a column's sorted numbers: what tells the target has few; each one more says no more than a row of its own."""


def find_leaks(contract: InputContract, table: pa.Table, target: np.ndarray) -> tuple[Finding, ...]:
    """Findings on columns that predict the target alone, from at most `SAMPLE_ROWS` rows spread over the table.

    Args:
        contract: of the table.
        table: raw, of `n_rows`.
        target: `(n_rows,)` object of labels, or float64.
    """
    step = -(-table.num_rows // SAMPLE_ROWS)
    sample, target = table.take(pa.array(np.arange(0, table.num_rows, step))), target[::step]
    if sample.num_rows < MIN_ROWS:
        return ()
    if contract.task == "classification":
        target = np.unique(target.astype(str), return_inverse=True)[1]
    typed = Conformer(contract).table(sample).table
    findings: list[Finding] = []
    for name in typed.column_names:
        explained = _explained(typed.column(name), target, contract.task == "classification")
        if explained >= PURITY:
            message = (
                f"{name!r} alone gives the target away ({np.floor(1000 * explained) / 10:.1f}% of it): "
                "exclude it, unless it is known before the target is"
            )
            findings.append(Finding("leak", name, message))
    return tuple(findings)


def _explained(column: pa.ChunkedArray, target: np.ndarray, is_classification: bool) -> float:
    """How much of the target one column explains beyond its most frequent class or its mean: 0 to 1."""
    array = one_array(column) if not pa.types.is_dictionary(column.type) else column.combine_chunks()
    if not is_classification:
        # The share doesn't depend on the units, and squares of values near 1 don't overflow.
        target = target / (np.abs(target).max(initial=0.0) or 1.0)
    most_groups, too_many_runs = len(target) / 4, 0
    if pa.types.is_dictionary(array.type):
        groups = array.indices.to_numpy(zero_copy_only=False)
    elif is_classification:
        groups = _runs(array.to_numpy(zero_copy_only=False), target)
        too_many_runs = max(0, int(groups.max(initial=0)) - RUNS_PER_CLASS * (int(target.max()) + 1))
        # Each row of a rare class makes a run of its own along numbers that say nothing of it.
        most_groups = (len(target) - np.bincount(target).max()) / 4 + 1
    else:
        return _linear(array.to_numpy(zero_copy_only=False), target)
    groups = np.unique(groups, return_inverse=True)[1]
    if groups.max(initial=0) + 1 > most_groups:
        # So many groups explain anything.
        return 0.0
    sizes = np.bincount(groups)
    if is_classification:
        classes = int(target.max()) + 1
        table = np.bincount(groups * classes + target, minlength=len(sizes) * classes).reshape(-1, classes)
        wrong = len(target) - table.max(axis=1).sum()
        return 1 - (wrong + too_many_runs) / max(1, len(target) - np.bincount(target).max())
    means = np.bincount(groups, target) / sizes
    return 1 - float(np.square(target - means[groups]).sum() / max(np.square(target - target.mean()).sum(), 1e-300))


def _runs(numbers: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Runs of one class along the sorted values, `(n_rows,)` int64 from 1 on (0: missing): with as few as classes,
    thresholds decide all.
    """
    missing = np.isnan(numbers)
    order = np.argsort(numbers, kind="stable")
    new_value = np.append(True, np.diff(numbers[order]) != 0)
    new_class = np.append(True, np.diff(target[order]) != 0)
    groups = np.empty(len(order), dtype=np.int64)
    groups[order] = np.cumsum(new_value & new_class)
    groups[missing] = 0
    return groups


def _linear(numbers: np.ndarray, target: np.ndarray) -> float:
    """Share of the target's variance that a straight line explains, where the column has a number."""
    known = ~np.isnan(numbers)
    if known.sum() < MIN_ROWS:
        return 0.0
    x, y = numbers[known] - numbers[known].mean(), target[known] - target[known].mean()
    x = x / (np.abs(x).max() or 1.0)
    scale = np.square(x).sum() * np.square(y).sum()
    return float((x * y).sum() ** 2 / scale) * float(known.mean()) if scale > 0 else 0.0
