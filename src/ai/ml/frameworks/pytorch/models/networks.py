"""The architectures, built from plain numbers, and the reverse: plain numbers from a live model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ai.ml.frameworks.pytorch.models.dropout import Dropout
from ai.ml.frameworks.pytorch.models.piecewise import PiecewiseMLP, PiecewiseShape, TabM, shape_of_model

DEFAULT_TRAINING_MODE = "mlp_dense"
DEFAULT_HIDDEN_DIM = 128
DEFAULT_NUM_HIDDEN_LAYERS = 2
DEFAULT_DROPOUT = 0.0


class MLP(nn.Module):
    """[Linear, BatchNorm1d, ReLU, (Dropout)] × max(1, num_hidden_layers), then Linear.

    The layers form one `nn.Sequential` named `net`; Dropout takes an index of its own and is there only if
    `dropout > 0`, so that index, and with it every state-dict key after it, depends on `dropout`.
    """

    def __init__(self, input_dim: int, output_dim: int, hidden_dim: int, num_hidden_layers: int, dropout: float):
        super().__init__()
        layers: list[nn.Module] = []
        width = input_dim
        for _ in range(max(1, num_hidden_layers)):
            layers += [nn.Linear(width, hidden_dim), nn.BatchNorm1d(hidden_dim), nn.ReLU()]
            if dropout > 0:
                layers.append(Dropout(dropout))
            width = hidden_dim
        layers.append(nn.Linear(width, output_dim))
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, input_dim)` to `(batch, output_dim)`."""
        return self.net(x)


