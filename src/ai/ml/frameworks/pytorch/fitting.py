"""The loop over epochs: updates, early stopping, and a state that can be put away and taken up again."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ai.ml.core.errors import DataRefused
from ai.ml.core.types import TrainingConfig

WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class EpochReport:
    """What one epoch brought."""

    epoch: int
    """Counted from 1."""
    epochs: int
    """The most there can be."""
    train_loss: float
    """Mean over the epoch's updates."""
    validation_loss: float | None
    seconds: float
    best: bool
    """The best validation loss so far."""


@dataclass(frozen=True)
class TrainingTensors:
    """What the loop reads, all on one device."""

    x: Tensor
    """`(n_rows, input_dim)` float32."""
    y: Tensor
    """`(n_rows,)` int64 or `(n_rows, 1)` float32."""
    teacher: Tensor | None = None
    """`(n_rows, output_dim)` float32."""
    x_validation: Tensor | None = None
    y_validation: Tensor | None = None


@dataclass
class FitState:
    """Everything that decides how a training goes on; leaving any of it out changes the final bits."""

    epoch: int = 0
    best_loss: float = float("inf")
    best_epoch: int = 0
    best_weights: dict[str, Tensor] | None = None
    history: list[EpochReport] = field(default_factory=list[EpochReport])


class Fitting:
    """One training, an epoch at a time."""

    def __init__(
        self,
        model: nn.Module,
        data: TrainingTensors,
        losses: tuple[Callable[..., Tensor], Callable[[Tensor, Tensor], Tensor]],
        config: TrainingConfig,
    ):
        """Prepare the optimiser.

        Args:
            model: trained in place, on the device of `data`.
            data: see `TrainingTensors`.
            losses: the one to minimise (with the teacher's answers as a third argument where there is a teacher), and
                the one that early stopping watches.
            config: epochs, batch size, learning rate, patience.
        """
        self.model, self.data, self.config = model, data, config
        self.train_loss, self.watched_loss = losses
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=config.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
        )
        self.state = FitState()

    @property
    def finished(self) -> bool:
        """All epochs done, or no better validation loss for too long."""
        state, patience = self.state, self.config.patience
        stale = (
            self.data.x_validation is not None and patience is not None and state.epoch - state.best_epoch >= patience
        )
        return state.epoch >= self.config.epochs or stale

    def run_epoch(self) -> EpochReport:
        """One pass over the training rows in a fresh order.

        Raises:
            DataRefused: no batch had the two rows that an update needs, or the loss is no number any more.
        """
        began = time.perf_counter()
        train_loss = self._update()
        state = self.state
        state.epoch += 1
        validation_loss = self._validate()
        best = validation_loss is not None and validation_loss < state.best_loss
        if validation_loss is not None and best:
            state.best_loss, state.best_epoch = validation_loss, state.epoch
            state.best_weights = copy.deepcopy(self.model.state_dict())
        seconds = time.perf_counter() - began
        report = EpochReport(state.epoch, self.config.epochs, train_loss, validation_loss, seconds, best)
        state.history.append(report)
        return report

    def restore_best(self) -> None:
        """Put the best weights back, where there was something to judge by."""
        if self.state.best_weights is not None:
            self.model.load_state_dict(self.state.best_weights)
        self.model.eval()

    def _update(self) -> float:
        data, size = self.data, self.config.batch_size
        # Permuted once, then slices: a fancy index per batch costs more than the batch's forward pass.
        order = torch.randperm(len(data.x)).to(data.x.device)
        parts = [data.x[order], data.y[order]] + ([] if data.teacher is None else [data.teacher[order]])
        self.model.train()
        total, rows = torch.zeros((), device=data.x.device), 0
        for start in range(0, len(order), size):
            x, *answers = (part[start : start + size] for part in parts)
            if len(x) < 2:
                continue
            loss = self.train_loss(self.model(x), *answers)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(x)
            rows += len(x)
        if not rows:
            raise DataRefused(f"{len(order)} training row gives no batch of at least 2 rows: nothing was learned")
        mean = float(total) / rows
        if mean != mean or mean == float("inf"):
            raise DataRefused(
                f"the training loss is {mean} in epoch {self.state.epoch + 1}: lower the learning rate "
                f"({self.config.learning_rate}) or look at the numbers' ranges"
            )
        return mean

    def _validate(self) -> float | None:
        data = self.data
        if data.x_validation is None or data.y_validation is None:
            return None
        self.model.eval()
        with torch.inference_mode():
            return float(self.watched_loss(self.model(data.x_validation), data.y_validation))

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        state = self.state
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "epoch": state.epoch,
            "best_loss": state.best_loss,
            "best_epoch": state.best_epoch,
            "best_weights": state.best_weights,
            "history": [vars(report) for report in state.history],
        }

    def load_state_dict(self, record: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.model.load_state_dict(record["model"])
        self.optimizer.load_state_dict(record["optimizer"])
        torch.set_rng_state(record["torch_rng"])
        if record["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(record["cuda_rng"])
        self.state = FitState(
            record["epoch"],
            record["best_loss"],
            record["best_epoch"],
            record["best_weights"],
            [EpochReport(**report) for report in record["history"]],
        )
