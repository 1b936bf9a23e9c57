"""Trainings that are only judged, on validation rows: one table made ready once, then settings tried on it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from ai.ml.core.contract import Finding
from ai.ml.core.errors import DataRefused, TrainingDiverged
from ai.ml.core.types import ModelBundle, TrainingConfig
from ai.ml.frameworks.pytorch.trainer.checkpoint import EpochCheckpoint
from ai.ml.frameworks.pytorch.trainer.config_check import check_config
from ai.ml.frameworks.pytorch.trainer.data.prepare import prepare_dataset
from ai.ml.frameworks.pytorch.trainer.setup import assemble, training_environment


@dataclass(frozen=True)
class TrialResult:
    """The worth of settings, as one trial of a search found it."""

    loss: float
    """Of the validation rows: log loss, or mean squared error of the scaled target; never what a mode trains with."""
    epochs: int
    """That were trained."""
    seconds: float
    """Those before a kill included."""


class TrialRunner:
    """A table split and encoded, on which settings can be tried that don't change either."""

    def __init__(self, table: pa.Table, config: TrainingConfig, teacher: ModelBundle | None = None):
        """Prepare as `train` does; the holdout rows are left out of it.

        Raises:
            UsageError: a setting is off, or doesn't fit the table.
            DataRefused: the table can't be learned from.
        """
        check_config(config)
        self.data, _ = prepare_dataset(table, config, teacher)

    def judge(self, config: TrainingConfig, checkpoint_of: Callable[[TrainingConfig], EpochCheckpoint]) -> TrialResult:
        """Train with these settings to the weights that `train` would end with, and measure them.

        Args:
            config: differs from the first one in settings of network and optimiser only.
            checkpoint_of: gives the file for the state between epochs.

        Raises:
            DataRefused: there are too few rows for a validation part.
            TrainingDiverged: the loss is no number any more.
        """
        check_config(config)
        began, findings = time.perf_counter(), list[Finding]()
        with training_environment(config) as device:
            _, loop, _ = assemble(self.data, config, device, findings)
            y = loop.data.y_validation
            if y is None:
                raise DataRefused("a search needs validation rows, and there are too few rows for a validation part")
            loop.began = began
            checkpoint = checkpoint_of(config)
            # Of another trial or damaged, it costs time and nothing else.
            checkpoint.resume(loop.load_state_dict)
            loop.run(checkpoint=checkpoint)
            loop.restore_best()
            loss = _loss(loop.validation_outputs(), y)
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the validation loss is {loss}")
        return TrialResult(loss, loop.state.epoch, loop.elapsed)


def _loss(outputs: Tensor | None, y: Tensor) -> float:
    if outputs is None:
        raise AssertionError("a validation part has outputs")
    if y.is_floating_point():
        return float(functional.mse_loss(outputs.to(torch.float64), y.to(torch.float64)))
    return float(functional.cross_entropy(outputs.to(torch.float64), y))
