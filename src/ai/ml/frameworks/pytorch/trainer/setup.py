"""A training put together: its rows on a device, a model with fresh weights, its losses, and the process it runs in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor, nn

from ai.ml.core.contract import Finding
from ai.ml.core.errors import UsageError
from ai.ml.core.training_modes import MODES
from ai.ml.core.types import TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.inference.precision import full_precision
from ai.ml.frameworks.pytorch.models.networks import PIECEWISE_MODES, build_model
from ai.ml.frameworks.pytorch.models.piecewise import find_bins, set_bins
from ai.ml.frameworks.pytorch.trainer.data.dataset import TrainingData
from ai.ml.frameworks.pytorch.trainer.loop import TrainingLoop, TrainingTensors
from ai.ml.frameworks.pytorch.trainer.losses import (
    Criterion,
    distilled,
    early_stopping_loss,
    fit_teacher,
    hard_loss,
    soft_loss,
)

TEACHER_BUDGET = 1 / 3
"""Share of a budget after which a forest that teaches grows no further."""


def assemble(
    data: TrainingData, config: TrainingConfig, device: torch.device, findings: list[Finding]
) -> tuple[nn.Module, TrainingLoop, Criterion]:
    """Put validation rows, model, optimiser and losses together.

    Args:
        data: the table as numbers.
        config: what to train.
        device: where.
        findings: gets what a person should know.

    Returns:
        A model with fresh weights from the seed, its training, and the loss against known answers on the CPU.
    """
    task = data.target.task
    if data.split.validation is None and config.validation_size > 0:
        message = f"too few rows for a validation part: all {config.epochs} epochs run, without early stopping"
        findings.append(Finding("training", None, message))
    fitting_rows, validation_rows = data.split.validation or (np.arange(len(data.y)), None)
    scaled = data.features.scaled
    dtype = torch.int64 if task == "classification" else torch.float32
    x = _to_device(torch.from_numpy(scaled.astype(np.float32)), device)
    y = _to_device(torch.from_numpy(data.y if task == "classification" else data.y[:, None]).to(dtype), device)
    hard = _hard_loss(config, task, y, data.output_dim)
    answers, loss = _teacher_answers(data, config, fitting_rows), hard
    teacher = None
    if answers is not None:
        teacher = _to_device(torch.from_numpy(answers), device)
        loss = distilled(hard, soft_loss(task))
    tensors = TrainingTensors(
        x[fitting_rows],
        y[fitting_rows],
        teacher,
        None if validation_rows is None else x[validation_rows],
        None if validation_rows is None else y[validation_rows],
    )
    model = _fresh_model(config, scaled[fitting_rows], data.output_dim).to(device)
    criterion = hard if device.type == "cpu" else _hard_loss(config, task, y.cpu(), data.output_dim)
    return model, TrainingLoop(model, tensors, (loss, early_stopping_loss(task, hard)), config), criterion


def _teacher_answers(data: TrainingData, config: TrainingConfig, rows: np.ndarray) -> np.ndarray | None:
    """`(len(rows), output_dim)` float32 of a teacher, given or fitted here; None where nothing teaches."""
    if data.teacher is not None:
        return data.teacher[rows]
    if not MODES[config.training_mode].fits_own_teacher:
        return None
    seconds = None if config.budget_seconds is None else TEACHER_BUDGET * config.budget_seconds
    x, y = data.features.scaled[rows], data.y[rows]
    return fit_teacher(data.target.task, x, y, data.output_dim, config.random_seed, seconds)


def _fresh_model(config: TrainingConfig, x: np.ndarray, output_dim: int) -> nn.Module:
    """Random weights from the seed; for the piecewise modes, bins from the rows `(n_rows, input_dim)`."""
    shape: dict[str, int] = {}
    columns, edges = np.empty(0, dtype=np.int64), np.empty(0)
    if config.training_mode in PIECEWISE_MODES:
        columns, edges = find_bins(x, config.n_bins)
        shape = {"n_num": len(columns), "n_bins": config.n_bins, "d_emb": config.d_emb, "k": config.members}
    torch.manual_seed(config.random_seed)
    model = build_model(
        x.shape[1],
        output_dim,
        config.training_mode,
        config.hidden_dim,
        config.num_hidden_layers,
        config.dropout,
        **shape,
    )
    set_bins(model, columns, edges)
    return model


def _hard_loss(config: TrainingConfig, task: TaskType, y: Tensor, output_dim: int) -> Criterion:
    weights, smoothing = config.class_weights, config.label_smoothing
    return hard_loss(config.training_mode, task, y, output_dim, class_weights=weights, label_smoothing=smoothing)


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    # Pinned memory is read by the GPU itself, without a detour through a staging copy.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one.

    Raises:
        UsageError: CUDA was asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device {name!r}: this machine has no CUDA device; use auto or cpu")
    return torch.device(name)


@contextlib.contextmanager
def training_environment(config: TrainingConfig) -> Generator[torch.device]:
    """The configured device and threads, deterministic kernels, float32 products, and a random state of our own.

    Raises:
        UsageError: CUDA was asked for and there is none.
    """
    device = choose_device(config.device)
    threads = torch.get_num_threads()
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    devices = list(range(torch.cuda.device_count())) if device.type == "cuda" else []
    if devices:
        # Without it two products of cuBLAS may differ; it is read when the first one is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    torch.use_deterministic_algorithms(bool(devices), warn_only=True)
    try:
        with torch.random.fork_rng(devices=devices), full_precision(device):
            yield device
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
