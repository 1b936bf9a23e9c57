"""Duplicate rows, and how many of them are on both sides of a split."""

from __future__ import annotations

import numpy as np

from ai.ml.core.contract.findings import Finding

MIN_SHARE = 0.01
"""Of all rows that repeat others, or of the held-out ones that repeat learned ones, for a word."""


def find_repeats(
    keys: np.ndarray, labels: np.ndarray, train_rows: np.ndarray, holdout_rows: np.ndarray
) -> list[Finding]:
    """Count rows that repeat others in all that the model reads.

    Args:
        keys: `(n_rows,)` uint64 of the cells that the model reads, as `row_keys` gives them.
        labels: `(n_rows,)` the target.
        train_rows: `(n_train,)` row numbers.
        holdout_rows: `(n_holdout,)` row numbers.
    """
    repeated = len(keys) - len(np.unique(keys))
    over = int(np.isin(keys[holdout_rows], keys[train_rows]).sum())
    if repeated < MIN_SHARE * len(keys) and over < MIN_SHARE * len(holdout_rows):
        return []
    codes = np.unique(labels.astype(str) if labels.dtype == object else labels, return_inverse=True)[1]
    alike = len(keys) - len(np.unique(np.rec.fromarrays([keys, codes])))
    label = "label included" if alike == repeated else f"{alike:,} of them with the same label"
    message = f"{repeated:,} of {len(keys):,} rows repeat others in all that the model reads, {label}: "
    if over:
        message += (
            f"{over:,} of the {len(holdout_rows):,} held-out rows were learned from, so the metrics flatter; "
            "--split hash keeps equal rows on one side"
        )
    else:
        message += "equal rows are on one side of the split"
    return [Finding("repeats", None, message)]
