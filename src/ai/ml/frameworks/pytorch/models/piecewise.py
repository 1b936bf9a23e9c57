"""The architectures that read numbers piecewise: `mlp_ple` and `tabm`.

Both take the scaled row, clip it smoothly (a rare category's column is scaled to dozens of standard deviations), and
add to it a learned piecewise-linear embedding of each column that holds a number (Gorishniy, Rubachev, Babenko 2022,
arXiv:2203.05556). Which columns those are and where their bins begin stands in buffers, so a state_dict has all of it.
`tabm` trains `k` networks that share most of their weights (Gorishniy, Kotelnikov, Babenko 2025, arXiv:2410.24210).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from rtdl_num_embeddings import compute_bins
from tabm import LinearBatchEnsemble, LinearEnsemble, MLPBackbone, MLPBackboneBatchEnsemble
from torch import Tensor, nn

from ai.ml.frameworks.pytorch.models.dropout import Dropout

CLIP = 3.0
"""The limit of a scaled value, in standard deviations."""
_ENORMOUS = 1e15
"""Its square is still a float32."""
DEFAULT_BINS = 16
DEFAULT_EMBEDDING_DIM = 8
DEFAULT_MEMBERS = 8
_MAX_ROWS_FOR_BINS = 1 << 18
"""Quantiles of more rows cost time without a benefit; `torch.quantile` refuses 2**24."""


@dataclass(frozen=True)
class PiecewiseShape:
    """The architecture's parameters beside width, depth and dropout."""

    n_num: int = 0
    """Columns with an embedding."""
    n_bins: int = DEFAULT_BINS
    d_emb: int = DEFAULT_EMBEDDING_DIM
    k: int = DEFAULT_MEMBERS
    """Networks in the ensemble; `mlp_ple` is one."""


def soft_clip(x: Tensor) -> Tensor:
    """`x / sqrt(1 + (x / 3)²)`: the identity around 0, never beyond ±3; any shape."""
    x = x.clamp(-_ENORMOUS, _ENORMOUS)
    return x / torch.sqrt(1 + (x / CLIP).square())


class PiecewiseEmbedding(nn.Module):
    """Chosen columns of a row, each as `d_emb` numbers: a line plus a learned piecewise-linear curve.

    The curve is 0 at first, so that training begins with a linear model of each column.
    """

    columns: Tensor
    """`(n_num,)` int64, ascending: columns of the input."""
    edges: Tensor
    """`(n_num, n_bins + 1)` float32, never descending; a bin without width is unused."""

    def __init__(self, shape: PiecewiseShape):
        super().__init__()
        n_num, d_emb = shape.n_num, shape.d_emb
        self.register_buffer("columns", torch.arange(n_num))
        self.register_buffer("edges", torch.linspace(-1, 1, shape.n_bins + 1).repeat(n_num, 1))
        bound = 1 / math.sqrt(d_emb)
        self.slope = nn.Parameter(torch.empty(n_num, d_emb).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_num, d_emb).uniform_(-bound, bound))
        self.curve = nn.Parameter(torch.zeros(n_num, shape.n_bins, d_emb))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, input_dim)` to `(batch, n_num * d_emb)`."""
        x = x.index_select(1, self.columns)
        width = self.edges.diff()
        scale = torch.where(width > 0, 1 / width.clamp_min(torch.finfo(torch.float32).tiny), 0.0)
        parts = ((x[..., None] - self.edges[:, :-1]) * scale).clamp(0, 1)
        curve = torch.matmul(parts.transpose(0, 1), self.curve).transpose(0, 1)
        line = torch.addcmul(self.bias, self.slope, soft_clip(x)[..., None])
        return (curve + line).flatten(1)


class PiecewiseMLP(nn.Module):
    """The clipped row and the embedded numbers → [Linear, ReLU, Dropout] × layers → Linear."""

    def __init__(
        self, input_dim: int, output_dim: int, hidden_dim: int, layers: int, dropout: float, shape: PiecewiseShape
    ):
        super().__init__()
        self.embedding = PiecewiseEmbedding(shape) if shape.n_num else None
        width = input_dim + shape.n_num * shape.d_emb
        self.backbone = MLPBackbone(d_in=width, n_blocks=max(1, layers), d_block=hidden_dim, dropout=dropout)
        _cheapen_dropout(self.backbone)
        self.head = nn.Linear(hidden_dim, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, input_dim)` to `(batch, output_dim)`."""
        return self.head(self.backbone(_widen(self.embedding, x)))


class TabM(nn.Module):
    """`k` networks over the same features, their weights shared but for scales and biases of their own."""

    def __init__(
        self, input_dim: int, output_dim: int, hidden_dim: int, layers: int, dropout: float, shape: PiecewiseShape
    ):
        super().__init__()
        self.k = shape.k
        self.embedding = PiecewiseEmbedding(shape) if shape.n_num else None
        self.backbone = MLPBackboneBatchEnsemble(
            d_in=input_dim + shape.n_num * shape.d_emb,
            n_blocks=max(1, layers),
            d_block=hidden_dim,
            dropout=dropout,
            k=shape.k,
            tabm_init=True,
            scaling_init="random-signs",
            start_scaling_init_chunks=None,
        )
        _cheapen_dropout(self.backbone)
        self.head = LinearEnsemble(hidden_dim, output_dim, k=shape.k)
        self._one_sign_per_number(input_dim, shape)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, input_dim)` to `(batch, output_dim)`: the log of the members' mean probability, or their mean."""
        outputs = self.members(x)
        if outputs.shape[-1] == 1:
            return outputs.mean(1)
        return outputs.log_softmax(-1).logsumexp(1) - math.log(self.k)

    def members(self, x: Tensor) -> Tensor:
        """`(batch, input_dim)` to `(batch, k, output_dim)`: each is trained on its own loss."""
        wide = _widen(self.embedding, x)
        return self.head(self.backbone(wide.unsqueeze(1).expand(-1, self.k, -1)))

    def _one_sign_per_number(self, input_dim: int, shape: PiecewiseShape) -> None:
        """A member turns all of a number's embedding around or none of it, as the authors do it."""
        first = next(layer for layer in self.backbone.modules() if isinstance(layer, LinearBatchEnsemble))
        with torch.no_grad():
            ours = first.r[:, input_dim :: shape.d_emb][:, : shape.n_num].repeat_interleave(shape.d_emb, dim=1)
            first.r[:, input_dim:] = ours


