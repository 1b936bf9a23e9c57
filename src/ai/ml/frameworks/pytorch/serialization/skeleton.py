"""Which architecture a state_dict belongs to: from `model_config` where there is one, else from the tensors' names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ai.ml.core.errors import BundleRefused
from ai.ml.frameworks.pytorch.models.networks import (
    DEFAULT_DROPOUT,
    DEFAULT_HIDDEN_DIM,
    DEFAULT_NUM_HIDDEN_LAYERS,
    DEFAULT_TRAINING_MODE,
    PIECEWISE_MODES,
    TRAINING_MODES,
    build_model,
)

Shapes = Mapping[str, tuple[int, ...]]

# What files from before `model_config` was stored were trained with; a key that a later file lacks gets its default.
FALLBACK: dict[str, Any] = {
    "training_mode": DEFAULT_TRAINING_MODE,
    "hidden_dim": DEFAULT_HIDDEN_DIM,
    "num_hidden_layers": DEFAULT_NUM_HIDDEN_LAYERS,
    "dropout": DEFAULT_DROPOUT,
}
_PROBABLE_DROPOUT = 0.1
"""A dropout layer shows in the names of the layers after it, its probability doesn't; scoring doesn't depend on it."""
_MLP_WEIGHT = re.compile(r"net\.(\d+)\.weight")
_BLOCK_WEIGHT = re.compile(r"blocks\.(\d+)\.fc1\.weight")


def build_skeleton(
    input_dim: int, output_dim: int, config: Mapping[str, Any] | None, shapes: Shapes
) -> tuple[nn.Module, dict[str, Any]]:
    """The architecture on the `meta` device (no memory, no random numbers), and the config that gave it.

    Args:
        input_dim: features.
        output_dim: classes, or 1.
        config: `model_config` of the file; keys that it lacks get their defaults.
        shapes: of the tensors in the file, by name.

    Raises:
        BundleRefused: the tensors aren't those of any architecture that the file can mean.
    """
    complete = {**FALLBACK, **(config or {})}
    _check_config(complete, len(shapes), input_dim)
    model = _on_meta(input_dim, output_dim, complete)
    difference = _difference(model, shapes)
    if difference is None:
        return model, complete
    if config is None or any(key not in config for key in FALLBACK):
        guess = {**config_of_names(shapes), **(config or {})}
        _check_config(guess, len(shapes), input_dim)
        model = _on_meta(input_dim, output_dim, guess)
        if _difference(model, shapes) is None:
            return model, guess
    raise BundleRefused(f"state_dict: {difference} (from {'model_config' if config else 'the defaults'})")


def config_of_names(shapes: Shapes) -> dict[str, Any]:
    """The `model_config` by the names and shapes of a state_dict; the fallback where they don't determine it."""
    if "net.weight" in shapes:
        return {**FALLBACK, "training_mode": "linear_glm_baseline", "num_hidden_layers": 1}
    if "input.weight" in shapes:
        blocks = [int(match[1]) for name in shapes if (match := _BLOCK_WEIGHT.fullmatch(name))]
        hidden_dim = shapes["input.weight"][0]
        return {**FALLBACK, "training_mode": "tabresnet", "hidden_dim": hidden_dim, "num_hidden_layers": len(blocks)}
    linear_indices = sorted(
        int(match[1]) for name in shapes if (match := _MLP_WEIGHT.fullmatch(name)) and len(shapes[name]) == 2
    )
    if len(linear_indices) < 2:
        return dict(FALLBACK)
    # Linear, BatchNorm1d, ReLU: the next Linear is three modules on, four with a Dropout between.
    dropout = _PROBABLE_DROPOUT if linear_indices[1] - linear_indices[0] == 4 else 0.0
    hidden_dim = shapes[f"net.{linear_indices[0]}.weight"][0]
    return {**FALLBACK, "hidden_dim": hidden_dim, "num_hidden_layers": len(linear_indices) - 1, "dropout": dropout}


def _on_meta(input_dim: int, output_dim: int, config: Mapping[str, Any]) -> nn.Module:
    with torch.device("meta"):
        return build_model(
            input_dim,
            output_dim,
            config["training_mode"],
            config["hidden_dim"],
            config["num_hidden_layers"],
            float(config["dropout"]),
            **{key: config[key] for key in _newer_keys(config["training_mode"]) if key in config},
        )


def _newer_keys(training_mode: str) -> tuple[str, ...]:
    """Keys that only the newer modes have; all but the temperature must be there."""
    if training_mode not in PIECEWISE_MODES:
        return ()
    return ("n_num", "n_bins", "d_emb", *(["k"] if training_mode == "tabm" else []), "temperature")


def _check_config(config: Mapping[str, Any], n_tensors: int, input_dim: int) -> None:
    """Nothing is built on a file's word: as many layers as it has tensors, and widths that a tensor can have."""
    mode, dropout = config["training_mode"], config["dropout"]
    if not isinstance(mode, str) or mode not in TRAINING_MODES:
        raise BundleRefused(
            f"model_config.training_mode: {str(mode)[:80]!r} is unknown; known are {', '.join(TRAINING_MODES)}"
        )
    newer = _newer_keys(mode)
    unknown = sorted(set(config) - set(FALLBACK) - set(newer))
    if unknown:
        raise BundleRefused(
            f"model_config: unknown key {unknown[0][:80]!r}; a newer bundlegate may have written the file"
        )
    ranges = {"hidden_dim": (1, 1 << 24), "num_hidden_layers": (0, max(n_tensors, DEFAULT_NUM_HIDDEN_LAYERS))}
    if newer:
        ranges |= {"n_num": (0, input_dim), "n_bins": (1, 1 << 16), "d_emb": (1, 1 << 16)}
    if "k" in newer:
        ranges["k"] = (1, 1 << 16)
    for key, (least, most) in ranges.items():
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise BundleRefused(
                f"model_config.{key}: {str(value)[:40]!r}, expected an integer from {least} to {most:,}"
            )
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
        raise BundleRefused(f"model_config.dropout: {str(dropout)[:40]!r}, expected a probability")
    temperature = config.get("temperature", 1.0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 1e-3 <= temperature <= 1e3:
        raise BundleRefused(f"model_config.temperature: {str(temperature)[:40]!r}, expected from 0.001 to 1000")


def _difference(model: nn.Module, shapes: Shapes) -> str | None:
    """The first tensor in which the file and the architecture differ, with both shapes."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, shape in expected.items():
        if name not in shapes:
            return f"{name!r} is missing; the architecture has it with shape {shape}"
        if shapes[name] != shape:
            return f"{name!r} has shape {shapes[name]}, the architecture has {shape}"
    extra = sorted(set(shapes) - set(expected))
    return f"{extra[0][:80]!r} of shape {shapes[extra[0]]} is in no layer of the architecture" if extra else None
