"""Temperature scaling: cools what is overconfident, and leaves alone what says too little."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax

from ai.ml.frameworks.pytorch.trainer.calibration import MIN_ROWS, best_temperature


def drawn(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the truth, and labels drawn from it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 3))
    y = (rng.gumbel(size=logits.shape) + logits).argmax(axis=1)
    return logits, y


def log_loss(logits: np.ndarray, y: np.ndarray) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(y)), y].mean())


def test_an_overconfident_model_is_cooled_and_new_rows_gain() -> None:
    logits, y = drawn(3_000)
    temperature = best_temperature(1.6 * logits, y)
    assert 1.4 < temperature < 1.8
    fresh, truth = drawn(3_000, seed=1)
    assert log_loss(1.6 * fresh / temperature, truth) < log_loss(1.6 * fresh, truth)


def test_few_rows_change_nothing() -> None:
    logits, y = drawn(MIN_ROWS - 1)
    assert best_temperature(3 * logits, y) == 1.0


def test_an_extreme_is_never_taken() -> None:
    # Every row is right: without a bound the least log loss is at temperature 0.
    y = np.arange(300) % 3
    assert best_temperature(np.eye(3)[y] * 4, y) >= 0.5


def test_a_gain_that_does_not_carry_over_is_no_gain() -> None:
    logits, y = drawn(400)
    # One half is overconfident, the other underconfident: neither's temperature suits the other.
    logits[0::2] *= 1.9
    logits[1::2] *= 0.5
    assert best_temperature(logits, y) == 1.0
