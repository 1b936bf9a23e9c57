"""What a classification's answers cost, by pairs of the actual and the predicted class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ai.ml.core.errors import UsageError
from ai.ml.retraining.decision.predictions import Predictions


def cost_matrix(costs: Mapping[str, float], classes: Sequence[str]) -> np.ndarray:
    """The cost of a row by its actual and its predicted class.

    >>> cost_matrix({"ill:well": 20}, ["ill", "well"]).tolist()
    [[0.0, 20.0], [1.0, 0.0]]

    Args:
        costs: by `ACTUAL:PREDICTED`; a class may hold colons itself. A mistake that isn't listed costs 1, a right
            answer that isn't listed 0.
        classes: in the order of the probabilities.

    Returns:
        `(n_classes, n_classes)` float64; rows are actual classes, columns predicted ones.

    Raises:
        UsageError: a key names no two of these classes, or can be read as more than one pair of them.
    """
    matrix = 1.0 - np.eye(len(classes))
    index = {name: at for at, name in enumerate(classes)}
    for pair, cost in costs.items():
        parts = pair.split(":")
        splits = [(":".join(parts[:at]), ":".join(parts[at:])) for at in range(1, len(parts))]
        found = [(actual, predicted) for actual, predicted in splits if actual in index and predicted in index]
        if len(found) != 1:
            what = "names no two classes" if not found else "can be read as more than one pair of classes"
            raise UsageError(f"cost {pair!r} {what}: write ACTUAL:PREDICTED; the classes are {_listed(classes)}")
        matrix[index[found[0][0]], index[found[0][1]]] = cost
    return matrix


def _listed(classes: Sequence[str]) -> str:
    more = f" and {len(classes) - 20} more" if len(classes) > 20 else ""
    return ", ".join(map(repr, classes[:20])) + more


def answer_costs(predictions: Predictions, costs: Mapping[str, float]) -> np.ndarray:
    """`(n_rows,)` float64: what each row's likeliest class costs; with a class that isn't known, the highest cost."""
    matrix = cost_matrix(costs, predictions.classes)
    has_known_class = predictions.truth >= 0
    found = matrix[np.where(has_known_class, predictions.truth, 0), predictions.answers.argmax(axis=1)]
    return np.where(has_known_class, found, matrix.max())
