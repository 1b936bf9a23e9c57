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
from ai.ml.frameworks.pytorch.trainer.dataset import Problem
from ai.ml.frameworks.pytorch.trainer.loop import Fitting, TrainingTensors
from ai.ml.frameworks.pytorch.trainer.losses import Criterion, distilled, hard_loss, soft_loss, teach, watched_loss

TEACHER_BUDGET = 1 / 3
"""Share of a budget after which a forest that teaches grows no further."""


def assemble(
    problem: Problem, config: TrainingConfig, device: torch.device, findings: list[Finding]
) -> tuple[nn.Module, Fitting, Criterion]:
    """Put validation rows, model, optimiser and losses together.

    Args:
        problem: the table as numbers.
        config: what to train.
        device: where.
        findings: gets what a person should know.

    Returns:
        A model with fresh weights from the seed, its training, and the loss against known answers on the CPU.
    """
    task = problem.contract.task
    parts = problem.split.validation
    if parts is None and config.validation_size > 0:
        message = f"too few rows for a validation part: all {config.epochs} epochs run, without early stopping"
        findings.append(Finding("training", None, message))
    fitting_rows, validation_rows = parts if parts is not None else (np.arange(len(problem.y)), None)
    scaled = problem.features.scaled
    dtype = torch.int64 if task == "classification" else torch.float32
    x = _to_device(torch.from_numpy(scaled.astype(np.float32)), device)
    y = _to_device(torch.from_numpy(problem.y if task == "classification" else problem.y[:, None]).to(dtype), device)
    hard = _hard_loss(config, task, y, problem.output_dim)
    teacher, loss = None, hard
    if problem.teacher is not None:
        teacher = _to_device(torch.from_numpy(problem.teacher[fitting_rows]), device)
        loss = distilled(hard, soft_loss(task))
    elif MODES[config.training_mode].fits_own_teacher:
        x_taught, y_taught = scaled[fitting_rows], problem.y[fitting_rows]
        seconds = None if config.budget_seconds is None else TEACHER_BUDGET * config.budget_seconds
        answers = teach(task, x_taught, y_taught, problem.output_dim, config.random_seed, seconds)
        teacher = _to_device(torch.from_numpy(answers), device)
        loss = distilled(hard, soft_loss(task))
    data = TrainingTensors(
        x[fitting_rows],
        y[fitting_rows],
        teacher,
        None if validation_rows is None else x[validation_rows],
        None if validation_rows is None else y[validation_rows],
    )
    model = _fresh_model(config, scaled[fitting_rows], problem.output_dim).to(device)
    criterion = hard if device.type == "cpu" else _hard_loss(config, task, y.cpu(), problem.output_dim)
    return model, Fitting(model, data, (loss, watched_loss(task, hard)), config), criterion


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
