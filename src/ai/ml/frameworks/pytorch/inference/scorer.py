"""The one scoring path: training's evaluation, the gate, batch scoring and the console all go through `Scorer`.

A row's answer must not depend on the batch it arrives in, on the number of threads, or (in `exact`) on the CPU. So
preprocessing is float64, the forward pass runs over tiles of a fixed number of rows (the last one padded with zeros),
and `exact` runs it in float64 and rounds once to float32. That last step isn't a proof: a value within about 1e-15 of
the midpoint between two float32 can still fall to the other side; `rounding_margin` says how near the nearest is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from ai.ml.core.contract import Conformer, ContractCounts
from ai.ml.core.errors import BundleRefused, UsageError
from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.features.cells import ColumnCells, known_columns, raw_columns, row_columns, typed_cells
from ai.ml.frameworks.pytorch.features.matrix import apply_features, encode_table, fill_matrix
from ai.ml.frameworks.pytorch.features.plan import ColumnPlan
from ai.ml.frameworks.pytorch.inference.tiling import DEFAULT_TILE_ROWS, Precision, ScoringSettings, TiledNetwork
from ai.ml.frameworks.pytorch.models.networks import model_temperature

__all__ = [
    "DEFAULT_TILE_ROWS",
    "Answers",
    "Precision",
    "Scorer",
    "ScoringSettings",
    "predict_rows",
    "rounding_margin",
    "stage_outputs",
]


@dataclass(frozen=True)
class Answers:
    """A model's answers to some rows."""

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
        """Check that the bundle's parts fit together, and copy its model.

        Args:
            bundle: may be in train mode or on another device; it stays as it is.
            settings: precision and tile size.
            device: where to run the forward pass: the device of the bundle's model if None, `auto` for CUDA where
                there is one.

        Raises:
            BundleRefused: the parts of the bundle don't fit together.
            UsageError: there is no such device here.
        """
        check_parts(bundle)
        self.bundle = bundle
        self.settings = settings or ScoringSettings()
        self.device = _choose_device(device, bundle.model)
        self.counts: ContractCounts | None = None
        self._conformer = None if bundle.contract is None else Conformer(bundle.contract)
        self._known = known_columns(bundle.vectorizer)
        shape = (bundle.input_dim, bundle.output_dim)
        self._network = TiledNetwork(bundle.model, shape, self.settings, self.device)

    def score_table(self, table: pa.Table | pa.RecordBatch) -> Answers:
        """Answers for the rows of an Arrow table, in order.

        Raises:
            DataRefused: the table doesn't meet the bundle's contract.
        """
        columns = self._columns(table)
        bundle = self.bundle
        plan = ColumnPlan(bundle.vectorizer, bundle.feature_medians, bundle.scaler)
        if not plan.take(columns):
            return self.score_matrix(fill_matrix(bundle.vectorizer, columns, table.num_rows))
        fill = plan.filler(table.num_rows, self.settings.tile_rows, self._network.dtype)
        raw = _rounded(self._network.run(table.num_rows, fill))
        return Answers(raw, self.decode(raw))

    def score_rows(self, rows: Sequence[Mapping[str, Any]]) -> Answers:
        """Answers for rows as dicts, in order; the rows aren't changed."""
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
            return raw_columns(table, self._known)
        conformed = self._conformer.table(table)
        self._count(conformed.counts)
        return [typed_cells(name, conformed.table.column(name)) for name in conformed.table.column_names]

    def rows_matrix(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """The network's input for rows as dicts, `(n_rows, input_dim)` float64, as for a table."""
        if self._conformer is None:
            return fill_matrix(self.bundle.vectorizer, row_columns(rows, self._known), len(rows))
        conformed = self._conformer.rows(rows)
        self._count(conformed.counts)
        return encode_table(self.bundle.vectorizer, conformed.table)

    def scaled(self, matrix: np.ndarray) -> np.ndarray:
        """Imputed and scaled rows: `(n_rows, input_dim)` float64."""
        return apply_features(self.bundle.vectorizer, self.bundle.feature_medians, self.bundle.scaler, matrix)

    def forward(self, scaled: np.ndarray) -> np.ndarray:
        """The network's output `(n_rows, output_dim)` float32 for scaled rows `(n_rows, input_dim)` float64."""
        return _rounded(self.forward_unrounded(scaled))

    def forward_unrounded(self, scaled: np.ndarray) -> np.ndarray:
        """The same before the last rounding: float64 in `exact`, float32 in `fast` as a rule."""

        def fill(tile: np.ndarray, start: int, stop: int) -> None:
            np.copyto(tile[: stop - start], scaled[start:stop], casting="same_kind")

        return self._network.run(len(scaled), fill)

    def decode(self, raw: np.ndarray) -> np.ndarray:
        """Labels or values `(n_rows,)` for raw outputs `(n_rows, output_dim)`."""
        if self.bundle.task == "classification":
            # argmax takes the first NaN as the largest, so that a row of NaN still has one defined answer.
            indices = raw.argmax(axis=1) if len(raw) else np.zeros(0, dtype=np.int64)
            encoder = self.bundle.label_encoder
            return indices if encoder is None else np.asarray(encoder.classes_)[indices]
        values = raw[:, 0].astype(np.float64)
        scaler = self.bundle.target_scaler
        if scaler is None:
            return values
        # As `inverse_transform` does it, which refuses infinite values: those of an overflow have an answer too.
        with np.errstate(over="ignore"):
            if scaler.with_std:
                values *= cast(np.ndarray, scaler.scale_)[0]
            if scaler.with_mean:
                values += cast(np.ndarray, scaler.mean_)[0]
        return values

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        """Softmax of raw outputs: `(n_rows, n_classes)` float64; NaN where an output is NaN or infinite.

        The outputs are divided by the model's temperature first, which changes no label.
        """
        logits = raw.astype(np.float64) / model_temperature(self.bundle.model)
        if not len(logits):
            return logits
        with np.errstate(invalid="ignore"):
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def _count(self, counts: ContractCounts) -> None:
        self.counts = counts if self.counts is None else self.counts.merge(counts)


def predict_rows(
    bundle: ModelBundle, rows: Sequence[Mapping[str, Any]], device: torch.device | str | None = None
) -> list[Any]:
    """Labels or values for rows as dicts, as plain Python scalars; `[]` for no rows.

    Cells are coerced as `ai.ml.core.tables.cells` says, or cast to the bundle's contract where it has one.
    """
    if not rows:
        return []
    return Scorer(bundle, device=device).score_rows(rows).decoded.tolist()


def stage_outputs(scorer: Scorer, table: pa.Table) -> dict[str, np.ndarray]:
    """The output of each stage for a table, so that environments can be compared stage by stage."""
    matrix = scorer.matrix(table)
    scaled = scorer.scaled(matrix)
    return {"vectorizer": matrix, "scaler": scaled, "network": scorer.forward(scaled)}


def rounding_margin(scorer: Scorer, table: pa.Table) -> float:
    """The distance of the nearest output to a midpoint between two float32, in units of float32 ulp; inf without rows.

    Only `exact` rounds; in `fast` the margin is inf.
    """
    values = scorer.forward_unrounded(scorer.scaled(scorer.matrix(table)))
    if values.dtype != np.float64:
        return float("inf")
    rounded = _rounded(values)
    # Beyond float32's range there is no midpoint to be near to.
    values, rounded = values[np.isfinite(rounded)], rounded[np.isfinite(rounded)]
    with np.errstate(over="ignore"):
        other = np.nextafter(rounded, np.where(values < rounded, -np.inf, np.inf).astype(np.float32))
    near, far = rounded.astype(np.float64), other.astype(np.float64)
    distance = np.abs(values - (near + far) / 2) / np.abs(far - near)
    return float(np.min(distance[np.isfinite(distance)], initial=np.inf))


def _rounded(values: np.ndarray) -> np.ndarray:
    """The one rounding to float32; what is too large becomes infinite, as it does in a float32 network."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def check_parts(bundle: ModelBundle) -> None:
    """Check that the widths of a bundle's parts agree.

    Raises:
        BundleRefused: names the part, its width and the one that was expected.
    """
    width = len(bundle.vectorizer.feature_names_)
    if width != bundle.input_dim:
        raise BundleRefused(f"vectorizer: gives {width} features, the model reads {bundle.input_dim}")
    for name in ("mean_", "scale_"):
        values = getattr(bundle.scaler, name, None)
        if values is not None and np.shape(values) != (width,):
            raise BundleRefused(f"scaler: {name} has shape {np.shape(values)}, the vectorizer gives {width} features")
    if bundle.label_encoder is not None and bundle.task == "classification":
        classes = len(np.asarray(bundle.label_encoder.classes_))
        if classes != bundle.output_dim:
            raise BundleRefused(f"label encoder: knows {classes} classes, the model gives {bundle.output_dim}")


def _choose_device(device: torch.device | str | None, model: nn.Module) -> torch.device:
    if device is None:
        first = next(model.parameters(), None)
        return torch.device("cpu") if first is None else first.device
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {str(device)!r}: this machine has no CUDA device; use auto or cpu")
    return chosen
