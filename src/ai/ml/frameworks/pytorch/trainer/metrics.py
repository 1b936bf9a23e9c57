"""The metrics of a finished training, measured with the scoring path of the bundle."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ai.ml.core.errors import TrainingDiverged
from ai.ml.core.types import Metrics
from ai.ml.frameworks.pytorch.inference.scorer import Scorer
from ai.ml.frameworks.pytorch.trainer.data.dataset import TrainingData
from ai.ml.frameworks.pytorch.trainer.data.target import Target
from ai.ml.frameworks.pytorch.trainer.losses import Criterion, mean_loss


def evaluate(scorer: Scorer, table: pa.Table, data: TrainingData, criterion: Criterion) -> Metrics:
    """Losses on the training and holdout rows, and the holdout's accuracy or RMSE, all through one `Scorer`.

    Args:
        scorer: of the trained bundle.
        table: raw, as it was trained on.
        data: the same table as numbers: its rows and their target.
        criterion: the loss against known answers, on the CPU.

    Raises:
        TrainingDiverged: a row has no finite answer, or a metric isn't finite.
    """
    target = data.target
    losses: list[float] = []
    value = 0.0
    for rows in (data.train_rows, data.holdout_rows):
        answers = scorer.score_table(table.take(pa.array(rows)))
        _refuse_nonfinite(answers.raw, rows)
        losses.append(mean_loss(criterion, answers.raw, _target_tensor(target, rows)))
        known = target.values[rows]
        if target.task == "classification":
            value = float(np.mean(answers.decoded.astype(str) == known.astype(str)))
        else:
            value = float(np.sqrt(np.mean((answers.decoded - known) ** 2)))
    name = "accuracy" if target.task == "classification" else "rmse"
    if not np.isfinite([*losses, value]).all():
        raise TrainingDiverged(
            f"the loss is {losses[0]:g} on the training rows and {losses[1]:g} on the holdout rows, {name} {value:g}: "
            "lower the learning rate, or give the target in another unit"
        )
    return Metrics(target.task, losses[0], losses[1], name, value)


def _refuse_nonfinite(raw: np.ndarray, rows: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(raw).all(axis=1))
    if len(bad) == len(rows):
        raise TrainingDiverged(f"none of {len(rows)} rows gets a finite answer: lower the learning rate")
    if len(bad):
        raise TrainingDiverged(
            f"{len(bad)} of {len(rows)} rows get no finite answer, first row {rows[bad[0]]} of the table: a number "
            "there is far beyond those that were learned from; drop such rows, or train mlp_ple or tabm, which clip"
        )


def _target_tensor(target: Target, rows: np.ndarray) -> Tensor:
    """`(n_rows,)` int64 class indices, or `(n_rows, 1)` float32."""
    y = target.encoded(rows)
    return torch.from_numpy(y if target.task == "classification" else y[:, None].astype(np.float32))
