"""The schema of a bundle's payload: the twelve keys, each with a value that fits all the others.

Inert records in (`pickle_reader`), fresh objects and plain values out; no object of the file survives. Messages begin
with the payload key that is off.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import LabelEncoder, StandardScaler

from ai.ml.core.errors import BundleRefused
from ai.ml.frameworks.pytorch.serialization.estimators import (
    read_label_encoder,
    read_scaler,
    read_vectorizer,
    sklearn_version,
)
from ai.ml.frameworks.pytorch.serialization.pickle_reader import Call, Global, Stored
from ai.ml.frameworks.pytorch.serialization.plain_values import (
    MAX_DIM,
    kind_of,
    read_array,
    read_dim,
    read_integer,
    read_scalar,
    read_text,
    read_texts,
    shape_of,
    shown,
)

PAYLOAD_KEYS = (
    "state_dict",
    "task",
    "target_column",
    "input_dim",
    "output_dim",
    "class_names",
    "vectorizer",
    "scaler",
    "feature_medians",
    "label_encoder",
    "target_scaler",
    "model_config",
)
"""In the order in which a bundle file has them."""
OPTIONAL_KEYS = ("class_names", "feature_medians", "label_encoder", "target_scaler", "model_config")
"""A file may lack these (REQ-S10, REQ-S09): what is absent is None, exactly as where the file says None."""
_REQUIRED_KEYS = tuple(key for key in PAYLOAD_KEYS if key not in OPTIONAL_KEYS)
_ORDERED_DICT = Global("collections", "OrderedDict")
MAX_NDIM = 3
"""Of a tensor: `(k, in, out)` for the weights of an ensemble."""
_LOCATION = re.compile(r"cpu|mps|(?:cuda|xpu|hpu)(?::\d{1,3})?")
"""Where a tensor of a real bundle may have been: `meta`, for one, would give a model without weights."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as the pickle describes it; it lies within its storage."""

    storage: Stored
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Payload:
    """A payload that fits together, all of it fresh; only the tensors are still in the file."""

    tensors: dict[str, TensorSpec]
    task: str
    target_column: str
    input_dim: int
    output_dim: int
    class_names: list[str] | None
    vectorizer: DictVectorizer
    scaler: StandardScaler
    feature_medians: np.ndarray | None
    label_encoder: LabelEncoder | None
    target_scaler: StandardScaler | None
    model_config: dict[str, Any] | None
    written_with: dict[str, str]
    """Versions named in the file: `scikit-learn`."""


def read_payload_tree(tree: Any) -> Payload:
    """Check the whole payload and build its parts.

    Raises:
        BundleRefused: a key that isn't optional is missing; one is unknown, of the wrong type, or disagrees with
            another.
    """
    record = _record(tree)
    encoder, target_scaler, class_names = map(record.get, ("label_encoder", "target_scaler", "class_names"))
    version = sklearn_version(record["vectorizer"])
    payload = Payload(
        tensors=_tensors(record["state_dict"]),
        task=_task(record["task"]),
        target_column=read_text(record["target_column"], "target_column"),
        input_dim=read_dim(record["input_dim"], "input_dim"),
        output_dim=read_dim(record["output_dim"], "output_dim"),
        class_names=None if class_names is None else read_texts(class_names, "class_names"),
        vectorizer=read_vectorizer(record["vectorizer"]),
        scaler=read_scaler(record["scaler"], "scaler"),
        feature_medians=_medians(record.get("feature_medians")),
        label_encoder=None if encoder is None else read_label_encoder(encoder),
        target_scaler=None if target_scaler is None else read_scaler(target_scaler, "target_scaler"),
        model_config=_model_config(record.get("model_config")),
        written_with={} if version is None else {"scikit-learn": version},
    )
    _check_agreement(payload)
    return payload


