"""Reading a bundle file without believing it: zip, pickle, schema, architecture, then the tensors.

1. `bundle_file`, `zip_reader`: the file is a zip exactly as `torch.save` writes one.
2. `pickle_reader`: its pickle is read by a machine that runs nothing.
3. `schema`: fresh objects are made from plain data; sizes agree.
4. `skeleton`: the architecture is built on `meta`, bounded by the tensors that are really there.
5. `tensor_reader`: `torch.load` reads the tensors, and is given nothing of the file but their bytes.

`weights_only=True` with an allow-list isn't used on the file itself: with numpy's `dtype` and `ndarray` allowed it is
memory-unsafe, and `safe_globals` is process-global, so that good files fail under threads. What we write can still be
read that way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ai.ml.core.errors import BundleRefused, UsageError
from ai.ml.frameworks.pytorch.models.piecewise import check_embedding
from ai.ml.frameworks.pytorch.serialization.bundle_file import BundleFile
from ai.ml.frameworks.pytorch.serialization.pickle_reader import read_pickle
from ai.ml.frameworks.pytorch.serialization.schema import Payload, TensorSpec, read_payload_tree
from ai.ml.frameworks.pytorch.serialization.skeleton import build_skeleton
from ai.ml.frameworks.pytorch.serialization.tensor_reader import STORAGE_DTYPES, file_sha256, read_tensors
from ai.ml.frameworks.pytorch.serialization.zip_reader import Archive, read_archive


@dataclass(frozen=True)
class Loaded:
    """A checked file: fresh parts, and a model in `eval()` that holds its tensors."""

    payload: Payload
    model: nn.Module
    model_config: dict[str, Any]
    """Complete, also where the file's isn't."""
    sha256: str
    """Of the very bytes that were read."""


@dataclass(frozen=True)
class _Plan:
    """All of a file but the bytes of its tensors."""

    archive: Archive
    payload: Payload
    skeleton: nn.Module
    model_config: dict[str, Any]


def load_checked(path: Path, map_location: Any = None, *, expect_sha256: str | None = None) -> Loaded:
    """Read and check a bundle file, and build its model on the device of `map_location`.

    Raises:
        BundleRefused: the file is damaged, forged, not a bundle, or not the expected one; the message names the record
            and the reason.
        BundleNotFound: there is no file.
        UsageError: `map_location` asks for a device that isn't here, or for `meta`.
        StorageFailed: the disk failed.
    """
    with BundleFile(path) as file:
        plan = _read_plan(file)
        tensors, sha256 = read_tensors(plan.archive, plan.payload.tensors, map_location)
    if expect_sha256 is not None and sha256 != expect_sha256:
        raise BundleRefused(f"{path}: sha-256 {sha256[:12]}…, expected {expect_sha256[:12]}…")
    _check_values(tensors)
    model = plan.skeleton
    model.load_state_dict(tensors, strict=True, assign=True)
    try:
        check_embedding(model, plan.payload.input_dim)
    except ValueError as error:
        raise BundleRefused(f"state_dict: {error}") from None
    return Loaded(plan.payload, model.requires_grad_(True).eval(), plan.model_config, sha256)


def check_structure(path: Path) -> None:
    """All checks of `load_checked` except for the tensors' bytes: a writer runs them before it commits.

    Raises:
        BundleRefused: the file would not load.
    """
    with BundleFile(path) as file:
        _read_plan(file)


def inspect_payload(path: Path) -> dict[str, Any]:
    """The description in a bundle file, read statically; no tensor and no model is built.

    Raises:
        BundleRefused: the file is damaged, forged, or not a bundle.
        BundleNotFound: there is no file.
    """
    with BundleFile(path) as file:
        plan = _read_plan(file)
        digest = file_sha256(plan.archive)
    payload = plan.payload
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


def _read_plan(file: BundleFile) -> _Plan:
    archive = read_archive(file)
    payload = read_payload_tree(read_pickle(archive.pickle))
    _check_storages(payload.tensors, archive)
    shapes = {name: spec.shape for name, spec in payload.tensors.items()}
    skeleton, config = build_skeleton(payload.input_dim, payload.output_dim, payload.model_config, shapes)
    for name, tensor in skeleton.state_dict().items():
        found = _dtype(payload.tensors[name])
        if found != tensor.dtype:
            raise BundleRefused(f"state_dict[{name!r}]: {found}, the architecture has {tensor.dtype}")
    return _Plan(archive, payload, skeleton, config)


def _dtype(spec: TensorSpec) -> torch.dtype:
    return STORAGE_DTYPES[spec.storage.storage.name]


def _check_storages(tensors: dict[str, TensorSpec], archive: Archive) -> None:
    """Every storage is a record of just its size, and every record is one tensor's storage."""
    used: set[str] = set()
    for name, spec in tensors.items():
        key, needed = spec.storage.key, spec.storage.numel * _dtype(spec).itemsize
        record = archive.storages.get(key)
        if record is None:
            raise BundleRefused(f"state_dict[{name[:80]!r}]: its record data/{key[:20]} is missing")
        if record.size != needed:
            raise BundleRefused(f"record data/{key}: {record.size} bytes, its tensor needs {needed}")
        if key in used:
            raise BundleRefused(f"record data/{key}: two tensors share it")
        used.add(key)
    unused = sorted(set(archive.storages) - used)
    if unused:
        raise BundleRefused(f"record data/{unused[0]}: belongs to no tensor")


def _check_values(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise UsageError("map_location: a model on meta has no weights; say where they shall be")
        low, high = torch.stack(torch.aminmax(tensor)).tolist()
        if tensor.is_floating_point() and not -float("inf") < low <= high < float("inf"):
            raise BundleRefused(f"state_dict[{name!r}]: holds NaN or an infinity")
        if low < 0 and (name.endswith("running_var") or not tensor.is_floating_point()):
            raise BundleRefused(f"state_dict[{name!r}]: holds {low:g}, expected nothing below 0")
