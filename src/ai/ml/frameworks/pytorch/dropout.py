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
        return input * self.mask(input)

    def mask(self, input: Tensor) -> Tensor:
        """What a training forward on the CPU multiplies with, of the shape of `input`: 0, or what keeps the mean."""
        dropped = min(round(self.p * _LEVELS), _LEVELS - 1)
        draws = torch.empty(-(-input.numel() // 4), dtype=torch.int64, device=input.device).random_(-(1 << 63), None)
        levels = draws.view(torch.int16)[: input.numel()].view(input.shape)
        # Written as numbers at once: a mask of truth values costs seven times as much to turn into them.
        kept = torch.ge(levels, dropped - _LEVELS // 2, out=torch.empty_like(input, requires_grad=False))
        return kept.mul_(_LEVELS / (_LEVELS - dropped))
