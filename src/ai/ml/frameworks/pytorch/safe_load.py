"""Reading a bundle file without believing it: zip, pickle, schema, architecture, then the tensors.

1. `bundle_zip`: the file is a zip exactly as `torch.save` writes one.
2. `closed_pickle`: its pickle is read by a machine that runs nothing.
3. `payload_schema`: fresh objects are made from plain data; sizes agree.
4. `layout`: the architecture is built on `meta`, bounded by the tensors that are really there.
5. `torch.load` reads the tensors, and only them: it is handed an unpickler that names the storages of the plan, so that
   device mapping stays torch's own while no pickled code can run in it.

`weights_only=True` with an allow-list isn't used for reading: with numpy's `dtype` and `ndarray` allowed it is
memory-unsafe, and `safe_globals` is process-global, so that good files fail under threads. What we write can still be
read that way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from ai.ml.core.errors import BundleRefused
from ai.ml.frameworks.pytorch.bundle_zip import Archive, open_bundle_file, read_archive
from ai.ml.frameworks.pytorch.closed_pickle import read_pickle
from ai.ml.frameworks.pytorch.layout import build_skeleton
from ai.ml.frameworks.pytorch.payload_schema import Payload, TensorSpec, read_payload_tree

# Storages that a model of ours can have; a file with another dtype is refused by name.
_CHUNK = 4 << 20
_DTYPES = {"FloatStorage": torch.float32, "LongStorage": torch.int64}


@dataclass(frozen=True)
class Loaded:
    """A checked file: fresh parts, and a model that holds its tensors."""

    payload: Payload
    model: nn.Module
    model_config: dict[str, Any]
    sha256: str
    """Of the file that was read."""


def load_checked(path: Path, map_location: Any = None) -> Loaded:
    """Read and check a bundle file, and build its model on the device that `map_location` says.

    Raises:
        BundleRefused: the file is damaged, forged, or not a bundle; the message names the record and the reason.
        BundleNotFound: there is no file.
    """
    with open_bundle_file(path) as stream:
        archive = read_archive(stream)
        payload = read_payload_tree(read_pickle(archive.pickle))
        _check_storages(payload.tensors, archive)
        shapes = {name: spec.shape for name, spec in payload.tensors.items()}
        model, config = build_skeleton(payload.input_dim, payload.output_dim, payload.model_config, shapes)
        _check_dtypes(model, payload.tensors)
        digest = _sha256(stream)
        tensors = _read_tensors(stream, payload.tensors, map_location)
    _check_values(tensors)
    model.load_state_dict(tensors, strict=True, assign=True)
    model.requires_grad_(True)
    return Loaded(payload, model.eval(), config, digest)


def read_payload(path: Path, *, expect_sha256: str | None = None) -> dict[str, Any]:
    """The payload of a bundle file as the twelve keys of its format, every value fresh, tensors on the CPU.

    Args:
        path: the `.pt` file.
        expect_sha256: refuse any other content.

    Raises:
        BundleRefused: the file is damaged, forged, not a bundle, or not the expected one.
    """
    loaded = load_checked(path, "cpu")
    if expect_sha256 is not None and loaded.sha256 != expect_sha256:
        raise BundleRefused(f"{path}: sha-256 {loaded.sha256[:12]}…, expected {expect_sha256[:12]}…")
    payload = loaded.payload
    return {
        "state_dict": loaded.model.state_dict(),
        "task": payload.task,
        "target_column": payload.target_column,
        "input_dim": payload.input_dim,
        "output_dim": payload.output_dim,
        "class_names": payload.class_names,
        "vectorizer": payload.vectorizer,
        "scaler": payload.scaler,
        "feature_medians": payload.feature_medians,
        "label_encoder": payload.label_encoder,
        "target_scaler": payload.target_scaler,
        "model_config": loaded.model_config,
    }


def check_structure(path: Path) -> None:
    """Everything that `load_checked` checks but the bytes of the tensors: what a writer asks before it commits.

    Raises:
        BundleRefused: the file would not load.
    """
    with open_bundle_file(path) as stream:
        archive = read_archive(stream, check_crc=False)
        payload = read_payload_tree(read_pickle(archive.pickle))
        _check_storages(payload.tensors, archive)
        shapes = {name: spec.shape for name, spec in payload.tensors.items()}
        model, _ = build_skeleton(payload.input_dim, payload.output_dim, payload.model_config, shapes)
        _check_dtypes(model, payload.tensors)


def inspect_payload(path: Path) -> dict[str, Any]:
    """What a bundle file says of itself, from its checked pickle; no tensor is read and no model built.

    Raises:
        BundleRefused: the file is damaged, forged, or not a bundle.
    """
    with open_bundle_file(path) as stream:
        archive = read_archive(stream)
        payload = read_payload_tree(read_pickle(archive.pickle))
        _check_storages(payload.tensors, archive)
        digest = _sha256(stream)
    return {
        "sha256": digest,
        "task": payload.task,
        "target_column": payload.target_column,
        "class_names": payload.class_names,
        "input_dim": payload.input_dim,
        "output_dim": payload.output_dim,
        "model_config": payload.model_config,
        "feature_names": list(payload.vectorizer.feature_names_),
        "feature_medians": payload.feature_medians is not None,
        "tensors": {name: list(spec.shape) for name, spec in payload.tensors.items()},
        "devices": sorted({spec.storage.location for spec in payload.tensors.values()}),
        "written_with": payload.written_with,
    }


def _sha256(stream: BinaryIO) -> str:
    stream.seek(0)
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _check_storages(tensors: dict[str, TensorSpec], archive: Archive) -> None:
    """Every storage is a record of just its size, and every record is somebody's storage."""
    used: set[str] = set()
    for name, spec in tensors.items():
        stored = spec.storage
        dtype = _DTYPES.get(stored.storage.name)
        if dtype is None:
            raise BundleRefused(f"state_dict[{name!r}]: a {stored.storage.name}, expected float32 or int64")
        record = archive.storages.get(stored.key)
        if record is None:
            raise BundleRefused(f"state_dict[{name!r}]: its record data/{stored.key[:20]} is missing")
        if record.size != stored.numel * dtype.itemsize:
            expected = stored.numel * dtype.itemsize
            raise BundleRefused(f"record data/{stored.key}: {record.size} bytes, its tensor needs {expected}")
        if stored.key in used:
            raise BundleRefused(f"record data/{stored.key}: two tensors share it")
        used.add(stored.key)
    unused = sorted(set(archive.storages) - used)
    if unused:
        raise BundleRefused(f"record data/{unused[0]}: belongs to no tensor")


