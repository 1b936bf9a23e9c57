"""The dropout of our networks: torch's, but for what the mask costs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ai.ml.frameworks.pytorch.models.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.002])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_it_drops_the_share_asked_for_and_keeps_the_expectation(p: float, device: str) -> None:
    torch.manual_seed(1)
    x = torch.full((1_000, 1_003), 2.0, device=device, requires_grad=True)
    y = Dropout(p)(x)
    dropped = y == 0
    assert float(dropped.float().mean()) == pytest.approx(p, rel=0.05)
    assert float(y.detach().mean()) == pytest.approx(2.0, rel=2e-3)
    # No column and no row is dropped more often than another.
    assert float(dropped.float().mean(0).std()) == pytest.approx((p * (1 - p) / 1_000) ** 0.5, rel=0.1)
    assert float(dropped.float().mean(1).std()) == pytest.approx((p * (1 - p) / 1_003) ** 0.5, rel=0.1)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad == 0, dropped)
    assert float(x.grad[~dropped].unique()[0]) == pytest.approx(1 / (1 - p), rel=1e-4)


def test_the_seed_decides_and_the_draws_differ() -> None:
    layer, x = Dropout(0.5), torch.ones(3, 5, 7)
    torch.manual_seed(4)
    first, second = layer(x), layer(x)
    torch.manual_seed(4)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(0, 4), (1,), (2, 3), (5, 1)])
def test_any_shape_and_nearly_everything_dropped(shape: tuple[int, ...]) -> None:
    y = Dropout(0.999999)(torch.ones(shape))
    assert y.shape == shape
    assert bool(torch.isfinite(y).all())


def test_without_training_or_probability_nothing_happens() -> None:
    x = torch.randn(4, 4)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert isinstance(Dropout(), nn.Dropout)
