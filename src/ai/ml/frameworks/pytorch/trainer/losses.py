"""The loss of each training mode."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from torch import Tensor
from torch.nn import functional

from ai.ml.core.types import TaskType
from ai.ml.frameworks.pytorch.models.networks import compute_class_weights

LABEL_SMOOTHING = 0.05
TEACHER_TREES = 120
TEACHER_DEPTH = {"classification": 8, "regression": 10}
TEACHER_SHARE = 0.5
TEMPERATURE = 2.0

_aten: Any = torch.ops.aten
_MEAN, _IGNORED_CLASS = 1, -100
"""As torch's kernels number them."""

Criterion = Callable[[Tensor, Tensor], Tensor]
"""`(batch, output_dim)` outputs and their targets to one number."""


@runtime_checkable
class Differentiated(Protocol):
    """A criterion that knows its gradient: the kernels that autograd would call, without its graph."""

    def with_gradient(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient of the shape of `outputs`, for float32 on the CPU."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Mean cross-entropy of `(batch, classes)` logits against int64 classes."""

    weights: Tensor | None = None
    """`(classes,)`."""

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """`(batch, classes)` and `(batch,)` to one number."""
        return functional.cross_entropy(outputs, y, _like(self.weights, outputs))

    def with_gradient(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and its gradient, as `Differentiated` has them."""
        logs = torch.log_softmax(outputs, 1)
        loss, weight = _aten.nll_loss_forward.default(logs, y, self.weights, _MEAN, _IGNORED_CLASS)
        known = (logs, y, self.weights, _MEAN, _IGNORED_CLASS, weight)
        gradient = _aten.nll_loss_backward.default(torch.ones_like(loss), *known)
        return loss, _aten._log_softmax_backward_data.default(gradient, logs, 1, outputs.dtype)


class SquaredError:
    """Mean squared error of `(batch, 1)` outputs."""

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Two of `(batch, 1)` to one number."""
        return functional.mse_loss(outputs, y)

    def with_gradient(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and its gradient, as `Differentiated` has them."""
        loss = functional.mse_loss(outputs, y)
        return loss, _aten.mse_loss_backward.default(torch.ones_like(loss), outputs, y, _MEAN)


def _like(weights: Tensor | None, outputs: Tensor) -> Tensor | None:
    return None if weights is None else weights.to(outputs.dtype)


@dataclass(frozen=True)
class ModeLoss:
    """How a mode's cross-entropy differs from the plain one; a regression has the mean squared error in every mode."""

    class_weights: bool = False
    """Balanced classes, whatever the config."""
    label_smoothing: float | None = None
    """Instead of the config's."""


PLAIN = ModeLoss()
MODE_LOSSES: Mapping[str, ModeLoss] = {
    "mlp_dense": PLAIN,
    "imbalance_aware": ModeLoss(class_weights=True),
    "calibrated_classifier": ModeLoss(label_smoothing=LABEL_SMOOTHING),
    "tree_teacher_distillation": PLAIN,
    "linear_glm_baseline": PLAIN,
    "tabresnet": PLAIN,
    "mlp_ple": PLAIN,
    "tabm": PLAIN,
}
"""By the modes of `ai.ml.core.training_modes`."""


def hard_loss(
    training_mode: str,
    task: TaskType,
    y_train: Tensor,
    output_dim: int,
    *,
    class_weights: bool = False,
    label_smoothing: float = 0.0,
) -> Criterion:
    """The loss against the known answers.

    Cross-entropy as `MODE_LOSSES` has it; mean squared error for regression. It is what a mode is trained with, never
    what models are compared by.

    Args:
        training_mode: one of the known modes.
        task: decides the kind of loss.
        y_train: `(n_rows,)` int64 class indices, or `(n_rows, 1)` float32.
        output_dim: classes, or 1.
        class_weights: weigh the classes in any mode.
        label_smoothing: for the modes that have none of their own.
    """
    if task == "regression":
        return SquaredError()
    own = MODE_LOSSES[training_mode]
    smoothing = label_smoothing if own.label_smoothing is None else own.label_smoothing
    weighted = class_weights or own.class_weights
    weights = compute_class_weights(y_train, output_dim, y_train.device) if weighted else None
    if smoothing == 0:
        return CrossEntropy(weights)
    return lambda logits, y: functional.cross_entropy(logits, y, _like(weights, logits), label_smoothing=smoothing)


def early_stopping_loss(task: TaskType, hard: Criterion) -> Criterion:
    """The loss for early stopping: `hard`, but for regression no single validation row may decide.

    Squared error as far as one standard deviation of the target, linear beyond (twice Huber's loss): of a few hundred
    validation rows one that no model gets right can weigh more than all others, and training then ends at once.
    """
    if task == "classification":
        return hard
    return lambda outputs, y: 2 * functional.huber_loss(outputs, y)


def soft_loss(task: TaskType) -> Criterion:
    """The loss against a teacher's answers.

    For classification the Kullback-Leibler divergence of softened distributions, times the squared temperature so that
    its gradients keep their size (Hinton, Vinyals, Dean 2015, arXiv:1503.02531); for regression the mean squared error.
    """
    if task == "regression":
        return functional.mse_loss

    def divergence(logits: Tensor, teacher: Tensor) -> Tensor:
        softened = functional.softmax(teacher.clamp_min(1e-8).log() / TEMPERATURE, dim=1)
        student = functional.log_softmax(logits / TEMPERATURE, dim=1)
        return functional.kl_div(student, softened, reduction="batchmean") * TEMPERATURE**2

    return divergence


def fit_teacher(
    task: TaskType, x: np.ndarray, y: np.ndarray, output_dim: int, seed: int, seconds: float | None = None
) -> np.ndarray:
    """Fit the teacher, a random forest, and return its answers to the rows that it was fitted on.

    Args:
        task: which forest.
        x: `(n_rows, input_dim)` float64, scaled.
        y: `(n_rows,)` class indices, or scaled values.
        output_dim: classes, or 1.
        seed: of the forest.
        seconds: no tree is begun later than that; fewer trees then teach.

    Returns:
        `(n_rows, output_dim)` float32: probabilities, or scaled values.
    """
    kind = RandomForestRegressor if task == "regression" else RandomForestClassifier
    forest = kind(max_depth=TEACHER_DEPTH[task], random_state=seed, n_jobs=1, warm_start=True)
    began = time.perf_counter()
    # Tree by tree gives the same forest as all at once.
    for trees in range(1, TEACHER_TREES + 1) if seconds is not None else (TEACHER_TREES,):
        forest.set_params(n_estimators=trees).fit(x, y)
        if seconds is not None and time.perf_counter() - began >= seconds:
            break
    if isinstance(forest, RandomForestRegressor):
        return forest.predict(x).astype(np.float32)[:, None]
    answers = np.zeros((len(x), output_dim), dtype=np.float32)
    # A class that isn't among these rows has no column in the forest's answers.
    answers[:, forest.classes_.astype(int)] = forest.predict_proba(x)
    return answers


def distilled(hard: Criterion, soft: Criterion) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Half hard, half soft, over the outputs of one forward pass."""

    def loss(outputs: Tensor, y: Tensor, teacher: Tensor) -> Tensor:
        return (1 - TEACHER_SHARE) * hard(outputs, y) + TEACHER_SHARE * soft(outputs, teacher)

    return loss


def mean_loss(criterion: Criterion, raw: np.ndarray, y: Tensor) -> float:
    """The loss over rows that a `Scorer` answered: `(n_rows, output_dim)` float32 in, a float out."""
    return float(
        criterion(torch.from_numpy(raw).to(torch.float64), y.to(torch.float64) if y.is_floating_point() else y)
    )
