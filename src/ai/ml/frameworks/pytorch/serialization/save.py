"""`save_bundle`: a bundle into one file, the same bytes for the same content, written atomically."""

from __future__ import annotations

import copyreg
import dataclasses
import io
import json
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import torch
from sklearn import __version__ as sklearn_version
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import LabelEncoder, StandardScaler
from torch import Tensor, nn

from ai.ml.core.bundle_dir import BUNDLE_NAME
from ai.ml.core.errors import BundleRefused
from ai.ml.core.files.atomic import make_dirs, write_new
from ai.ml.core.files.hashing import HashingStream
from ai.ml.core.types import Metrics, ModelBundle
from ai.ml.frameworks.pytorch.models.networks import model_config_of
from ai.ml.frameworks.pytorch.models.piecewise import check_embedding
from ai.ml.frameworks.pytorch.serialization.commit import replace_pair
from ai.ml.frameworks.pytorch.serialization.reader import check_structure

# Attributes in the order in which they are written; what scikit-learn may add later stays out until it is known here.
_ATTRIBUTES: dict[type, tuple[str, ...]] = {
    DictVectorizer: ("dtype", "separator", "sparse", "sort", "feature_names_", "vocabulary_"),
    StandardScaler: (
        "with_mean",
        "with_std",
        "copy",
        "n_features_in_",
        "n_samples_seen_",
        "mean_",
        "var_",
        "scale_",
    ),
    LabelEncoder: ("classes_",),
}
_KINDS: dict[str, type] = {
    "vectorizer": DictVectorizer,
    "scaler": StandardScaler,
    "label_encoder": LabelEncoder,
    "target_scaler": StandardScaler,
}


def save_bundle(bundle: ModelBundle, output_dir: str | Path, metrics: Metrics | None = None) -> Path:
    """Write `model_bundle.pt`, and `metrics.json` where there are metrics, into `output_dir`.

    The pair is replaced as one: both new files are made durable under temporary names, then a record that names them
    is renamed into place (the commit), then they take their final names (`commit` has the protocol). Killed at any
    moment, a reader finds the whole old pair or the whole new one, and the next save cleans up. With `metrics` None
    an older `metrics.json` goes, and so does a manifest that described the older pair. An object store, which has no
    rename, gets the same guarantee from the store of versions instead: every object of a version under a name of its
    own, the manifest last, and one conditional put of the pointer to it.

    The bundle isn't changed: not its model's mode, device or weights, nor the random state. What the loader would
    refuse is refused here, before anything is replaced. Equal content gives equal bytes.

    Args:
        bundle: `model_config` is read off the live model, whatever `bundle.model_config` says.
        output_dir: made with its parents if it isn't there.
        metrics: any dataclass of plain values.

    Returns:
        The path of `model_bundle.pt`.

    Raises:
        BundleRefused: the bundle can't be stored so that it loads again; the old pair is as it was.
        StorageFailed: the disk refused; the sentence says which pair holds.
        Busy: another process keeps saving into the same directory.
        TypeError: `metrics` holds what JSON has no form for; nothing was touched.
    """
    directory = Path(output_dir)
    payload = payload_of(bundle)
    document = None if metrics is None else _encode_metrics(metrics)
    make_dirs(directory)
    replace_pair(directory, lambda temp: _write_checked(payload, temp), document)
    return directory / BUNDLE_NAME


def encode_bundle(bundle: ModelBundle) -> bytes:
    """The bytes that `save_bundle` writes: the same for equal content, so `encode(load(f))` are the bytes of `f`."""
    return encode_payload(payload_of(bundle))


def encode_payload(payload: dict[str, Any]) -> bytes:
    """The canonical form of a payload, without checks: its parts needn't fit together."""
    stream = io.BytesIO()
    _write_payload(payload, _Sink(stream))
    return stream.getvalue()


def payload_of(bundle: ModelBundle) -> dict[str, Any]:
    """The twelve keys of the file, in their order; tensors are shared with the model where they can be.

    Raises:
        BundleRefused: a weight isn't a finite number, or a part is of a type that no bundle has.
    """
    for key, kind in _KINDS.items():
        found = getattr(bundle, key)
        if type(found) is not kind and not (found is None and key in ("label_encoder", "target_scaler")):
            raise BundleRefused(f"{key}: expected a {kind.__name__}, got a {type(found).__name__}")
    try:
        str(bundle.target_column).encode()
    except UnicodeEncodeError:
        raise BundleRefused("target_column: holds a lone surrogate, which is no text") from None
    try:
        check_embedding(bundle.model, bundle.input_dim)
    except ValueError as error:
        raise BundleRefused(f"state_dict: {error}") from None
    return {
        "state_dict": _own_tensors(bundle.model),
        "task": str(bundle.task),
        "target_column": str(bundle.target_column),
        "input_dim": int(bundle.input_dim),
        "output_dim": int(bundle.output_dim),
        "class_names": None if bundle.class_names is None else [str(name) for name in bundle.class_names],
        "vectorizer": bundle.vectorizer,
        "scaler": bundle.scaler,
        "feature_medians": None if bundle.feature_medians is None else np.ascontiguousarray(bundle.feature_medians),
        "label_encoder": bundle.label_encoder,
        "target_scaler": bundle.target_scaler,
        "model_config": model_config_of(bundle.model),
    }


