"""The loss of each mode, the forest that teaches, and what early stopping watches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ai.ml.core.types import TaskType
from ai.ml.frameworks.pytorch.models.networks import (
    compute_class_weights,
)
from ai.ml.frameworks.pytorch.trainer.losses import (
    LABEL_SMOOTHING,
    early_stopping_loss,
    fit_teacher,
    hard_loss,
    soft_loss,
)


def test_class_weights_make_every_class_count_the_same() -> None:
    y = torch.tensor([0, 0, 0, 1])
    assert compute_class_weights(y, 3, "cpu").tolist() == pytest.approx([4 / 9, 4 / 3, 4 / 3])


def test_losses_are_the_ones_of_their_modes() -> None:
    logits, y = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 0, 0, 1])
    log_p = torch.log_softmax(logits, 1)
    plain = -log_p[torch.arange(6), y]
    assert float(hard_loss("mlp_dense", "classification", y, 2)(logits, y)) == pytest.approx(float(plain.mean()))
    w = compute_class_weights(y, 2, "cpu")[y]
    weighted = float((w * plain).sum() / w.sum())
    assert float(hard_loss("imbalance_aware", "classification", y, 2)(logits, y)) == pytest.approx(weighted)
    smooth = (1 - LABEL_SMOOTHING) * plain - LABEL_SMOOTHING * log_p.mean(1)
    calibrated = hard_loss("calibrated_classifier", "classification", y, 2)(logits, y)
    assert float(calibrated) == pytest.approx(float(smooth.mean()))
    teacher = torch.softmax(torch.randn(6, 2, generator=torch.Generator().manual_seed(1)), 1)
    soft = torch.softmax(teacher.log() / 2, 1)
    kl = (soft * (soft.log() - torch.log_softmax(logits / 2, 1))).sum(1).mean() * 4
    assert float(soft_loss("classification")(logits, teacher)) == pytest.approx(float(kl), rel=1e-5)


def test_the_teacher_answers_for_classes_that_its_rows_lack() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    answers = fit_teacher("classification", x, np.array([0, 2] * 20), 3, seed=0)
    assert answers.shape == (40, 3)
    assert answers.dtype == np.float32
    assert (answers[:, 1] == 0).all()


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_teacher_in_a_hurry_grows_the_first_trees_of_the_same_forest(task: TaskType) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
    whole = fit_teacher(task, x, y, 2, seed=5)
    assert (fit_teacher(task, x, y, 2, seed=5, seconds=1e9) == whole).all()
    hurried = fit_teacher(task, x, y, 2, seed=5, seconds=0.0)
    assert hurried.shape == whole.shape
    # One tree: each answer is that of one leaf, whose rows of 60 are few.
    assert len(np.unique(hurried)) < len(np.unique(whole))


def test_no_single_validation_row_decides_when_training_stops() -> None:
    y = torch.zeros(100, 1)
    worse, better = torch.full((100, 1), 0.5), torch.full((100, 1), 0.3)
    worse[0], better[0] = 20.0, 21.0
    watched = early_stopping_loss("regression", torch.nn.functional.mse_loss)
    assert torch.nn.functional.mse_loss(worse, y) < torch.nn.functional.mse_loss(better, y)
    assert watched(better, y) < watched(worse, y)
    assert watched(better[1:], y[1:]).item() == pytest.approx(0.09)
    assert early_stopping_loss("classification", torch.nn.functional.cross_entropy) is torch.nn.functional.cross_entropy
