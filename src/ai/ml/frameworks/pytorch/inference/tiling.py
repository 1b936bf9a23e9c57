"""A forward pass over tiles of a fixed number of rows, so that a row's bits don't depend on the batch it arrives in.

In plain float32 a row scored alone gets other bits than in a batch, since matrix products are summed in another order
for another shape. Here every pass has the same shape, the last tile being padded with zeros.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ai.ml.core.errors import BundleRefused, UsageError
from ai.ml.frameworks.pytorch.inference.precision import full_precision

DEFAULT_TILE_ROWS = 1_024
Precision = Literal["exact", "fast"]
SHIFTS_TRIED = (1, 7, 66, 515)
"""Shifts of a tile's rows, to test whether bits depend on a row's position in the tile."""


@dataclass(frozen=True)
class ScoringSettings:
    """The settings that decide an answer's bits beside the bundle; stored in the manifest."""

    precision: Precision = "exact"
    """`exact`: float64 forward, rounded once to float32; `fast`: float32."""
    tile_rows: int = DEFAULT_TILE_ROWS
    """Rows of every forward pass."""

    def __post_init__(self) -> None:
        if self.precision not in ("exact", "fast"):
            raise UsageError(f"precision must be exact or fast, got {self.precision!r}")
        if not 1 <= self.tile_rows <= 1 << 20:
            raise UsageError(f"tile_rows must be between 1 and {1 << 20:,}, got {self.tile_rows}")

    def to_manifest(self) -> dict[str, Any]:
        """The settings in the manifest's form."""
        return {"precision": self.precision, "tile_rows": self.tile_rows}

    @classmethod
    def from_manifest(cls, record: Mapping[str, Any]) -> ScoringSettings:
        """Parse the output of `to_manifest`; raises `BundleRefused` on anything else."""
        try:
            return cls(str(record["precision"]), int(record["tile_rows"]))  # pyright: ignore[reportArgumentType]
        except (KeyError, TypeError, ValueError) as error:
            raise BundleRefused(f"manifest.json: scoring settings {dict(record)!r} can't be used: {error}") from None


class TiledNetwork:
    """A copy of a model in `eval()`, run over tiles; the model itself isn't changed."""

    def __init__(self, model: nn.Module, shape: tuple[int, int], settings: ScoringSettings, device: torch.device):
        """Copy the model and see that it maps rows as it should.

        Args:
            model: maps `(n, input_dim)` to `(n, output_dim)`; may be in train mode or on another device.
            shape: `(input_dim, output_dim)`.
            settings: precision and tile size.
            device: where the copy runs.

        Raises:
            BundleRefused: the model doesn't read or give rows of that shape.
        """
        self.input_dim, self.output_dim = shape
        self.tile_rows, self.device = settings.tile_rows, device
        self._copy(model, torch.float64 if settings.precision == "exact" else torch.float32)
        self._check_shape()
        if self._dtype == torch.float32 and self._depends_on_position():
            self._copy(model, torch.float64)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the network's computation: float64, or float32 in `fast`."""
        return np.dtype(np.float64 if self._dtype == torch.float64 else np.float32)

    def run(self, rows: int, fill: Callable[[np.ndarray, int, int], None]) -> np.ndarray:
        """Run the network over `rows` scaled rows.

        Args:
            rows: how many there are.
            fill: `fill(tile, start, stop)` puts rows `start` to `stop` into the first rows of a tile
                `(tile_rows, input_dim)` of `dtype`. What overflows float32 becomes infinite.

        Returns:
            `(rows, output_dim)` of `dtype`.
        """
        output = torch.empty((rows, self.output_dim), dtype=self._dtype, device="cpu")
        # Pinned memory is read by the GPU itself, without a detour through a staging copy.
        pinned = self.device.type == "cuda"
        tile = torch.zeros((self.tile_rows, self.input_dim), dtype=self._dtype, device="cpu", pin_memory=pinned)
        cells = tile.numpy()
        with torch.inference_mode(), np.errstate(over="ignore"), full_precision(self.device):
            for start in range(0, rows, self.tile_rows):
                stop = min(start + self.tile_rows, rows)
                fill(cells, start, stop)
                cells[stop - start :] = 0
                output[start:stop].copy_(self._model(tile.to(self.device))[: stop - start])
        return output.numpy()

    def _copy(self, model: nn.Module, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._model = copy.deepcopy(model).to(device=self.device, dtype=dtype).eval().requires_grad_(False)

    def _check_shape(self) -> None:
        row = torch.zeros((1, self.input_dim), dtype=self._dtype, device=self.device)
        try:
            with torch.inference_mode(), full_precision(self.device):
                shape = tuple(self._model(row).shape)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise BundleRefused(f"model: can't read a row of {self.input_dim} features: {error}") from error
        if shape != (1, self.output_dim):
            raise BundleRefused(f"model: gives shape {shape} for one row, expected {(1, self.output_dim)}")

    def _depends_on_position(self) -> bool:
        """Whether the float32 kernels here give a row other bits at another position of the tile.

        Seen with AVX-512 for a single layer with few outputs; then `fast` computes as `exact` does.
        """
        generator = torch.Generator("cpu").manual_seed(0)
        tile = torch.randn((self.tile_rows, self.input_dim), generator=generator, dtype=self._dtype, device="cpu").to(
            self.device
        )
        with torch.inference_mode(), full_precision(self.device):
            expected = self._model(tile)
            return any(
                not torch.equal(self._model(tile.roll(shift, 0)), expected.roll(shift, 0)) for shift in SHIFTS_TRIED
            )