class LinearBaseline(nn.Module):
    """One Linear layer named `net`: logistic or linear regression."""

    def __init__(self, input_dim: int, output_dim: int):
        super().__init__()
        self.net = nn.Linear(input_dim, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, input_dim)` to `(batch, output_dim)`."""
        return self.net(x)


class ResidualBlock(nn.Module):
    """fc1 → bn1 → ReLU → dropout → fc2 → bn2 → add the input → ReLU."""

    def __init__(self, hidden_dim: int, dropout: float):
        super().__init__()
        self.fc1 = nn.Linear(hidden_dim, hidden_dim)
        self.bn1 = nn.BatchNorm1d(hidden_dim)
        self.dropout = Dropout(dropout) if dropout > 0 else nn.Identity()
        self.fc2 = nn.Linear(hidden_dim, hidden_dim)
        self.bn2 = nn.BatchNorm1d(hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, hidden_dim)` to the same shape."""
        hidden = self.dropout(torch.relu(self.bn1(self.fc1(x))))
        return torch.relu(self.bn2(self.fc2(hidden)) + x)


class TabResNet(nn.Module):
    """Linear → BatchNorm1d → ReLU → `ResidualBlock` × max(1, num_hidden_layers) → Linear."""

    def __init__(self, input_dim: int, output_dim: int, hidden_dim: int, num_hidden_layers: int, dropout: float):
        super().__init__()
        self.input = nn.Linear(input_dim, hidden_dim)
        self.input_bn = nn.BatchNorm1d(hidden_dim)
        self.blocks = nn.ModuleList(ResidualBlock(hidden_dim, dropout) for _ in range(max(1, num_hidden_layers)))
        self.head = nn.Linear(hidden_dim, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, input_dim)` to `(batch, output_dim)`."""
        x = torch.relu(self.input_bn(self.input(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


BUILDERS: Mapping[str, Callable[[int, int, int, int, float], nn.Module]] = {
    "mlp_dense": MLP,
    "imbalance_aware": MLP,
    "calibrated_classifier": MLP,
    "tree_teacher_distillation": MLP,
    "linear_glm_baseline": lambda input_dim, output_dim, *_: LinearBaseline(input_dim, output_dim),
    "tabresnet": TabResNet,
}
PIECEWISE_BUILDERS: Mapping[str, type[PiecewiseMLP] | type[TabM]] = {"mlp_ple": PiecewiseMLP, "tabm": TabM}
PIECEWISE_MODES = tuple(PIECEWISE_BUILDERS)
"""Modes with keys of their own in `model_config`."""
TRAINING_MODES = tuple(sorted((*BUILDERS, *PIECEWISE_BUILDERS)))


def build_model(
    input_dim: int,
    output_dim: int,
    training_mode: str,
    hidden_dim: int,
    num_hidden_layers: int,
    dropout: float,
    *,
    temperature: float = 1.0,
    **shape: int,
) -> nn.Module:
    """Build a model with fresh weights.

    Args:
        input_dim: features.
        output_dim: classes, or 1.
        training_mode: one of `TRAINING_MODES`.
        hidden_dim: width of a hidden layer.
        num_hidden_layers: or residual blocks; at least one is built.
        dropout: probability.
        temperature: kept with the model for `Scorer.probabilities`; the outputs don't depend on it.
        shape: fields of `PiecewiseShape`, for the modes that read numbers piecewise.

    Raises:
        ValueError: `training_mode` is unknown; the message names the known ones.
        TypeError: `shape` has a name that no field has.

    >>> build_model(4, 3, "mlp_dense", 8, 1, 0.0)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """
    if training_mode not in TRAINING_MODES:
        raise ValueError(f"unknown {training_mode=}: known are {', '.join(TRAINING_MODES)}")
    sizes = (input_dim, output_dim, hidden_dim, num_hidden_layers, dropout)
    piecewise = PIECEWISE_BUILDERS.get(training_mode)
    model = BUILDERS[training_mode](*sizes) if piecewise is None else piecewise(*sizes, PiecewiseShape(**shape))
    set_temperature(model, temperature)
    return model


def set_temperature(model: nn.Module, temperature: float) -> None:
    """Store the divisor of the outputs before the softmax on the model; 1 changes nothing."""
    vars(model)["_temperature"] = temperature


def model_temperature(model: nn.Module) -> float:
    """The temperature from `set_temperature`; 1 for a model without one."""
    return float(vars(model).get("_temperature", 1.0))


def model_training_mode(model: nn.Module) -> str:
    """The mode that rebuilds this architecture; `mlp_dense` for a type that isn't ours."""
    match model:
        case LinearBaseline():
            return "linear_glm_baseline"
        case TabResNet():
            return "tabresnet"
        case PiecewiseMLP():
            return "mlp_ple"
        case TabM():
            return "tabm"
        case _:
            return DEFAULT_TRAINING_MODE


def model_hidden_dim(model: nn.Module) -> int:
    """Width of the first layer's output; 128 where there is no Linear layer."""
    match model:
        case LinearBaseline():
            return model.net.out_features
        case TabResNet():
            return model.input.out_features
        case PiecewiseMLP() | TabM():
            return model.head.in_features
        case _:
            first = next((layer for layer in model.modules() if isinstance(layer, nn.Linear)), None)
            return DEFAULT_HIDDEN_DIM if first is None else first.out_features


def model_num_hidden_layers(model: nn.Module) -> int:
    """Hidden layers or residual blocks, at least 1; 2 for a type that isn't ours."""
    match model:
        case LinearBaseline():
            return 1
        case TabResNet():
            return max(1, len(model.blocks))
        case PiecewiseMLP() | TabM():
            return len(model.backbone.blocks)
        case MLP():
            return max(1, sum(isinstance(layer, nn.Linear) for layer in model.net) - 1)
        case _:
            return DEFAULT_NUM_HIDDEN_LAYERS


def model_dropout(model: nn.Module) -> float:
    """`p` of the first Dropout layer; 0 where there is none."""
    if isinstance(model, LinearBaseline):
        return DEFAULT_DROPOUT
    first = next((layer for layer in model.modules() if isinstance(layer, nn.Dropout)), None)
    return DEFAULT_DROPOUT if first is None else float(first.p)


def model_config_of(model: nn.Module) -> dict[str, str | int | float]:
    """The `model_config` of a live model: what `build_model` needs beside the two dimensions.

    Four keys for the modes of the format's first version, and more for a newer mode only.
    """
    config: dict[str, str | int | float] = {
        "training_mode": model_training_mode(model),
        "hidden_dim": model_hidden_dim(model),
        "num_hidden_layers": model_num_hidden_layers(model),
        "dropout": model_dropout(model),
    }
    if isinstance(model, PiecewiseMLP | TabM):
        shape = shape_of_model(model)
        config |= {"n_num": shape.n_num, "n_bins": shape.n_bins, "d_emb": shape.d_emb}
        if isinstance(model, TabM):
            config["k"] = shape.k
        if model_temperature(model) != 1.0:
            config["temperature"] = model_temperature(model)
    return config


def compute_class_weights(y_train: Tensor, output_dim: int, device: torch.device | str) -> Tensor:
    """Weights that make every class count the same: total / (classes × count), counts clamped to at least 1.

    Args:
        y_train: `(n_rows,)` int64, class indices.
        output_dim: number of classes.
        device: where the result lives.

    Returns:
        `(output_dim,)` float32.
    """
    counts = torch.bincount(y_train.cpu(), minlength=output_dim).clamp(min=1).to(torch.float32)
    return (y_train.numel() / (output_dim * counts)).to(device)
