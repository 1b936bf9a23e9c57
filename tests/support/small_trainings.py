"""Short trainings for the tests of the trainer, and what tells one from another."""

from __future__ import annotations

import dataclasses
from typing import Any

from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.trainer.training import TrainingResult


def config(**changes: Any) -> TrainingConfig:
    """Three epochs of one narrow layer on a `mixed_table`."""
    return dataclasses.replace(TrainingConfig("y", epochs=3, hidden_dim=16, num_hidden_layers=1), **changes)


def weights(result: TrainingResult) -> bytes:
    """Every bit of the trained network."""
    return b"".join(tensor.numpy().tobytes() for tensor in result.bundle.model.state_dict().values())
