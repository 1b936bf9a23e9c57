"""How a training is put together: its device, its precision, and one forward pass per batch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from builders import mixed_table
from bundles import config, weights

from ai.ml.frameworks.pytorch.models.networks import (
    MLP,
)
from ai.ml.frameworks.pytorch.trainer.mlp_gradients import DenseGradients
from ai.ml.frameworks.pytorch.trainer.setup import choose_device
from ai.ml.frameworks.pytorch.trainer.training import train


def test_distillation_does_one_forward_pass_per_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the layers that are written out or, elsewhere, through torch's."""
    calls: list[int] = []
    update, forward = DenseGradients.update, MLP.forward
    monkeypatch.setattr(
        DenseGradients, "update", lambda self, x, answers: (calls.append(len(x)), update(self, x, answers))[1]
    )
    monkeypatch.setattr(
        MLP, "forward", lambda self, x: (calls.append(len(x)) if self.training else None, forward(self, x))[1]
    )
    train(mixed_table(200), config(training_mode="tree_teacher_distillation", epochs=2, validation_size=0.0))
    assert calls == [64, 64, 32] * 2


def test_auto_takes_cuda_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("mode", ["mlp_dense", "mlp_ple", "tabm"])
def test_mixed_precision_learns_as_float32_does_with_other_bits(mode: str, device: str) -> None:
    table, settings = mixed_table(300, seed=5), config(training_mode=mode, epochs=15, device=device)
    plain = train(table, settings)
    mixed = train(table, dataclasses.replace(settings, mixed_precision=True))
    assert weights(mixed) != weights(plain)
    assert {tensor.dtype for tensor in mixed.bundle.model.parameters()} == {torch.float32}
    first, last = plain.history[0].train_loss, plain.history[-1].train_loss
    assert last < 0.95 * first
    assert mixed.history[-1].train_loss == pytest.approx(last, abs=0.1 * (first - last))
    assert weights(train(table, dataclasses.replace(settings, mixed_precision=True))) == weights(mixed)
