"""A training's budget in seconds: the reserve for the metrics, and the message when it ends the training."""

from __future__ import annotations

import time

import torch
from torch import nn

from ai.ml.core.number_text import figure
from ai.ml.frameworks.pytorch.inference.scorer import ScoringSettings
from ai.ml.frameworks.pytorch.inference.tiling import TiledNetwork
from ai.ml.frameworks.pytorch.trainer.data.dataset import TrainingData
from ai.ml.frameworks.pytorch.trainer.loop import TrainingLoop

MAX_READING_SHARE, MAX_SCORING_SHARE = 0.1, 0.5
"""Of a budget, for the metrics."""


def reserved_seconds(budget: float, prepared: float, scoring: float) -> float:
    """Of a budget, for the metrics at the end, which read the same rows once more and score them.

    In a young process the preparation is no measure of the reading, hence a limit; another leaves time to learn.
    """
    return min(prepared, budget * MAX_READING_SHARE) + min(scoring, budget * MAX_SCORING_SHARE)


def scoring_seconds(model: nn.Module, data: TrainingData, scoring: ScoringSettings | None) -> float:
    """How long the network takes for the metrics' rows, by one tile of them."""
    settings = scoring or ScoringSettings()
    shape = (data.input_dim, data.output_dim)
    network = TiledNetwork(model, shape, settings, torch.device("cpu"))
    seconds = 0.0
    for _ in range(2):
        # The first one warms up.
        began = time.perf_counter()
        network.run(settings.tile_rows, lambda tile, start, stop: tile.fill(0))
        seconds = time.perf_counter() - began
    tiles = sum(-(-len(rows) // settings.tile_rows) for rows in (data.train_rows, data.holdout_rows))
    return seconds * tiles


def budget_sentence(loop: TrainingLoop) -> str:
    """Where in the training the budget ran out."""
    epochs, updates, budget = loop.state.epoch, loop.state.schedule.updates, loop.config.budget_seconds or 0.0
    moment = "in the first epoch" if epochs == 1 else f"after {epochs} epochs"
    return f"the budget of {figure(budget)} s ended the training {moment}, after {updates} updates"