def _record(tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise BundleRefused(f"payload: expected a dict with the key state_dict, got {kind_of(tree)}")
    record = cast("dict[str, Any]", tree)
    for key in _REQUIRED_KEYS:
        if key not in record:
            raise BundleRefused(f"payload: key {key} is missing")
    for key in record:
        if key not in PAYLOAD_KEYS:
            raise BundleRefused(f"payload: unknown key {key[:80]!r}")
    return record


def _check_agreement(payload: Payload) -> None:
    width = payload.input_dim
    widths = {"vectorizer": len(payload.vectorizer.feature_names_), "scaler": int(payload.scaler.n_features_in_)}
    if payload.feature_medians is not None:
        widths["feature_medians"] = len(payload.feature_medians)
    for part, found in widths.items():
        if found != width:
            raise BundleRefused(f"{part}: is for {found} features, input_dim says {width}")
    if payload.task == "regression":
        _check_regression(payload)
    else:
        _check_classification(payload)


def _check_regression(payload: Payload) -> None:
    if payload.output_dim != 1:
        raise BundleRefused(f"output_dim: {payload.output_dim}, expected 1 for regression")
    if payload.class_names is not None or payload.label_encoder is not None:
        raise BundleRefused("class_names, label_encoder: expected None for regression")
    if payload.target_scaler is not None and payload.target_scaler.n_features_in_ != 1:
        raise BundleRefused(f"target_scaler: is for {payload.target_scaler.n_features_in_} columns, expected 1")


def _check_classification(payload: Payload) -> None:
    if payload.target_scaler is not None:
        raise BundleRefused("target_scaler: expected None for classification")
    names, encoder = payload.class_names, payload.label_encoder
    if names is not None and len(names) != payload.output_dim:
        raise BundleRefused(f"class_names: {len(names)} names, output_dim says {payload.output_dim} classes")
    if encoder is None:
        return
    classes = np.asarray(encoder.classes_)
    if len(classes) != payload.output_dim:
        raise BundleRefused(f"label_encoder: {len(classes)} classes, output_dim says {payload.output_dim}")
    # The elements themselves: tolist() would make a float32 label a longer number.
    if names is not None and names != [str(label) for label in classes]:
        raise BundleRefused("class_names: disagree with the label_encoder's classes")


def _task(value: Any) -> str:
    if not isinstance(value, str) or value not in ("classification", "regression"):
        raise BundleRefused(f"task: expected 'classification' or 'regression', got {shown(value)}")
    return value


def _medians(record: Any) -> np.ndarray | None:
    if record is None:
        return None
    values = read_array(record, "feature_medians")
    if values.dtype.kind != "f" or values.ndim != 1 or not np.isfinite(values).all():
        raise BundleRefused(f"feature_medians: expected one row of finite floats, got {shape_of(values)}")
    return values


def _model_config(record: Any) -> dict[str, Any] | None:
    if record is None:
        return None
    if not isinstance(record, dict):
        raise BundleRefused(f"model_config: expected a dict, got {kind_of(record)}")
    config: dict[str, Any] = {}
    for key, value in cast("dict[str, Any]", record).items():
        name = f"model_config.{key[:80]}"
        plain = read_scalar(value, name) if isinstance(value, Call) else value
        plain = plain.item() if isinstance(plain, np.generic) else plain
        if not isinstance(plain, str | bool | int | float):
            raise BundleRefused(f"{name}: expected text or a number, got {kind_of(plain)}")
        config[key] = plain
    return config


# ---- tensors ---------------------------------------------------------------------------------------------------------


def _tensors(record: Any) -> dict[str, TensorSpec]:
    if not isinstance(record, Call) or record.target != _ORDERED_DICT or record.arguments:
        raise BundleRefused(f"state_dict: expected an OrderedDict of tensors, got {kind_of(record)}")
    _check_metadata(record.state)
    tensors: dict[str, TensorSpec] = {}
    for name, value in record.items:
        if not isinstance(name, str):
            raise BundleRefused(f"state_dict: a key of type {kind_of(name)}, expected text")
        if name in tensors:
            raise BundleRefused(f"state_dict: {name[:80]!r} twice")
        tensors[name] = _tensor(value, f"state_dict[{name[:80]!r}]")
    return tensors


def _check_metadata(state: Any) -> None:
    """torch hangs `_metadata` onto a state_dict: a version number per layer, which no layer of ours reads."""
    match state:
        case None:
            return
        case {"_metadata": Call(target=target, arguments=(), state=None, items=items), **rest} if (
            target == _ORDERED_DICT and not rest
        ):
            if all(isinstance(name, str) and _is_version(version) for name, version in items):
                return
        case _:
            pass
    raise BundleRefused("state_dict: carries attributes other than torch's version number per layer")


def _is_version(record: Any) -> bool:
    return isinstance(record, dict) and all(
        key == "version" and isinstance(value, int) for key, value in cast("dict[str, Any]", record).items()
    )


def _tensor(record: Any, key: str) -> TensorSpec:
    if not isinstance(record, Call) or record.target.name != "_rebuild_tensor_v2" or record.state is not None:
        raise BundleRefused(f"{key}: expected a tensor, got {kind_of(record)}")
    match record.arguments:
        case (Stored() as storage, offset, tuple(shape), tuple(stride), bool(), Call() as hooks):
            pass
        case _:
            raise BundleRefused(f"{key}: a tensor in a form that torch.save never writes")
    if hooks.target != _ORDERED_DICT or hooks.arguments or hooks.items or hooks.state is not None:
        raise BundleRefused(f"{key}: a tensor with hooks")
    if not _LOCATION.fullmatch(storage.location):
        raise BundleRefused(f"{key}: saved on {storage.location[:40]!r}, expected cpu, cuda:0 or the like")
    sizes = tuple(read_integer(size, f"{key}: shape") for size in cast("tuple[Any, ...]", shape))
    steps = tuple(read_integer(step, f"{key}: stride") for step in cast("tuple[Any, ...]", stride))
    spec = TensorSpec(storage, read_integer(offset, f"{key}: offset"), sizes, steps)
    _check_extent(spec, key)
    return spec


def _check_extent(spec: TensorSpec, key: str) -> None:
    """The tensor has elements, as many as its storage at most, and all of them lie in it."""
    if len(spec.shape) != len(spec.stride) or len(spec.shape) > MAX_NDIM:
        raise BundleRefused(f"{key}: {len(spec.shape)} dimensions and {len(spec.stride)} strides")
    if any(not 0 <= size <= MAX_DIM for size in spec.shape):
        raise BundleRefused(f"{key}: a negative or enormous shape {spec.shape}")
    if spec.offset < 0 or any(step < 0 for step in spec.stride):
        raise BundleRefused(f"{key}: a negative offset or stride")
    count = math.prod(spec.shape)
    if not count:
        raise BundleRefused(f"{key}: is empty")
    last = spec.offset + sum((size - 1) * step for size, step in zip(spec.shape, spec.stride, strict=True))
    # A stride of 0 makes a small storage look like a large tensor.
    if max(last + 1, count) > spec.storage.numel:
        raise BundleRefused(f"{key}: {count} elements up to place {last}, its storage has {spec.storage.numel}")
