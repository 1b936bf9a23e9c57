"""The one scoring path: training's evaluation, the gate, batch scoring and the console all go through `Scorer`.

A row's answer must not depend on the batch it arrives in, on the number of threads, or (in `exact`) on the CPU. So
preprocessing is float64, the forward pass runs over tiles of a fixed number of rows (the last one padded with zeros),
and `exact` runs it in float64 and rounds once to float32. That last step isn't a proof: a value within about 1e-15 of
the midpoint between two float32 can still fall to the other side; `rounding_margin` says how near the nearest is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from ai.ml.core.contract import Conformer, ContractCounts
from ai.ml.core.errors import BundleRefused, UsageError
from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.column_plan import ColumnPlan
from ai.ml.frameworks.pytorch.features import (
    ColumnCells,
    apply_features,
    encode_rows,
    encode_table,
    fill_matrix,
    raw_cells,
    typed_cells,
)

DEFAULT_TILE_ROWS = 1_024
Precision = Literal["exact", "fast"]
PLACES_TRIED = (1, 7, 66, 515)
"""By how many rows a tile is rolled to see whether bits depend on a row's place in it."""


@dataclass(frozen=True)
class ScoringSettings:
    """What decides the bits of an answer beside the bundle itself; stored in the manifest."""

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
        """As the manifest holds it."""
        return {"precision": self.precision, "tile_rows": self.tile_rows}

    @classmethod
    def from_manifest(cls, record: Mapping[str, Any]) -> ScoringSettings:
        """The way back; raises `BundleRefused` on anything else."""
        try:
            return cls(str(record["precision"]), int(record["tile_rows"]))  # pyright: ignore[reportArgumentType]
        except (KeyError, TypeError, ValueError) as error:
            raise BundleRefused(f"manifest.json: scoring settings {dict(record)!r} can't be used: {error}") from None


@dataclass(frozen=True)
class Answers:
    """What a model says of some rows."""

    raw: np.ndarray
    """`(n_rows, output_dim)` float32, the network's output."""
    decoded: np.ndarray
    """`(n_rows,)`: labels (the label encoder's own dtype; indices without one), or float64 values in the target's
    units."""


