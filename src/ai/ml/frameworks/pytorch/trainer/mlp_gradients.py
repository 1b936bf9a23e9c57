"""The gradients of an `MLP` on the CPU, written out.

Autograd's graph costs more than the products where batches are small. These are the kernels that it would call, in its
order and on the same numbers, so that every bit is as it would be; a test compares whole trainings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ai.ml.frameworks.pytorch.models.dropout import Dropout, Masks
from ai.ml.frameworks.pytorch.models.networks import MLP
from ai.ml.frameworks.pytorch.trainer.losses import Differentiated

_aten: Any = torch.ops.aten
_batch_norm_backward = _aten.native_batch_norm_backward.default
_relu_backward = _aten.threshold_backward.default


def dense_gradients_of(model: nn.Module, loss: Callable[..., Tensor]) -> DenseGradients | None:
    """Gradients for the supported networks; None for any other."""
    on_cpu = all(weight.device.type == "cpu" for weight in model.parameters())
    return DenseGradients(model, loss) if isinstance(model, MLP) and on_cpu else None


class DenseGradients:
    """Fills the `grad` of an `MLP`'s weights."""

    def __init__(self, model: MLP, loss: Callable[..., Tensor]):
        """Keep references to the weights, which training changes in place.

        Args:
            model: in training mode, float32, on the CPU.
            loss: of `(batch, output_dim)` outputs and one or more answers.
        """
        self._steps = [_step(layer, first=number == 0) for number, layer in enumerate(model.net)]
        self._back = self._steps[::-1]
        self._differentiated = loss.with_gradient if isinstance(loss, Differentiated) else _by_autograd(loss)

    @torch.no_grad()
    def update(self, x: Tensor, answers: list[Tensor]) -> Tensor:
        """One forward and one backward pass.

        Args:
            x: `(batch, input_dim)` float32.
            answers: a row for each of `x`.

        Returns:
            The loss, without a graph; the gradients are at the weights.
        """
        outputs = x
        for step in self._steps:
            outputs = step.forward(outputs)
        loss, gradient = self._differentiated(outputs, *answers)
        for step in self._back:
            gradient = step.backward(gradient)
        return loss


def _by_autograd(loss: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    @torch.enable_grad()
    def differentiated(outputs: Tensor, *answers: Tensor) -> tuple[Tensor, Tensor]:
        value = loss(outputs.requires_grad_(), *answers)
        return value.detach(), torch.autograd.grad(value, outputs)[0]

    return differentiated


class _Step(Protocol):
    """A layer's forward and backward pass on `(batch, width)`, with what the backward pass needs."""

    def forward(self, x: Tensor) -> Tensor: ...

    def backward(self, gradient: Tensor) -> Tensor: ...


class _Linear:
    def __init__(self, layer: nn.Linear, first: bool):
        self._weight, self._bias = layer.weight.detach(), layer.bias.detach()
        self._transposed = self._weight.t()
        self._weight_gradient, self._bias_gradient = _gradient_of(layer.weight), _gradient_of(layer.bias)
        self._first = first

    def forward(self, x: Tensor) -> Tensor:
        self._x = x
        return torch.addmm(self._bias, x, self._transposed)

    def backward(self, gradient: Tensor) -> Tensor:
        torch.sum(gradient, 0, out=self._bias_gradient)
        torch.mm(gradient.t(), self._x, out=self._weight_gradient)
        # Nobody asks for the gradient of the features.
        return gradient if self._first else torch.mm(gradient, self._weight)


class _BatchNorm:
    def __init__(self, layer: nn.BatchNorm1d):
        self._weight, self._bias = layer.weight.detach(), layer.bias.detach()
        self._mean, self._variance = layer.running_mean, layer.running_var
        self._batches: Any = layer.num_batches_tracked
        self._momentum: Any = layer.momentum
        self._eps = layer.eps
        self._parameters = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        self._batches.add_(1)
        running = (self._mean, self._variance, True, self._momentum, self._eps)
        y, self._batch_mean, self._batch_scale = torch.native_batch_norm(x, self._weight, self._bias, *running)
        self._x = x
        return y

    def backward(self, gradient: Tensor) -> Tensor:
        known = (self._mean, self._variance, self._batch_mean, self._batch_scale, True, self._eps)
        into, weight, bias = _batch_norm_backward(gradient, self._x, self._weight, *known, [True, True, True])
        self._parameters[0].grad, self._parameters[1].grad = weight, bias
        return into


class _Relu:
    def forward(self, x: Tensor) -> Tensor:
        self._y = torch.relu_(x)
        return self._y

    def backward(self, gradient: Tensor) -> Tensor:
        return _relu_backward(gradient, self._y, 0)


class _Dropout:
    def __init__(self, layer: Dropout):
        self._p = layer.p
        self._masks: Masks | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._masks is None or self._masks.shape != x.shape:
            self._masks = Masks(x, self._p)
        self._mask = self._masks.draw()
        return x * self._mask

    def backward(self, gradient: Tensor) -> Tensor:
        return gradient.mul_(self._mask)


def _step(layer: nn.Module, first: bool) -> _Step:
    match layer:
        case nn.Linear():
            return _Linear(layer, first)
        case nn.BatchNorm1d():
            return _BatchNorm(layer)
        case nn.ReLU():
            return _Relu()
        case Dropout():
            return _Dropout(layer)
        case _:
            raise TypeError(f"no gradient is written for {type(layer).__name__}")


def _gradient_of(weight: Tensor) -> Tensor:
    weight.grad = torch.zeros_like(weight, requires_grad=False)
    return weight.grad