def _check_dtypes(model: nn.Module, tensors: dict[str, TensorSpec]) -> None:
    for name, tensor in model.state_dict().items():
        found = _DTYPES[tensors[name].storage.storage.name]
        if found != tensor.dtype:
            raise BundleRefused(f"state_dict[{name!r}]: {found}, the architecture has {tensor.dtype}")


def _read_tensors(stream: BinaryIO, specs: dict[str, TensorSpec], map_location: Any) -> dict[str, Tensor]:
    """Let `torch.load` read the storages of the plan from the very file that was checked."""
    plan = {spec.storage.key: spec.storage for spec in specs.values()}

    class StorageReader:
        """In the place of an unpickler: asks torch for each storage of the plan, and reads no pickle."""

        def __init__(self, *_: object, **__: object) -> None:
            self.persistent_load: Any = None

        def find_class(self, module: str, name: str) -> Any:
            raise BundleRefused(f"record data.pkl: names {module}.{name}")

        def load(self) -> dict[str, Any]:
            # torch's subclass of this turns the name of a storage into the type that its reader wants.
            return {
                key: self.persistent_load(
                    ("storage", self.find_class("torch", stored.storage.name), key, stored.location, stored.numel)
                )
                for key, stored in plan.items()
            }

    stream.seek(0)
    # weights_only=False lets torch take this unpickler instead of its own; the file's pickle isn't run by either.
    module = SimpleNamespace(Unpickler=StorageReader, __name__="closed")
    try:
        storages = torch.load(stream, map_location=map_location, pickle_module=module, weights_only=False)
    except RuntimeError as error:
        raise _device_refusal(specs, error) from None
    return {name: _tensor(storages[spec.storage.key], spec) for name, spec in specs.items()}


def _device_refusal(specs: dict[str, TensorSpec], error: RuntimeError) -> BundleRefused:
    devices = sorted({spec.storage.location for spec in specs.values()})
    first = str(error).split("\n", 1)[0].split(". ", 1)[0][:200]
    if devices != ["cpu"]:
        return BundleRefused(
            f"the tensors were saved on {', '.join(devices)[:80]}, which this machine doesn't have: "
            f'load the bundle with map_location="cpu" ({first})'
        )
    return BundleRefused(f"torch can't read the tensors: {first}")


def _tensor(storage: Any, spec: TensorSpec) -> Tensor:
    """A tensor over a storage, contiguous whatever its strides were."""
    dtype = _DTYPES[spec.storage.storage.name]
    untyped = storage._untyped_storage  # untyped() warns of the wrapper that torch.load itself still makes
    tensor = torch.empty(0, dtype=dtype, device=untyped.device)
    return tensor.set_(untyped, spec.offset, spec.shape, spec.stride).contiguous()


def _check_values(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not tensor.numel():
            raise BundleRefused(f"state_dict[{name!r}]: is empty")
        if tensor.is_floating_point():
            low, high = (bound.item() for bound in torch.aminmax(tensor))
            if not (torch.isfinite(torch.tensor([low, high])).all()):
                raise BundleRefused(f"state_dict[{name!r}]: holds NaN or an infinity")
            if name.endswith("running_var") and low < 0:
                raise BundleRefused(f"state_dict[{name!r}]: holds a negative variance")
        elif tensor.min().item() < 0:
            raise BundleRefused(f"state_dict[{name!r}]: holds a negative count")
