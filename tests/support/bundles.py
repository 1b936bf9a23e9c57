"""Trained sample bundles: short real trainings, sealed with their evidence, and what tells one from another.

Those that nothing was trained for, and so take no time, are in `builders`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
from builders import mixed_table

from ai.ml.core.types import TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import ScoringSettings
from ai.ml.frameworks.pytorch.trainer.training import TrainingResult, train
from ai.ml.retraining.evidence.seal import stage_candidate


def config(**changes: Any) -> TrainingConfig:
    """Three epochs of one narrow layer on a `mixed_table`."""
    return dataclasses.replace(TrainingConfig("y", epochs=3, hidden_dim=16, num_hidden_layers=1), **changes)


def weights(result: TrainingResult) -> bytes:
    """Every bit of the trained network."""
    return b"".join(tensor.numpy().tobytes() for tensor in result.bundle.model.state_dict().values())


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


def sealed_bundle(folder: Path, *, task: TaskType = "classification", seed: int = 0) -> Path:
    """A bundle directory with contract, evidence and manifest, in a folder of its own."""
    table = mixed_table(500, seed=seed, task=task)
    result = train(table, TrainingConfig("y", epochs=2, hidden_dim=8, random_seed=seed))
    target = folder / f"bundle-{task}-{seed}"
    target.mkdir(parents=True)
    stage_candidate(target, result, table.take(pa.array(result.holdout_rows)))
    return target
