"""How weights move: the optimiser of each mode, its schedule, and the running average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ai.ml.core.types import TrainingConfig

WEIGHT_DECAY = 1e-4
DECOUPLED_WEIGHT_DECAY = 1e-2
WARM_UP_UPDATES = 50
DROP = 0.3
"""Factor of the learning rate when the validation loss hasn't improved for half the patience."""
EMA_DECAY = 0.99
SMALLEST_BATCH, LARGEST_BATCH = 32, 1024
UPDATES_PER_EPOCH = 40
"""Target number of updates per epoch for a batch size by data size."""


@dataclass
class Schedule:
    """The state of the learning rate; part of a checkpoint."""

    updates: int = 0
    scale: float = 1.0
    last_drop: int = 0
    """Epoch."""


def _adam(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Adam with coupled decay; fused, so one kernel moves all weights."""
    return torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY, fused=True)


def _adamw(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW with decoupled decay of the matrices; fused."""
    # Vectors are biases and scales: decay would only pull them off. What `tabm` has per member and the embedding
    # per column is two-dimensional and decays; every figure of the benchmark was measured so.
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": DECOUPLED_WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


@dataclass(frozen=True)
class ModeOptimizer:
    """How a mode's weights move."""

    make: Callable[[nn.Module, float], torch.optim.Optimizer]
    """From a model and a learning rate."""
    warms_up: bool
    """A linear warm-up, and drops of the learning rate on plateaus of the validation loss."""
    averages: bool
    """It is judged and kept by the exponential moving average of its weights."""


ADAM = ModeOptimizer(_adam, warms_up=False, averages=False)
AVERAGED_ADAMW = ModeOptimizer(_adamw, warms_up=True, averages=True)
MODE_OPTIMIZERS: Mapping[str, ModeOptimizer] = {
    "mlp_dense": ADAM,
    "imbalance_aware": ADAM,
    "calibrated_classifier": ADAM,
    "tree_teacher_distillation": ADAM,
    "linear_glm_baseline": ADAM,
    "tabresnet": ADAM,
    "mlp_ple": AVERAGED_ADAMW,
    "tabm": AVERAGED_ADAMW,
}
"""By the modes of `ai.ml.core.training_modes`."""


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The mode's optimiser over a model's weights."""
    return MODE_OPTIMIZERS[config.training_mode].make(model, config.learning_rate)


def quick_step(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """`step` of one that `make_optimizer` made, without its bookkeeping, which is more than a small update's kernel.

    Good until another state is put into `optimizer`; before its first step it is the ordinary `step`, which makes the
    state.
    """
    if not optimizer.state:
        return optimizer.step
    move: Callable[..., None] = adamw if isinstance(optimizer, torch.optim.AdamW) else adam
    moments = [
        [[optimizer.state[weight][key] for weight in group["params"]] for key in ("exp_avg", "exp_avg_sq", "step")]
        for group in optimizer.param_groups
    ]

    @torch.no_grad()
    def step() -> None:
        for group, (means, squares, steps) in zip(optimizer.param_groups, moments, strict=True):
            weights: list[Tensor] = group["params"]
            beta1, beta2 = group["betas"]
            settings = {key: group[key] for key in ("lr", "weight_decay", "eps", "amsgrad", "maximize", "fused")}
            gradients = [weight.grad for weight in weights]
            move(weights, gradients, means, squares, [], steps, beta1=beta1, beta2=beta2, **settings)

    return step


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainingConfig, schedule: Schedule) -> None:
    """Before an update of a mode that warms up: a linear warm-up, times the drops so far."""
    if MODE_OPTIMIZERS[config.training_mode].warms_up:
        warm = min(1.0, (schedule.updates + 1) / WARM_UP_UPDATES)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * warm * schedule.scale


def drop_if_stale(schedule: Schedule, config: TrainingConfig, epoch: int, best_epoch: int) -> None:
    """After an epoch: lower the learning rate if the validation loss hasn't improved for half the patience."""
    if config.patience is not None and epoch - max(best_epoch, schedule.last_drop) >= max(1, config.patience // 2):
        schedule.scale *= DROP
        schedule.last_drop = epoch


def average_of(model: nn.Module, config: TrainingConfig) -> AveragedModel | None:
    """The exponential moving average of the weights, for the modes that are judged and kept by it."""
    if not MODE_OPTIMIZERS[config.training_mode].averages:
        return None
    return AveragedModel(model, multi_avg_fn=_ema)


def batch_size_for(config: TrainingConfig, rows: int) -> int:
    """The configured size, or a power of two that gives about `UPDATES_PER_EPOCH` updates."""
    if config.batch_size is not None:
        return config.batch_size
    power = round(math.log2(max(1.0, rows / UPDATES_PER_EPOCH)))
    return min(max(1 << power, SMALLEST_BATCH), LARGEST_BATCH)


def _ema(averages: tuple[Tensor, ...] | list[Tensor], weights: tuple[Tensor, ...] | list[Tensor], count: Tensor | int):
    """A short memory at first: the first weights are those of no training."""
    decay = min(EMA_DECAY, (1 + int(count)) / (10 + int(count)))
    get_ema_multi_avg_fn(decay)(averages, weights, count)  # pyright: ignore[reportArgumentType]
