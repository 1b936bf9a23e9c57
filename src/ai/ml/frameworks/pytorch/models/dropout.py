"""Dropout with a cheap mask on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """`nn.Dropout`, but on a CPU one 64-bit draw decides on four values, the probability kept to the nearest 65,536th.

    torch draws a number for each value there, a fifth of a small network's training. The expectation stays exact: what
    is kept is divided by the share that really is. The name is torch's, since a bundle's evidence knows layers by name.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape to the same shape."""
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        return input * Masks(input, self.p).draw()


class Masks:
    """Dropout masks of one shape for training on the CPU: 0, or the factor that keeps the mean."""

    def __init__(self, like: Tensor, p: float):
        """Allocate the memory that every draw fills again.

        Args:
            like: shape and dtype of a mask.
            p: probability of a 0.
        """
        dropped = min(round(p * _LEVELS), _LEVELS - 1)
        self.shape = like.shape
        self._draws = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
        self._levels = self._draws.view(torch.int16)[: like.numel()].view(like.shape)
        self._kept = torch.empty_like(like, requires_grad=False)
        self._least, self._scale = dropped - _LEVELS // 2, _LEVELS / (_LEVELS - dropped)

    def draw(self) -> Tensor:
        """A mask, good until the next one."""
        self._draws.random_(-(1 << 63), None)
        # Written as numbers at once: a mask of truth values costs seven times as much to turn into them.
        return torch.ge(self._levels, self._least, out=self._kept).mul_(self._scale)
