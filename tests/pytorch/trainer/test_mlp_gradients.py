"""Gradients and steps that are written out against autograd's and the optimiser's own: every bit of whole trainings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ai.ml.core.types import TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.models.networks import PIECEWISE_MODES, build_model
from ai.ml.frameworks.pytorch.trainer import loop as fitting
from ai.ml.frameworks.pytorch.trainer.loop import TrainingLoop, TrainingTensors
from ai.ml.frameworks.pytorch.trainer.losses import Differentiated, distilled, early_stopping_loss, hard_loss, soft_loss
from ai.ml.frameworks.pytorch.trainer.mlp_gradients import DenseGradients, dense_gradients_of
from ai.ml.frameworks.pytorch.trainer.tensor_codec import encode_tree

ROWS, COLUMNS = 203, 7
"""The last batch of 32 rows has 11."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products of this size only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(mode: str, task: TaskType, *, smoothing: float = 0.0, **settings: Any) -> dict[str, Any]:
    """State after three epochs."""
    torch.manual_seed(3)
    x, classes = torch.randn(ROWS, COLUMNS), 1 if task == "regression" else 3
    y = x[:, :1].exp() if task == "regression" else (x[:, 0] > 0).long() + (x[:, 1] > 1).long()
    hard = hard_loss(mode, task, y, classes, label_smoothing=smoothing)
    distills = mode == "tree_teacher_distillation"
    teacher = torch.rand(ROWS, classes).softmax(1) if distills else None
    config = TrainingConfig("y", training_mode=mode, epochs=3, batch_size=32, **settings)
    shape = {"n_num": 2, "n_bins": 4} if mode in PIECEWISE_MODES else {}
    model = build_model(COLUMNS, classes, mode, 16, config.num_hidden_layers, config.dropout, **shape)
    data = TrainingTensors(x, y, teacher, x[:50], y[:50])
    training = distilled(hard, soft_loss(task)) if distills else hard
    fit = TrainingLoop(model, data, (training, early_stopping_loss(task, hard)), config)
    while fit.stop_reason is None:
        fit.run_epoch()
    state = fit.state_dict()
    return {key: state[key] for key in ("model", "optimizer", "best_weights", "torch_rng", "best_loss", "average")} | {
        "losses": [(report.train_loss, report.validation_loss) for report in fit.state.history],
        "gradients": [weight.grad for weight in model.parameters()],
    }


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    ("mode", "task", "smoothing"),
    [
        ("mlp_dense", "classification", 0.0),
        ("mlp_dense", "classification", 0.1),
        ("mlp_dense", "regression", 0.0),
        ("imbalance_aware", "classification", 0.0),
        ("calibrated_classifier", "classification", 0.0),
        ("tree_teacher_distillation", "classification", 0.0),
        ("tree_teacher_distillation", "regression", 0.0),
        ("linear_glm_baseline", "classification", 0.0),
        ("tabresnet", "classification", 0.0),
        ("mlp_ple", "regression", 0.0),
        ("tabm", "classification", 0.0),
    ],
)
def test_a_training_has_the_bits_of_autograds(
    monkeypatch: pytest.MonkeyPatch, mode: str, task: TaskType, smoothing: float, dropout: float
) -> None:
    written = trained(mode, task, smoothing=smoothing, dropout=dropout)
    monkeypatch.setattr(fitting, "dense_gradients_of", lambda *_: None)
    monkeypatch.setattr(fitting, "quick_step", lambda optimizer: optimizer.step)
    assert encode_tree(written) == encode_tree(trained(mode, task, smoothing=smoothing, dropout=dropout))


@pytest.mark.parametrize("layers", [1, 3])
def test_any_depth_and_rows_that_are_no_numbers(layers: int) -> None:
    """One update on a batch with a NaN and an infinity."""
    x = torch.randn(6, COLUMNS)
    x[2, 3], x[4, 0] = float("nan"), float("inf")
    y = torch.tensor([0, 1, 1, 0, 1, 0])
    criterion = hard_loss("mlp_dense", "classification", y, 2)
    gradients: list[list[Tensor | None]] = []
    for by_hand in (True, False):
        torch.manual_seed(1)
        model = build_model(COLUMNS, 2, "mlp_dense", 16, layers, 0.2)
        if by_hand:
            dense = dense_gradients_of(model, criterion)
            assert dense is not None
            loss = dense.update(x, [y])
            assert not loss.requires_grad
        else:
            criterion(model(x), y).backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for written, known in zip(*gradients, strict=True):
        assert written is not None
        assert known is not None
        assert torch.allclose(written, known, rtol=0, atol=0, equal_nan=True)


def test_who_has_them() -> None:
    y = torch.tensor([0, 1])
    plain = hard_loss("imbalance_aware", "classification", y, 2)
    assert isinstance(dense_gradients_of(build_model(3, 2, "imbalance_aware", 8, 1, 0.1), plain), DenseGradients)
    for mode in ("linear_glm_baseline", "tabresnet", "mlp_ple"):
        shape = {"n_num": 2} if mode == "mlp_ple" else {}
        assert dense_gradients_of(build_model(3, 2, mode, 8, 1, 0.1, **shape), plain) is None
    assert dense_gradients_of(build_model(3, 2, "mlp_dense", 8, 1, 0.1).to("meta"), plain) is None
    assert isinstance(plain, Differentiated)
    assert isinstance(hard_loss("mlp_dense", "regression", y, 1), Differentiated)
    assert not isinstance(hard_loss("calibrated_classifier", "classification", y, 2), Differentiated)
