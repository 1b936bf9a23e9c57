"""Settings that can't be trained with are one sentence, before anything starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import mixed_table
from bundles import config

from ai.ml.core.errors import UsageError
from ai.ml.frameworks.pytorch.trainer.training import train


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"training_mode": "mlp"}, "known are .*mlp_dense"),
        ({"task": "ranking"}, "task must be"),
        ({"test_size": 1.0}, "test_size must be above 0 and below 1, got 1.0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, or None, got 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"num_threads": 0}, "num_threads must be from 1 to 1,024, or None, got 0"),
        ({"num_threads": 100_000}, "num_threads must be from 1 to 1,024, or None, got 100000"),
        ({"budget_seconds": float("inf")}, "budget_seconds must be above 0, or None, got inf"),
        ({"exclude_columns": ("y",)}, "y"),
        ({"device": "cuda:7"}, "no CUDA device"),
    ],
)
def test_settings_that_are_off_are_refused_before_anything_starts(changes: dict[str, Any], sentence: str) -> None:
    if "cuda" in str(changes) and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UsageError, match=sentence):
        train(mixed_table(60), config(**changes))


@pytest.mark.parametrize("setting", [{"class_weights": True}, {"label_smoothing": 0.1}])
def test_a_setting_of_classes_is_refused_for_values(setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is for classification; the target is a regression"):
        train(mixed_table(100, task="regression"), config(**setting))
