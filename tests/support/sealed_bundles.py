"""Whole bundle directories for the tests of the gate: really trained, with the live model's evidence, sealed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from builders import mixed_table

from ai.ml.core.types import TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import ScoringSettings
from ai.ml.frameworks.pytorch.trainer.training import TrainingResult, train
from ai.ml.retraining.evidence.seal import stage_candidate


def trained(
    task: TaskType = "classification",
    training_mode: str = "mlp_dense",
    settings: ScoringSettings | None = None,
    hidden_dim: int = 8,
) -> tuple[TrainingResult, pa.Table]:
    """A short training, and its holdout rows."""
    table = mixed_table(200, task=task)
    config = TrainingConfig("y", training_mode=training_mode, task=task, epochs=3, hidden_dim=hidden_dim)
    result = train(table, config, scoring=settings)
    return result, table.take(pa.array(result.holdout_rows))


def sealed(folder: Path, task: TaskType = "classification", training_mode: str = "mlp_dense") -> Path:
    """A bundle directory that passes the gate."""
    result, holdout = trained(task, training_mode)
    stage_candidate(folder, result, holdout)
    return folder
