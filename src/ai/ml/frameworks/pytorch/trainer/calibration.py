"""Temperature scaling: one number that makes probabilities honest (Guo et al. 2017, arXiv:1706.04599).

On few rows, or rows that a model tells apart without an error, the least log loss is at an extreme temperature that
does harm elsewhere. So a temperature has to lower the log loss of rows that it wasn't found on, and it stays moderate.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.5, 2.0
MIN_ROWS = 200
"""Minimum of validation rows."""
DIGITS = 4
"""Decimals kept: more would be noise."""


def best_temperature(logits: np.ndarray, y: np.ndarray) -> float:
    """The temperature with the lowest log loss on validation rows, or 1.0 where it isn't significantly better.

    The rows are halved, every second one, and the temperature of each half must lower the log loss of the other.

    Args:
        logits: `(n_rows, n_classes)`.
        y: `(n_rows,)` class indices.
    """
    logits = logits.astype(np.float64)
    if len(y) < MIN_ROWS:
        return 1.0
    halves = [(logits[start::2], y[start::2]) for start in (0, 1)]
    for fitted_on, tested_on in (halves, reversed(halves)):
        if _log_loss(*tested_on, _minimum(*fitted_on)) >= _log_loss(*tested_on, 1.0):
            return 1.0
    temperature = round(_minimum(logits, y), DIGITS)
    return temperature if _log_loss(logits, y, temperature) < _log_loss(logits, y, 1.0) else 1.0


def _minimum(logits: np.ndarray, y: np.ndarray) -> float:
    """The temperature within the bounds with the lowest log loss."""
    bounds = (np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE))
    found = minimize_scalar(lambda log: _log_loss(logits, y, float(np.exp(log))), bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def _log_loss(logits: np.ndarray, y: np.ndarray, temperature: float) -> float:
    scaled = logits / temperature
    total = np.asarray(logsumexp(scaled, axis=1))
    return float(np.mean(total - scaled[np.arange(len(y)), y]))
