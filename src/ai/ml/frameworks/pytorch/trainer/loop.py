"""The loop over epochs: updates, early stopping, and a state that can be put away and taken up again."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ai.ml.core.errors import DataRefused, TrainingDiverged
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.models.piecewise import TabM
from ai.ml.frameworks.pytorch.trainer.checkpoint import EpochCheckpoint
from ai.ml.frameworks.pytorch.trainer.checkpoint_check import check_state
from ai.ml.frameworks.pytorch.trainer.mlp_gradients import dense_gradients_of
from ai.ml.frameworks.pytorch.trainer.optimizer import (
    Schedule,
    average_of,
    batch_size_for,
    drop_if_stale,
    make_optimizer,
    quick_step,
    set_learning_rate,
)

StopReason = Literal["epochs", "patience", "budget"]
VALIDATION_ROWS = 16_384
"""Rows of one forward pass over the validation part."""


@dataclass(frozen=True)
class EpochReport:
    """The figures of one epoch."""

    epoch: int
    """Counted from 1."""
    epochs: int
    """The maximum number of epochs."""
    train_loss: float
    """Mean over the epoch's updates."""
    validation_loss: float | None
    seconds: float
    best: bool
    """The best validation loss so far."""


@dataclass(frozen=True)
class TrainingTensors:
    """The loop's data, all on one device."""

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
    """The complete state of a training; leaving any of it out changes the final bits."""

    epoch: int = 0
    best_loss: float = float("inf")
    best_epoch: int = 0
    best_weights: dict[str, Tensor] | None = None
    history: list[EpochReport] = field(default_factory=list[EpochReport])
    schedule: Schedule = field(default_factory=Schedule)
    spent: float = 0.0
    """Seconds that earlier processes worked on it; they decide the bits only where there is a budget."""


