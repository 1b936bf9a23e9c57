"""Temperature scaling: one number that makes probabilities honest (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

LEAST, MOST = 0.2, 5.0
DIGITS = 4
"""Decimals kept: more would be noise."""


def best_temperature(logits: np.ndarray, y: np.ndarray) -> float:
    """The temperature with the least log loss on validation rows, or 1.0 where none is better than that.

    Args:
        logits: `(n_rows, n_classes)`.
        y: `(n_rows,)` class indices.
    """
    logits = logits.astype(np.float64)

    def log_loss(temperature: float) -> float:
        scaled = logits / temperature
        total = np.asarray(logsumexp(scaled, axis=1))
        return float(np.mean(total - scaled[np.arange(len(y)), y]))

    found = minimize_scalar(lambda log: log_loss(np.exp(log)), bounds=(np.log(LEAST), np.log(MOST)), method="bounded")
    temperature = round(float(np.exp(found.x)), DIGITS)
    return temperature if log_loss(temperature) < log_loss(1.0) else 1.0