def _own_tensors(model: nn.Module) -> OrderedDict[str, Tensor]:
    """The state_dict with each tensor contiguous in a storage of its own, so that no foreign bytes are saved."""
    seen: set[int] = set()
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise BundleRefused(f"state_dict[{name!r}]: a {type(value).__name__}, expected a tensor")
        tensor = value.detach()
        _check_values(name, tensor)
        storage = tensor.untyped_storage()
        whole = tensor.is_contiguous() and storage.nbytes() == tensor.numel() * tensor.element_size()
        if not whole or storage.data_ptr() in seen:
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        seen.add(tensor.untyped_storage().data_ptr())
        tensors[name] = tensor
    return tensors


def _check_values(name: str, tensor: Tensor) -> None:
    """Check a tensor's values as the loader does, while the live model can still be inspected."""
    if tensor.is_meta or tensor.layout != torch.strided:
        raise BundleRefused(f"state_dict[{name!r}]: has no values of its own ({tensor.device}, {tensor.layout})")
    if not tensor.numel():
        raise BundleRefused(f"state_dict[{name!r}]: is empty, of shape {tuple(tensor.shape)}")
    if tensor.dtype not in (torch.float32, torch.int64):
        raise BundleRefused(f"state_dict[{name!r}]: {tensor.dtype}, expected float32 or int64")
    low, high = (bound.item() for bound in torch.aminmax(tensor))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BundleRefused(f"state_dict[{name!r}]: holds NaN or an infinity; a model that diverged isn't saved")
    if low < 0 and (name.endswith("running_var") or not tensor.is_floating_point()):
        raise BundleRefused(f"state_dict[{name!r}]: holds {low}, expected a variance or count of at least 0")


def _write_checked(payload: dict[str, Any], temp: Path) -> str:
    """Write the file and read it back as the loader would; returns its sha-256."""
    sinks: list[_Sink] = []

    def write(stream: BinaryIO) -> None:
        sinks.append(_Sink(stream))
        _write_payload(payload, sinks[0])

    write_new(temp, write)
    try:
        check_structure(temp)
    except BundleRefused as error:
        raise BundleRefused(f"the bundle can't be saved so that it loads again: {error}") from None
    return sinks[0].sha256


class _Sink(HashingStream):
    """The stream that torch's writer writes to.

    An error of the disk waits until torch is done: its C++ would turn it into one that says nothing of the cause.
    """

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write all of `data`; returns its size in bytes."""
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Leave it to who wrote the file: it is flushed and fsynced when it is whole."""


def _write_payload(payload: dict[str, Any], sink: _Sink) -> None:
    # Through a stream, not a path: torch puts a path's stem into the bytes.
    module = SimpleNamespace(Pickler=_CanonicalPickler, __name__="canonical")
    try:
        torch.save(payload, sink, pickle_module=module)  # pyright: ignore[reportArgumentType] - write and flush suffice
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, BundleRefused):
            raise
        raise BundleRefused(f"the bundle holds what can't be stored: {str(error)[:200]}") from error
    if sink.error is not None:
        raise sink.error


class _CanonicalPickler(pickle.Pickler):
    """Equal content, equal bytes: no memo (it depends on which texts are one object), attributes in a fixed order."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fast = True

    def reducer_override(self, obj: Any) -> Any:
        attributes = _ATTRIBUTES.get(type(obj))
        if attributes is None:
            return NotImplemented
        kind = type(obj).__name__
        state: dict[str, Any] = {}
        for name in attributes:
            if not hasattr(obj, name):
                raise BundleRefused(f"{kind} has no {name}: it isn't fitted")
            state[name] = _plain(getattr(obj, name))
        # The version that fitted it: an object that was loaded keeps its own.
        state["_sklearn_version"] = vars(obj).get("_sklearn_version", sklearn_version)
        return copyreg.__newobj__, (type(obj),), state  # type: ignore[attr-defined]


def _plain(value: Any) -> Any:
    """Texts and numbers as Python's own, arrays contiguous in native order."""
    match value:
        case np.ndarray():
            return np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
        case np.str_():
            return str(value)
        case list():
            return [_plain(item) for item in value]
        case dict():
            # A vocabulary: by column, since a dict's own order is that in which rows happened to come.
            return {_plain(name): int(index) for name, index in sorted(value.items(), key=lambda item: item[1])}
        case _:
            return value


def _encode_metrics(metrics: Metrics) -> bytes:
    return json.dumps(dataclasses.asdict(metrics), indent=2, ensure_ascii=False).encode()
