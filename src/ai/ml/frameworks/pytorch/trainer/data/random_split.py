"""The random split of the on-disk family: other rows are held out for each table and seed."""

from __future__ import annotations

import math

import numpy as np
from sklearn.model_selection import train_test_split

from ai.ml.core.errors import DataRefused
from ai.ml.core.types import TaskType

MIN_VALIDATION_ROWS = 10
MIN_SPLIT_ROWS = {"classification": 20, "regression": 50}
"""Of the training part, so that ten may be judged by. Classes learned by heart make the log loss several times as
large, numbers the error hardly: a quarter of 40 rows is then worth more to learn from."""
MIN_FITTING_ROWS = 2


def split_holdout(task: TaskType, y: np.ndarray, test_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and holdout row numbers, stratified by label for classification.

    Args:
        task: decides whether to stratify.
        y: `(n_rows,)` labels or values.
        test_size: share of rows held out.
        seed: same seed, same split.

    Returns:
        Two int64 arrays, in scikit-learn's shuffled order.

    Raises:
        DataRefused: too few rows for both parts to hold every class.
    """
    rows = np.arange(len(y))
    stratify = y if task == "classification" and len(np.unique(y)) > 1 else None
    try:
        train, holdout = train_test_split(rows, test_size=test_size, random_state=seed, stratify=stratify)
    except ValueError:
        each = "a row" if stratify is None else f"a row of each of the {len(np.unique(y))} classes"
        raise DataRefused(f"{len(y)} rows can't be split with test_size={test_size}: both parts need {each}") from None
    if len(train) < 2:
        raise DataRefused(f"{len(y)} rows with test_size={test_size} leave {len(train)} to train on; 2 are needed")
    return np.asarray(train), np.asarray(holdout)


def split_validation(
    task: TaskType, y: np.ndarray, validation_size: float, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Fitting and validation row numbers within the training rows; None where too few would be left to learn from.

    At least `MIN_VALIDATION_ROWS` are for validation, however small the share: without any, a network of some hundred
    epochs learns a small table by heart. Stratified by class; the only row of a class is one to learn from.

    Raises:
        DataRefused: fewer than two rows are left to learn from.
    """
    if not wants_validation(len(y), validation_size):
        return None
    rows = np.arange(len(y))
    # Of numbers each would be a class of its own, though not one to keep for learning.
    alone, classes = np.zeros(len(y), dtype=bool), len(y)
    if task == "classification":
        _, class_of, counts = np.unique(y, return_inverse=True, return_counts=True)
        alone, classes = counts[class_of] < 2, int((counts > 1).sum())
    rest, kept = rows[~alone], rows[alone]
    share = min(math.ceil(len(rest) * validation_size), len(rest) - 1)
    if share < MIN_VALIDATION_ROWS:
        if len(rest) < MIN_SPLIT_ROWS[task]:
            return None
        share = MIN_VALIDATION_ROWS
    # More classes than rows of a part can't have their share each.
    stratify = y[rest] if classes <= min(share, len(rest) - share) else None
    fitting, validation = train_test_split(rest, test_size=share, random_state=seed, stratify=stratify)
    return np.concatenate([fitting, kept]), np.asarray(validation)


def wants_validation(rows: int, validation_size: float) -> bool:
    """Whether a part of so many training rows is to be split off.

    Raises:
        DataRefused: fewer than two rows would be left to learn from.
    """
    if validation_size == 0:
        return False
    left = rows - math.ceil(rows * validation_size)
    if left < MIN_FITTING_ROWS and rows * validation_size >= MIN_VALIDATION_ROWS:
        raise DataRefused(
            f"validation_size={validation_size} leaves {left} of {rows} training rows to learn from; "
            f"{MIN_FITTING_ROWS} are needed"
        )
    return True
