"""Whether enough rows are left that neither model learned from."""

from __future__ import annotations

import numpy as np

from ai.ml.retraining.decision.predictions import Predictions

MIN_ROWS = 10
"""The minimum of groups, where rows belong to groups: rows of one group count little more than one row."""
MIN_OF_CLASS = 5
"""Of each class of which so many are held out; of a rarer one none may be missing where fewer than two classes have
theirs."""


def too_few_rows(challenger: Predictions, seen: np.ndarray) -> str | None:
    """Why the remaining rows can't be compared on; None where they can."""
    remaining, all_rows = int((~seen).sum()), len(seen)
    learned = (
        f"{all_rows - remaining:,} of {all_rows:,} held-out rows were learned from, and "
        if remaining < all_rows
        else ""
    )
    if remaining < MIN_ROWS:
        return f"{learned}{remaining} row{'s' * (remaining != 1)} can't decide, {MIN_ROWS} are needed"
    groups = remaining if challenger.groups is None else len(np.unique(challenger.groups[~seen]))
    if groups < MIN_ROWS:
        return f"{learned}the {remaining:,} rows are of {groups} group{'s' * (groups != 1)}, {MIN_ROWS} are needed"
    if challenger.task == "classification":
        total, remaining_counts = (
            np.bincount(rows, minlength=2) for rows in (challenger.truth, challenger.truth[~seen])
        )
        remaining_counts = np.pad(remaining_counts, (0, len(total) - len(remaining_counts)))
        enough = remaining_counts >= np.minimum(total, MIN_OF_CLASS)
        # A class that was rare before may lose its rows, as long as there are others to tell apart.
        short = np.flatnonzero(~enough & (total >= MIN_OF_CLASS if (enough & (total > 0)).sum() > 1 else True))
        if len(short):
            count, held_out = int(remaining_counts[short[0]]), int(total[short[0]])
            return f"{learned}of one class {count} of {held_out} are left, {min(held_out, MIN_OF_CLASS)} are needed"
    return None
