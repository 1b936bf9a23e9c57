"""Small real bundles and tables for the tests, made without the trainer so that a fault there can't hide here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import LabelEncoder, StandardScaler

from ai.ml.core.bundle_dir import BUNDLE_NAME, write_manifest
from ai.ml.core.types import ModelBundle, TaskType
from ai.ml.frameworks.pytorch.models.networks import PIECEWISE_MODES, build_model
from ai.ml.frameworks.pytorch.models.piecewise import find_bins, set_bins
from ai.ml.frameworks.pytorch.serialization import save_bundle

CITIES = ("Oslo", "Łódź", "São Paulo", "New York")
PLANS = ("basic", "plus", "pro")
N_BINS = 4


def tiny_rows(n_rows: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with two numbers and two categories, nothing missing."""
    rng = np.random.default_rng(seed)
    return [
        {
            "age": float(rng.integers(18, 90)),
            "income": float(np.round(rng.lognormal(10, 1), 2)),
            "city": str(rng.choice(CITIES)),
            "plan": str(rng.choice(PLANS)),
        }
        for _ in range(n_rows)
    ]


def mixed_table(n_rows: int = 300, seed: int = 0, task: TaskType = "classification") -> pa.Table:
    """A raw table as it comes from a file: numbers, categories, a date, missing cells and a learnable target `y`."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n_rows).astype(float)
    income = np.round(rng.lognormal(10, 1, n_rows), 2)
    city = rng.choice(CITIES, n_rows)
    plan = rng.choice(PLANS, n_rows)
    days = rng.integers(0, 1500, n_rows)
    signal = (age - 50) / 20 + (city == "Oslo") * 1.5 - (plan == "pro") + 0.3 * rng.normal(size=n_rows)
    target = np.where(signal > 0, "yes", "no") if task == "classification" else np.round(100 + 25 * signal, 3)
    holes = rng.random((4, n_rows)) < 0.05

    def with_holes(values: np.ndarray, hole: np.ndarray) -> list[Any]:
        return [None if missing else value for value, missing in zip(values.tolist(), hole, strict=True)]

    return pa.table(
        {
            "age": pa.array(with_holes(age, holes[0]), pa.float64()),
            "income": pa.array(with_holes(income, holes[1]), pa.float64()),
            "city": pa.array(with_holes(city, holes[2]), pa.string()),
            "plan": pa.array(with_holes(plan, holes[3]), pa.string()),
            "signup": pa.array((np.datetime64("2020-01-01") + days).astype("datetime64[D]"), pa.date32()),
            "y": pa.array(target.tolist()),
        }
    )


def tiny_bundle(
    task: TaskType = "classification",
    training_mode: str = "mlp_dense",
    *,
    n_classes: int = 3,
    hidden_dim: int = 8,
    num_hidden_layers: int = 2,
    dropout: float = 0.1,
    sparse: bool = False,
    seed: int = 0,
) -> ModelBundle:
    """A bundle with random weights and batch-norm statistics, fitted preprocessing, in `eval()`."""
    rows = tiny_rows(60, seed)
    vectorizer = DictVectorizer(sparse=sparse)
    encoded = vectorizer.fit_transform(rows)
    matrix = np.asarray(encoded.todense() if sparse else encoded, dtype=np.float64)
    scaler = StandardScaler().fit(matrix)
    input_dim = matrix.shape[1]
    output_dim = n_classes if task == "classification" else 1

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        columns, edges = find_bins(scaler.transform(matrix), N_BINS)
        shape = {"n_num": len(columns), "n_bins": N_BINS, "d_emb": 3} if training_mode in PIECEWISE_MODES else {}
        shape |= {"k": 2} if training_mode == "tabm" else {}
        model = build_model(input_dim, output_dim, training_mode, hidden_dim, num_hidden_layers, dropout, **shape)
        if shape:
            set_bins(model, columns, edges)
            model.embedding.curve.data.normal_()
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn_like(buffer) * 0.1)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    model.eval()

    classes = [f"class {i}" for i in range(n_classes)]
    targets = np.random.default_rng(seed).normal(200, 30, (60, 1))
    is_classification = task == "classification"
    return ModelBundle(
        model=model,
        task=task,
        vectorizer=vectorizer,
        scaler=scaler,
        feature_medians=np.median(matrix, axis=0),
        label_encoder=LabelEncoder().fit(classes) if is_classification else None,
        target_scaler=None if is_classification else StandardScaler().fit(targets),
        target_column="y",
        input_dim=input_dim,
        output_dim=output_dim,
        class_names=classes if is_classification else None,
        model_config=None,
    )


def bare_bundle(folder: Path, seed: int = 0) -> Path:
    """The file of a bundle without contract, evidence and manifest."""
    path = folder / BUNDLE_NAME
    save_bundle(tiny_bundle(seed=seed), path)
    return path


def sealed_tiny(folder: Path, seed: int = 0) -> tuple[Path, str]:
    """A directory with a manifest and no evidence, and its digest: a store asks for no more, and nothing is trained."""
    save_bundle(tiny_bundle(seed=seed), folder)
    (folder / "evidence").mkdir(exist_ok=True)
    (folder / "evidence" / "rows.txt").write_text(f"rows {seed}")
    digest = write_manifest(folder, model={}, scoring={}, contract=None, evidence=None, lineage={"seed": seed})
    return folder, digest