class TrainingLoop:
    """One training, an epoch at a time."""

    def __init__(
        self,
        model: nn.Module,
        data: TrainingTensors,
        losses: tuple[Callable[..., Tensor], Callable[[Tensor, Tensor], Tensor]],
        config: TrainingConfig,
        began: float | None = None,
    ):
        """Prepare the optimiser.

        Args:
            model: trained in place, on the device of `data`.
            data: see `TrainingTensors`.
            losses: the one to minimise (with the teacher's answers as a third argument where there is a teacher), and
                the one that early stopping watches.
            config: epochs, batch size, learning rate, patience, budget.
            began: of the budget, by `time.perf_counter`; now, if it isn't given.
        """
        self.model, self.data, self.config = model, data, config
        self.train_loss, self.early_stopping_loss = losses
        self.optimizer = make_optimizer(model, config)
        self.average = average_of(model, config)
        self._weights = list(model.parameters())
        self._dense = None if config.mixed_precision else dense_gradients_of(model, self.train_loss)
        self.batch_size = batch_size_for(config, len(data.x))
        self.began = time.perf_counter() if began is None else began
        self.reserve = 0.0
        self.state = FitState()

    @property
    def judged(self) -> nn.Module:
        """The model whose weights are validated and kept: the running average where the mode has one."""
        return self.model if self.average is None else self.average.module

    @property
    def elapsed(self) -> float:
        """Seconds of the budget that are spent: those before a kill, as far as a checkpoint knows them, included."""
        return self.state.spent + time.perf_counter() - self.began

    @property
    def stop_reason(self) -> StopReason | None:
        """Why there is no further epoch; None while there is one."""
        state, patience = self.state, self.config.patience
        if state.epoch >= self.config.epochs:
            return "epochs"
        if self.data.x_validation is not None and patience is not None and state.epoch - state.best_epoch >= patience:
            return "patience"
        # An epoch that takes as long as the last one would end too late.
        return "budget" if state.history and self._too_late(state.history[-1].seconds) else None

    def run(
        self, progress: Callable[[EpochReport], None] | None = None, checkpoint: EpochCheckpoint | None = None
    ) -> None:
        """Train to the end.

        Args:
            progress: called after every epoch.
            checkpoint: gets the state now and then.

        Raises:
            DataRefused, TrainingDiverged: as of `run_epoch`.
            StorageFailed: the checkpoint can't be written.
        """
        while self.stop_reason is None:
            report = self.run_epoch()
            if progress is not None:
                progress(report)
            if checkpoint is not None and checkpoint.due():
                checkpoint.save(self.state_dict())

    def run_epoch(self) -> EpochReport:
        """One pass over the training rows in a fresh order.

        Raises:
            DataRefused: no batch had the two rows that an update needs.
            TrainingDiverged: the loss is no number any more.
        """
        began = time.perf_counter()
        train_loss = self._update()
        state = self.state
        state.epoch += 1
        validation_loss = self._validate()
        best = validation_loss is not None and validation_loss < state.best_loss
        if validation_loss is not None:
            if best:
                state.best_loss, state.best_epoch = validation_loss, state.epoch
                state.best_weights = copy.deepcopy(self.judged.state_dict())
            drop_if_stale(state.schedule, self.config, state.epoch, state.best_epoch)
        seconds = time.perf_counter() - began
        report = EpochReport(state.epoch, self.config.epochs, train_loss, validation_loss, seconds, best)
        state.history.append(report)
        return report

    def restore_best(self) -> None:
        """Put the best weights back, or the average ones where there was nothing to judge by."""
        weights = self.state.best_weights
        if weights is not None or self.average is not None:
            self.model.load_state_dict(self.judged.state_dict() if weights is None else weights)
        self.model.eval()

    def validation_outputs(self) -> Tensor | None:
        """`(n_validation, output_dim)` of the model as it is now; None without a validation part."""
        return None if self.data.x_validation is None else _outputs(self.model, self.data.x_validation)

    def _update(self) -> float:
        data, size = self.data, self.batch_size
        # Permuted once, then slices: a fancy index per batch costs more than the batch's forward pass.
        order = torch.randperm(len(data.x)).to(data.x.device)
        parts = [data.x[order], data.y[order]] + ([] if data.teacher is None else [data.teacher[order]])
        self.model.train()
        step = quick_step(self.optimizer)
        total, rows = torch.zeros((), device=data.x.device), 0
        for start in range(0, len(order), size):
            x, *answers = (part[start : start + size] for part in parts)
            if len(x) < 2:
                continue
            if rows and self._too_late():
                break
            set_learning_rate(self.optimizer, self.config, self.state.schedule)
            loss = self._gradients(x, answers)
            step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            self.state.schedule.updates += 1
            total += loss * len(x)
            rows += len(x)
        if not rows:
            raise DataRefused(f"{len(order)} training row gives no batch of at least 2 rows: nothing was learned")
        return self._checked(float(total) / rows)

    def _gradients(self, x: Tensor, answers: list[Tensor]) -> Tensor:
        """Leave them at the weights and give back the loss."""
        if self._dense is not None:
            return self._dense.update(x, answers)
        loss = self._loss(x, answers)
        # What `zero_grad` does, without its bookkeeping: a tenth of a small update.
        for weight in self._weights:
            weight.grad = None
        loss.backward()
        return loss.detach()

    def _loss(self, x: Tensor, answers: list[Tensor]) -> Tensor:
        # Without the cache: it is emptied at the end of the outermost autocast, which is the one that `full_precision`
        # holds open, so that every update would go on with the first one's weights.
        with torch.autocast(x.device.type, torch.bfloat16, self.config.mixed_precision, cache_enabled=False):
            # Each member learns on its own; the mean of their answers would let them lean on each other.
            outputs = self.model.members(x).flatten(0, 1) if isinstance(self.model, TabM) else self.model(x)
        if isinstance(self.model, TabM):
            answers = [answer.repeat_interleave(self.model.k, 0) for answer in answers]
        return self.train_loss(outputs.float(), *answers)

    def _too_late(self, further: float = 0.0) -> bool:
        budget = self.config.budget_seconds
        return budget is not None and self.elapsed + further + self.reserve > budget

    def _checked(self, mean: float) -> float:
        if mean != mean or mean == float("inf"):
            raise TrainingDiverged(
                f"the training loss is {mean} in epoch {self.state.epoch + 1}: lower the learning rate "
                f"({self.config.learning_rate}) or look at the numbers' ranges"
            )
        return mean

    def _validate(self) -> float | None:
        data = self.data
        if data.x_validation is None or data.y_validation is None:
            return None
        return float(self.early_stopping_loss(_outputs(self.judged, data.x_validation), data.y_validation))

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        return self._kept(self.elapsed)

    def _kept(self, spent: float) -> dict[str, Any]:
        state = self.state
        return {
            "model": dict(self.model.state_dict()),
            "average": None if self.average is None else dict(self.average.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.data.x.is_cuda else [],
            "epoch": state.epoch,
            "best_loss": state.best_loss,
            "best_epoch": state.best_epoch,
            "best_weights": None if state.best_weights is None else dict(state.best_weights),
            "history": [vars(report) for report in state.history],
            "schedule": vars(state.schedule),
            "spent": spent,
        }

    def load_state_dict(self, record: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ValueError: the record isn't of such a training; nothing was taken up.
        """
        check_state(record, self._example_state(), self.config.epochs)
        _set_random_state(record["torch_rng"], record["cuda_rng"])
        self.model.load_state_dict(record["model"])
        if self.average is not None:
            self.average.load_state_dict(record["average"])
        self.optimizer.load_state_dict(record["optimizer"])
        self.state = FitState(
            record["epoch"],
            record["best_loss"],
            record["best_epoch"],
            record["best_weights"],
            [EpochReport(**report) for report in record["history"]],
            Schedule(**record["schedule"]),
            record["spent"],
        )

    def _example_state(self) -> dict[str, Any]:
        """A template of this training's state after an epoch."""
        state = self._kept(0.0)
        numbered = enumerate(weight for group in self.optimizer.param_groups for weight in group["params"])
        moments = {number: {"step": torch.zeros(()), "exp_avg": each, "exp_avg_sq": each} for number, each in numbered}
        best = None if self.data.x_validation is None else state["model"]
        return state | {"optimizer": state["optimizer"] | {"state": moments}, "best_weights": best}


def _set_random_state(cpu: Tensor, cuda: list[Tensor]) -> None:
    before = torch.get_rng_state()
    try:
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
    except RuntimeError as error:
        torch.set_rng_state(before)
        raise ValueError(f"torch_rng: {error}") from None


def _outputs(model: nn.Module, x: Tensor) -> Tensor:
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(part) for part in x.split(VALIDATION_ROWS)])