def find_bins(x: np.ndarray, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Which columns are numbers, by their values, and the bins of each: quantiles.

    Args:
        x: `(n_rows, input_dim)` float, finite, scaled.
        n_bins: at most; a column of few distinct values has fewer, the rest without width.

    Returns:
        `(n_num,)` int64, columns with more than two values; `(n_num, n_bins + 1)` float32.
    """
    step = -(-len(x) // _MAX_ROWS_FOR_BINS)
    sample = x[::step].astype(np.float32)
    columns = np.array([index for index, column in enumerate(sample.T) if _has_three_values(column)], dtype=np.int64)
    if not len(columns) or len(sample) <= n_bins:
        return np.empty(0, dtype=np.int64), np.empty((0, n_bins + 1), dtype=np.float32)
    edges = np.empty((len(columns), n_bins + 1), dtype=np.float32)
    with warnings.catch_warnings():
        # A number that is nearly always the same has one bin, which is no news for whoever trains.
        warnings.filterwarnings("ignore", "The .* feature has just two bin edges", UserWarning)
        found = compute_bins(torch.from_numpy(sample[:, columns]), n_bins)
    for row, bins in zip(edges, found, strict=True):
        row[: len(bins)], row[len(bins) :] = bins.numpy(), bins[-1].item()
    return columns, edges


def set_bins(model: nn.Module, columns: np.ndarray, edges: np.ndarray) -> None:
    """Copy the bins of `find_bins` into a model that was built for as many columns."""
    embedding = embedding_of(model)
    if embedding is not None:
        embedding.columns.copy_(torch.from_numpy(columns))
        embedding.edges.copy_(torch.from_numpy(edges))


def embedding_of(model: nn.Module) -> PiecewiseEmbedding | None:
    """The model's embedding of numbers, where it has one."""
    return model.embedding if isinstance(model, PiecewiseMLP | TabM) else None


def shape_of_model(model: PiecewiseMLP | TabM) -> PiecewiseShape:
    """The shape that a live model was built with; without numbers, the defaults stand for bins and embedding."""
    embedding, k = model.embedding, model.k if isinstance(model, TabM) else DEFAULT_MEMBERS
    if embedding is None:
        return PiecewiseShape(k=k)
    n_num, n_bins, d_emb = embedding.curve.shape
    return PiecewiseShape(n_num, n_bins, d_emb, k)


def check_embedding(model: nn.Module, input_dim: int) -> None:
    """Check the buffers of an embedding: indices in range, bins in order.

    Raises:
        ValueError: the message begins with the tensor's name.
    """
    embedding = embedding_of(model)
    if embedding is None:
        return
    columns, edges = embedding.columns, embedding.edges
    if int(columns.min()) < 0 or int(columns.max()) >= input_dim or not bool((columns.diff() > 0).all()):
        raise ValueError(f"'embedding.columns': expected ascending column indices below {input_dim}")
    if not bool((edges.diff() >= 0).all()):
        raise ValueError("'embedding.edges': expected bins that never descend")


def _widen(embedding: PiecewiseEmbedding | None, x: Tensor) -> Tensor:
    return soft_clip(x) if embedding is None else torch.cat([soft_clip(x), embedding(x)], 1)


def _cheapen_dropout(backbone: nn.Module) -> None:
    for block in backbone.modules():
        for name, layer in block.named_children():
            if isinstance(layer, nn.Dropout):
                setattr(block, name, Dropout(layer.p))


def _has_three_values(column: np.ndarray) -> bool:
    first, largest = column[0], column.max()
    return bool(((column != first) & (column != (largest if largest != first else column.min()))).any())
