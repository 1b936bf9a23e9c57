"""A bundle taken apart into named parts, each with a fingerprint of its type, dtype, shape and bytes.

Made from the live model at train time and kept in the evidence, it lets any later process report which weight or which
preprocessing attribute isn't what was trained, without the live model and without trusting predictions alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.models.networks import model_config_of

_MODULE_ATTRIBUTES = ("eps", "momentum", "affine", "track_running_stats", "p", "in_features", "out_features")
"""Attributes that change a layer's function and aren't tensors; a rebuilt layer has their defaults."""

MAX_FEATURE_NAMES = 1000
"""Feature names that a manifest lists; the rest are left out."""

_FITTED = ("vectorizer", "scaler", "feature_medians", "label_encoder", "target_scaler")
_PLAIN = ("task", "target_column", "input_dim", "output_dim", "class_names")


def describe_structure(bundle: ModelBundle) -> dict[str, str]:
    """Fingerprint every part of a bundle.

    Returns:
        Part to fingerprint, for instance `state.net.0.weight` to `Tensor float32 (8, 4) 9f86d0…`; the values are
        sha-256 of the part's bytes, so that NaN payloads and −0.0 count.
    """
    parts: dict[str, str] = {}
    state = cast("Mapping[str, Tensor]", bundle.model.state_dict())
    parts["state"] = f"keys {_digest(json.dumps(list(state)))}"
    for name, tensor in state.items():
        parts[f"state.{name}"] = _fingerprint_tensor(tensor)
    parts["model.training"] = str(any(module.training for module in bundle.model.modules()))
    for key, value in model_config_of(bundle.model).items():
        parts[f"model_config.{key}"] = fingerprint(value)
    for name, module in bundle.model.named_modules():
        parts[f"module.{name}"] = _describe_module(module)
    for name in _PLAIN:
        parts[name] = fingerprint(getattr(bundle, name))
    for name in _FITTED:
        parts |= _describe_fitted(name, getattr(bundle, name))
    contract = bundle.contract
    parts["contract"] = "None" if contract is None else _digest(json.dumps(contract.to_json(), sort_keys=True))
    return parts


def describe_model(bundle: ModelBundle) -> dict[str, Any]:
    """The manifest's section `model`: the model's task, sizes and feature names, readable without opening the file."""
    features = cast("list[str]", bundle.vectorizer.feature_names_)
    return {
        "task": bundle.task,
        "target_column": bundle.target_column,
        "class_names": bundle.class_names,
        "input_dim": bundle.input_dim,
        "output_dim": bundle.output_dim,
        "model_config": model_config_of(bundle.model),
        "n_parameters": sum(parameter.numel() for parameter in bundle.model.parameters()),
        "feature_names": list(features[:MAX_FEATURE_NAMES]),
    }


def fingerprint(value: Any) -> str:
    """Type and content of a plain value, array, list or dict; a dict's order doesn't count, a list's does."""
    match value:
        case None | bool() | int() | float() | str() | np.generic() | type():
            return _scalar(value)
        case np.ndarray():
            return _fingerprint_array(value)
        case Mapping():
            return f"{type(value).__name__} of {len(value)} {_digest(_encode_mapping(value))}"
        case list() | tuple():
            return f"{type(value).__name__} of {len(value)} {_digest(_encode_sequence(value))}"
        case _:
            return f"{_type_name(value)} {_digest(_encode_mapping(vars(value)))}"


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "None"
        case type():
            return f"type {value.__module__}.{value.__qualname__}"
        case np.generic():
            return f"{_type_name(value)} {value!s} {value.tobytes().hex()}"
        case float():
            return f"float {value!r} {value.hex()}"
        case str() if len(value) > 60:
            return f"str of {len(value)} {_digest(value)}"
        case _:
            return f"{_type_name(value)} {value!r}"


def _describe_fitted(name: str, fitted: Any) -> dict[str, str]:
    """One part per attribute of a fitted scikit-learn object, or one for an array or None."""
    if fitted is None or isinstance(fitted, np.ndarray):
        return {name: fingerprint(fitted)}
    parts = {name: _type_name(fitted)}
    # The version that fitted it is a label, not behaviour, and scikit-learn adds it when it pickles.
    attributes = {key: value for key, value in vars(fitted).items() if key != "_sklearn_version"}
    return parts | {f"{name}.{key}": fingerprint(attributes[key]) for key in sorted(attributes)}


def _describe_module(module: nn.Module) -> str:
    attributes = {key: getattr(module, key) for key in _MODULE_ATTRIBUTES if key in vars(module)}
    return f"{type(module).__name__}({', '.join(f'{key}={value!r}' for key, value in attributes.items())})"


def _fingerprint_tensor(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous()
    content = plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return f"Tensor {str(plain.dtype).removeprefix('torch.')} {tuple(plain.shape)} {sha256(content).hexdigest()}"


def _fingerprint_array(array: np.ndarray) -> str:
    if array.dtype.kind == "O":
        return f"ndarray object {array.shape} {_digest(_encode_sequence(array.ravel().tolist()))}"
    content = np.ascontiguousarray(array).tobytes()
    return f"ndarray {array.dtype.str} {array.shape} {sha256(content).hexdigest()}"


def _encode_sequence(values: Sequence[Any]) -> str:
    if {*map(type, values)} <= {str}:
        return json.dumps(["str", *values])
    return json.dumps([fingerprint(value) for value in values])


def _encode_mapping(values: Mapping[Any, Any]) -> str:
    if {*map(type, values)} <= {str} and {*map(type, values.values())} <= {int}:
        return json.dumps({"type": "str to int", "values": dict(values)}, sort_keys=True)
    return json.dumps(sorted((fingerprint(key), fingerprint(value)) for key, value in values.items()))


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.split('.')[0]}.{kind.__name__}"
