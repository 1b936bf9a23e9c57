"""A model's answers to rows whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ai.ml.core.types import TaskType


@dataclass(frozen=True)
class Predictions:
    """A model's answers to rows whose truth is known."""

    digest: str
    task: TaskType
    truth: np.ndarray
    """`(n_rows,)` class indices int64 (-1 for a class that the model doesn't know), or float64 values."""
    answers: np.ndarray
    """`(n_rows, n_classes)` float64 probabilities, or `(n_rows,)` float64 values."""
    slices: np.ndarray | None = None
    """`(n_rows,)` texts: each row's slice."""
    groups: np.ndarray | None = None
    """`(n_rows,)` int64 from 0 on: rows of one number form a group, as those of one customer; None where each row is
    one by itself."""
    classes: tuple[str, ...] = ()
    """Labels in the order of the probabilities, where costs are asked for by them."""


def rows_of(predictions: Predictions, rows: np.ndarray) -> Predictions:
    """The answers to some of the rows: `(n_rows,)` bool, or their numbers."""
    slices, groups = (None if each is None else each[rows] for each in (predictions.slices, predictions.groups))
    if groups is not None:
        groups = np.unique(groups, return_inverse=True)[1]
    parts = {"truth": predictions.truth[rows], "answers": predictions.answers[rows]}
    return replace(predictions, **parts, slices=slices, groups=groups)


def unseen_rows(predictions: Predictions, seen: np.ndarray) -> Predictions:
    """Without the rows that were learned from, `(n_rows,)` bool."""
    return rows_of(predictions, ~seen)