class Scorer:
    """Scores tables and rows with a bundle, which it never changes."""

    def __init__(
        self,
        bundle: ModelBundle,
        settings: ScoringSettings | None = None,
        device: torch.device | str | None = None,
    ):
        """Check the bundle's parts against each other and copy its model.

        Args:
            bundle: may be in train mode or on another device; it stays as it is.
            settings: precision and tile size.
            device: where to run the forward pass; the device of the bundle's model if None.

        Raises:
            BundleRefused: the parts of the bundle don't fit together.
        """
        self.bundle = bundle
        self.settings = settings or ScoringSettings()
        width = len(bundle.vectorizer.feature_names_)
        if width != bundle.input_dim:
            raise BundleRefused(f"vectorizer: gives {width} features, the model reads {bundle.input_dim}")
        self.device = torch.device(device) if device is not None else _device_of(bundle.model)
        self.counts: ContractCounts | None = None
        self._conformer = None if bundle.contract is None else Conformer(bundle.contract)
        self._dtype = torch.float64 if self.settings.precision == "exact" else torch.float32
        self._model = self._copy_of(bundle.model)
        if self._dtype == torch.float32 and self._depends_on_place():
            self._dtype = torch.float64
            self._model = self._copy_of(bundle.model)

    def _copy_of(self, model: nn.Module) -> nn.Module:
        twin = copy.deepcopy(model).to(device=self.device, dtype=self._dtype).eval()
        return twin.requires_grad_(False)

    def _depends_on_place(self) -> bool:
        """Whether this CPU's float32 kernels give a row other bits in another place of the tile.

        Seen with AVX-512 for a single layer with few outputs; then `fast` computes as `exact` does.
        """
        rows, generator = self.settings.tile_rows, torch.Generator().manual_seed(0)
        tile = torch.randn((rows, self.bundle.input_dim), generator=generator).to(self.device)
        with torch.inference_mode(), full_precision():
            expected = self._model(tile)
            return any(
                not torch.equal(self._model(tile.roll(places, 0)), expected.roll(places, 0)) for places in PLACES_TRIED
            )

    def score_table(self, table: pa.Table | pa.RecordBatch) -> Answers:
        """Answers for the rows of an Arrow table, in order.

        Raises:
            DataRefused: the table doesn't meet the bundle's contract.
        """
        columns = self._columns(table)
        plan = ColumnPlan(self.bundle.vectorizer, self.bundle.feature_medians, self.bundle.scaler)
        if not plan.take(columns):
            return self.score_matrix(fill_matrix(self.bundle.vectorizer, columns, table.num_rows))
        raw = self._forward_plan(plan, table.num_rows)
        return Answers(raw, self.decode(raw))

    def score_rows(self, rows: Sequence[Mapping[str, Any]]) -> Answers:
        """Answers for rows as dicts, in order; the rows are left as they are."""
        return self.score_matrix(self.rows_matrix(rows))

    def score_matrix(self, matrix: np.ndarray) -> Answers:
        """Answers for vectorized rows `(n_rows, input_dim)` float64."""
        raw = self.forward(self.scaled(matrix))
        return Answers(raw, self.decode(raw))

    def matrix(self, table: pa.Table | pa.RecordBatch) -> np.ndarray:
        """Vectorized rows: `(n_rows, input_dim)` float64, NaN where a number is missing."""
        return fill_matrix(self.bundle.vectorizer, self._columns(table), table.num_rows)

    def _columns(self, table: pa.Table | pa.RecordBatch) -> list[ColumnCells]:
        if self._conformer is None:
            return [raw_cells(name, table.column(name)) for name in table.schema.names]
        conformed = self._conformer.table(table)
        self._count(conformed.counts)
        return [typed_cells(name, conformed.table.column(name)) for name in conformed.table.column_names]

    def rows_matrix(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """The same for rows as dicts."""
        if self._conformer is None:
            return encode_rows(self.bundle.vectorizer, rows)
        conformed = self._conformer.rows(rows)
        self._count(conformed.counts)
        return encode_table(self.bundle.vectorizer, conformed.table)

    def scaled(self, matrix: np.ndarray) -> np.ndarray:
        """Imputed and scaled rows: `(n_rows, input_dim)` float64."""
        return apply_features(self.bundle.vectorizer, self.bundle.feature_medians, self.bundle.scaler, matrix)

    def forward(self, scaled: np.ndarray) -> np.ndarray:
        """The network's output `(n_rows, output_dim)` float32 for scaled rows `(n_rows, input_dim)` float64."""
        return self.forward_unrounded(scaled).astype(np.float32, copy=False)

    def forward_unrounded(self, scaled: np.ndarray) -> np.ndarray:
        """The same before the last rounding: float64 in `exact`, float32 in `fast` as a rule."""
        source = torch.from_numpy(np.ascontiguousarray(scaled))
        return self._forward_tiles(len(scaled), lambda start, stop: source[start:stop])

    def _forward_plan(self, plan: ColumnPlan, rows: int) -> np.ndarray:
        """The network's output for the rows of a plan, which are made a tile at a time."""
        block = plan.start(self.settings.tile_rows)
        source = torch.from_numpy(block).T

        def fill(start: int, stop: int) -> Tensor:
            plan.fill(block, start, stop)
            return source[: stop - start]

        return self._forward_tiles(rows, fill).astype(np.float32, copy=False)

    def _forward_tiles(self, rows: int, rows_between: Callable[[int, int], Tensor]) -> np.ndarray:
        """Run the network over tiles of scaled rows `(n, input_dim)` float64."""
        tile_rows = self.settings.tile_rows
        output = torch.empty((rows, self.bundle.output_dim), dtype=self._dtype)
        on_cuda = self.device.type == "cuda"
        tile = torch.zeros((tile_rows, self.bundle.input_dim), dtype=self._dtype, pin_memory=on_cuda)
        with torch.inference_mode(), np.errstate(over="ignore"), full_precision():
            for start in range(0, rows, tile_rows):
                stop = min(start + tile_rows, rows)
                tile[: stop - start].copy_(rows_between(start, stop))
                tile[stop - start :] = 0
                answer = self._model(tile.to(self.device))
                if answer.shape != (tile_rows, self.bundle.output_dim):
                    raise BundleRefused(
                        f"model: gives shape {tuple(answer.shape)} for {tile_rows} rows, "
                        f"expected {(tile_rows, self.bundle.output_dim)}"
                    )
                output[start:stop].copy_(answer[: stop - start])
        return output.numpy()

    def decode(self, raw: np.ndarray) -> np.ndarray:
        """Labels or values `(n_rows,)` for raw outputs `(n_rows, output_dim)`."""
        if self.bundle.task == "classification":
            # argmax takes the first NaN as the largest, so that a row of NaN still has one defined answer.
            indices = raw.argmax(axis=1) if len(raw) else np.zeros(0, dtype=np.int64)
            encoder = self.bundle.label_encoder
            return indices if encoder is None else np.asarray(encoder.classes_)[indices]
        values = raw[:, :1].astype(np.float64)
        scaler = self.bundle.target_scaler
        if scaler is not None:
            values = scaler.inverse_transform(values) if len(values) else values
        return np.asarray(values)[:, 0]

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        """Softmax of raw outputs: `(n_rows, n_classes)` float64."""
        logits = raw.astype(np.float64)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True)) if len(logits) else logits
        return weights / weights.sum(axis=1, keepdims=True)

    def _count(self, counts: ContractCounts) -> None:
        self.counts = counts if self.counts is None else self.counts.merge(counts)


def predict_rows(
    bundle: ModelBundle, rows: Sequence[Mapping[str, Any]], device: torch.device | str | None = None
) -> list[Any]:
    """Labels or values for rows as dicts, as plain Python scalars; `[]` for no rows.

    Cells are coerced as `ai.ml.core.cells` says, or cast to the bundle's contract where it has one.
    """
    if not rows:
        return []
    return Scorer(bundle, device=device).score_rows(rows).decoded.tolist()


def stage_outputs(scorer: Scorer, table: pa.Table) -> dict[str, np.ndarray]:
    """What each stage gives for a table, so that two environments can be compared stage by stage."""
    matrix = scorer.matrix(table)
    scaled = scorer.scaled(matrix)
    return {"vectorizer": matrix, "scaler": scaled, "network": scorer.forward(scaled)}


def rounding_margin(scorer: Scorer, table: pa.Table) -> float:
    """How near the nearest output stands to a midpoint between two float32, in units of float32 ulp; inf without rows.

    Only `exact` rounds; in `fast` the margin is inf.
    """
    values = scorer.forward_unrounded(scorer.scaled(scorer.matrix(table)))
    if values.dtype != np.float64:
        return float("inf")
    values = values[np.isfinite(values)]
    rounded = values.astype(np.float32)
    ulp = np.spacing(np.abs(rounded)).astype(np.float64)
    offset = np.abs(values - rounded.astype(np.float64)) / ulp
    return float(np.min(np.abs(offset - 0.5), initial=np.inf))


class full_precision:  # noqa: N801 - used like a function
    """No TF32 within: on CUDA it would drop thirteen bits of every product."""

    def __enter__(self) -> None:
        self._before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32 = self._before


def _device_of(model: nn.Module) -> torch.device:
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device
