"""Whether a `TrainingConfig` can be trained: every setting by itself, then together with the task."""

from __future__ import annotations

from ai.ml.core.errors import UsageError
from ai.ml.core.training_modes import MODES
from ai.ml.core.types import TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.models.networks import TRAINING_MODES

MAX_THREADS = 1_024
"""Tens of thousands end the process without a word."""


def check_config(config: TrainingConfig) -> None:
    """Check every setting by itself, before anything is read.

    Raises:
        UsageError: the message is the rule and the value.
    """
    if config.training_mode not in TRAINING_MODES:
        raise UsageError(f"unknown training_mode={config.training_mode!r}: known are {', '.join(TRAINING_MODES)}")
    if config.task not in ("auto", "classification", "regression"):
        raise UsageError(f"task must be auto, classification or regression, got {config.task!r}")
    rules = {
        "test_size": ("above 0 and below 1", 0 < config.test_size < 1),
        "validation_size": ("at least 0 and below 1", 0 <= config.validation_size < 1),
        "random_seed": ("from 0 to 4294967295", 0 <= config.random_seed < 2**32),
        "epochs": ("at least 1", config.epochs >= 1),
        "batch_size": ("at least 2, or None", config.batch_size is None or config.batch_size >= 2),
        "learning_rate": ("above 0", 0 < config.learning_rate < float("inf")),
        "hidden_dim": ("at least 1", config.hidden_dim >= 1),
        "num_hidden_layers": ("at least 1", config.num_hidden_layers >= 1),
        "dropout": ("at least 0 and below 1", 0 <= config.dropout < 1),
        "patience": ("at least 1, or None", config.patience is None or config.patience >= 1),
        "budget_seconds": (
            "above 0, or None",
            config.budget_seconds is None or 0 < config.budget_seconds < float("inf"),
        ),
        "label_smoothing": ("at least 0 and below 1", 0 <= config.label_smoothing < 1),
        "n_bins": ("from 2 to 256", 2 <= config.n_bins <= 256),
        "d_emb": ("from 1 to 256", 1 <= config.d_emb <= 256),
        "members": ("from 1 to 256", 1 <= config.members <= 256),
        "num_threads": (
            f"from 1 to {MAX_THREADS:,}, or None",
            config.num_threads is None or 1 <= config.num_threads <= MAX_THREADS,
        ),
    }
    for name, (rule, holds) in rules.items():
        if not holds:
            raise UsageError(f"{name} must be {rule}, got {getattr(config, name)!r}")


def check_task(config: TrainingConfig, task: TaskType) -> None:
    """Refuse a mode and settings of a loss that a task doesn't have.

    Raises:
        UsageError: they are for classification only.
    """
    if task not in MODES[config.training_mode].tasks:
        raise UsageError(f"training_mode {config.training_mode!r} is for classification; the target is a regression")
    for name, is_given in (("class_weights", config.class_weights), ("label_smoothing", config.label_smoothing > 0)):
        if is_given and task == "regression":
            raise UsageError(f"{name} is for classification; the target is a regression")


def check_teachable(config: TrainingConfig) -> None:
    """Refuse a mode that a teacher can't be given to.

    Raises:
        UsageError: the mode fits a teacher of its own.
    """
    if MODES[config.training_mode].fits_own_teacher:
        raise UsageError(f"training_mode {config.training_mode!r} has a teacher of its own: choose another mode")
