"""Save and load bundles of three sizes, against the disk alone and against other formats, in one run.

    python benchmarks/bundle_io.py                      # 100 kB, 10 MB, 1 GB
    python benchmarks/bundle_io.py --sizes 100kB 10MB

Each measurement is a process of its own, so that its peak memory is its own; the best of `--repeats` counts. Pages are
in the cache when a file is read. Baselines: for saving, the same bytes written, hashed and fsynced; for loading,
`torch.load` (which believes the file) and then a sha-256 of it. safetensors holds the tensors alone; skops the
preprocessing alone; so neither holds a whole bundle. Parts whose library isn't installed are left out and named.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import LabelEncoder, StandardScaler

from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.models.networks import build_model
from ai.ml.frameworks.pytorch.serialization import load_bundle
from ai.ml.frameworks.pytorch.serialization.save import encode_bundle, save_bundle

HIDDEN_DIMS = {"100kB": 128, "10MB": 1550, "1GB": 15_800}
"""Two hidden layers: about as many bytes as the name says."""


def bundle_of(size: str) -> ModelBundle:
    """A classifier of 40 features with that many bytes."""
    rng = np.random.default_rng(0)
    rows = [{f"c{i}": f"level {rng.integers(4)}" for i in range(10)} for _ in range(200)]
    vectorizer = DictVectorizer(sparse=False)
    matrix = vectorizer.fit_transform(rows)
    classes = [f"class {i}" for i in range(3)]
    model = build_model(matrix.shape[1], 3, "mlp_dense", HIDDEN_DIMS[size], 2, 0.0).eval()
    return ModelBundle(
        model=model,
        task="classification",
        vectorizer=vectorizer,
        scaler=StandardScaler().fit(matrix),
        feature_medians=np.median(matrix, axis=0),
        label_encoder=LabelEncoder().fit(classes),
        target_scaler=None,
        target_column="y",
        input_dim=matrix.shape[1],
        output_dim=3,
        class_names=classes,
    )


def _raw_write(folder: Path, bundle: ModelBundle) -> Callable[[], Any]:
    content = encode_bundle(bundle)

    def write() -> None:
        with (folder / "raw.bin").open("wb") as stream:
            view = memoryview(content)
            digest = hashlib.sha256()
            for start in range(0, len(view), 1 << 20):
                digest.update(view[start : start + (1 << 20)])
                stream.write(view[start : start + (1 << 20)])
            stream.flush()
            os.fsync(stream.fileno())

    return write


def _torch_save(folder: Path, bundle: ModelBundle) -> Callable[[], Any]:
    return lambda: torch.save({**vars(bundle), "model": bundle.model.state_dict()}, folder / "torch.pt")


def _safetensors_save(folder: Path, bundle: ModelBundle) -> Callable[[], Any]:
    from safetensors.torch import save_file

    return lambda: save_file(bundle.model.state_dict(), folder / "weights.safetensors")


def _skops_save(folder: Path, bundle: ModelBundle) -> Callable[[], Any]:
    import skops.io

    parts = [bundle.vectorizer, bundle.scaler, bundle.label_encoder]
    return lambda: skops.io.dump(parts, folder / "parts.skops")


def _raw_read(folder: Path, _: Any) -> Callable[[], Any]:
    return lambda: _sha256(folder / "bundle" / "model_bundle.pt")


def _torch_load(folder: Path, _: Any) -> Callable[[], Any]:
    return lambda: torch.load(folder / "bundle" / "model_bundle.pt", weights_only=False)


def _torch_load_and_hash(folder: Path, _: Any) -> Callable[[], Any]:
    path = folder / "bundle" / "model_bundle.pt"
    return lambda: (torch.load(path, weights_only=False), _sha256(path))


def _safetensors_load(folder: Path, _: Any) -> Callable[[], Any]:
    from safetensors.torch import load_file

    return lambda: load_file(folder / "weights.safetensors")


def _skops_load(folder: Path, _: Any) -> Callable[[], Any]:
    import skops.io

    return lambda: skops.io.load(folder / "parts.skops", trusted=[])


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# Name: (what it does, whether it needs the live bundle, the library it needs)
SAVES: dict[str, tuple[Callable[[Path, Any], Callable[[], Any]], str | None]] = {
    "raw write, hash, fsync": (_raw_write, None),
    "save_bundle": (lambda folder, bundle: lambda: save_bundle(bundle, folder / "bundle"), None),
    "torch.save": (_torch_save, None),
    "safetensors": (_safetensors_save, "safetensors"),
    "skops, without weights": (_skops_save, "skops"),
}
LOADS: dict[str, tuple[Callable[[Path, Any], Callable[[], Any]], str | None]] = {
    "raw read, hash": (_raw_read, None),
    "torch.load": (_torch_load, None),
    "torch.load, hash": (_torch_load_and_hash, None),
    "load_bundle": (lambda folder, _: lambda: load_bundle(folder / "bundle" / "model_bundle.pt"), None),
    "safetensors": (_safetensors_load, "safetensors"),
    "skops, without weights": (_skops_load, "skops"),
}


def measure(kind: str, name: str, size: str, folder: Path, repeats: int) -> dict[str, float]:
    """Seconds and peak bytes above those before, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (kind, name, size, folder, repeats))


def _measure(kind: str, name: str, size: str, folder: Path, repeats: int) -> dict[str, float]:
    torch.set_num_threads(1)
    bundle = bundle_of(size) if kind == "save" else None
    act = (SAVES if kind == "save" else LOADS)[name][0](folder, bundle)
    if kind == "load":
        load_bundle(folder / "warm" / "model_bundle.pt")  # imports aren't what is measured
        torch.load(folder / "warm" / "model_bundle.pt", weights_only=False)
    before, seconds, peak = _resident(), float("inf"), 0
    for _ in range(repeats):
        Path("/proc/self/clear_refs").write_text("5")
        start = time.perf_counter()
        result = act()
        seconds = min(seconds, time.perf_counter() - start)
        peak = max(peak, _peak() - before)
        del result
    return {"seconds": seconds, "peak_bytes": peak}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def run(size: str, folder: Path, repeats: int) -> dict[str, Any]:
    """All ways, on one size; prints as it goes."""
    path = save_bundle(bundle_of(size), folder / "bundle")
    save_bundle(bundle_of("100kB"), folder / "warm")
    n_bytes = path.stat().st_size
    print(f"\n{size}: {n_bytes:,} bytes")
    result: dict[str, Any] = {"bytes": n_bytes}
    for kind, ways, baseline in (("save", SAVES, "raw write, hash, fsync"), ("load", LOADS, "torch.load, hash")):
        found: dict[str, dict[str, float]] = {}
        for name, (_, library) in ways.items():
            if library is not None and importlib.util.find_spec(library) is None:
                print(f"  {kind:5} {name:28} left out: {library} isn't installed")
                continue
            found[name] = measure(kind, name, size, folder, repeats)
        for name, figures in found.items():
            figures["ratio"] = figures["seconds"] / found[baseline]["seconds"]
            figures["peak_share"] = figures["peak_bytes"] / n_bytes
            print(
                f"  {kind:5} {name:28} {figures['seconds'] * 1e3:10,.1f} ms {figures['ratio']:6.2f} x {baseline!r}"
                f"  peak {figures['peak_bytes'] / 2**20:8,.1f} MiB ({figures['peak_share']:.2f} x the bundle)"
            )
        result[kind] = found
    return result


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=sorted(HIDDEN_DIMS), default=list(HIDDEN_DIMS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--output", type=Path, help="JSON file")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            results[size] = run(size, Path(folder), arguments.repeats)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
