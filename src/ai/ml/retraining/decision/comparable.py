"""Whether enough rows are left that neither model learned from."""

from __future__ import annotations

import numpy as np

from ai.ml.retraining.decision.predictions import Predictions

LEAST_ROWS = 10
"""And groups, where rows hang together: those of one say little more than one row."""
LEAST_OF_CLASS = 5
"""Of each class of which so many are held out; of a rarer one none may be missing where fewer than two classes have
theirs."""


def too_few_rows(challenger: Predictions, seen: np.ndarray) -> str | None:
    """Why nothing can be compared on what is left; None where it can."""
    left, all_rows = int((~seen).sum()), len(seen)
    learned = f"{all_rows - left:,} of {all_rows:,} held-out rows were learned from, and " if left < all_rows else ""
    if left < LEAST_ROWS:
        return f"{learned}{left} row{'s' * (left != 1)} can't decide, {LEAST_ROWS} are needed"
    groups = left if challenger.groups is None else len(np.unique(challenger.groups[~seen]))
    if groups < LEAST_ROWS:
        return f"{learned}the {left:,} rows are of {groups} group{'s' * (groups != 1)}, {LEAST_ROWS} are needed"
    if challenger.task == "classification":
        total, kept = (np.bincount(rows, minlength=2) for rows in (challenger.truth, challenger.truth[~seen]))
        kept = np.pad(kept, (0, len(total) - len(kept)))
        enough = kept >= np.minimum(total, LEAST_OF_CLASS)
        # A class that was rare before may lose its rows, as long as there are others to tell apart.
        short = np.flatnonzero(~enough & (total >= LEAST_OF_CLASS if (enough & (total > 0)).sum() > 1 else True))
        if len(short):
            left, held = int(kept[short[0]]), int(total[short[0]])
            return f"{learned}of one class {left} of {held} are left, {min(held, LEAST_OF_CLASS)} are needed"
    return None
