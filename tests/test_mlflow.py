"""The champion in an MLflow registry, and back through `mlflow.pyfunc` in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from builders import mixed_table
from sealed_bundles import sealed
from verdict_samples import passed_verdict

from ai.ml.core.manifest import bundle_digest
from ai.ml.frameworks.pytorch.inference import Scorer
from ai.ml.frameworks.pytorch.serialization import load_bundle
from ai.ml.retraining.store import Store

LOAD_AND_SCORE = """
import json, os, sys
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import mlflow, pandas, pyarrow.parquet, numpy
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_registry_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/m@champion")
answers = model.predict(pyarrow.parquet.read_table("rows.parquet").to_pandas())
answers.to_parquet("answers.parquet")
inner = model.unwrap_python_model()._proven.bundle.model
print(json.dumps({"training": inner.training}))
"""


def bundlegate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ai.ml.retraining.cli", *arguments, "--store", "store"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_the_champion_comes_back_through_pyfunc_with_the_same_bits(tmp_path: Path) -> None:
    bundle_dir = sealed(tmp_path / "bundle")
    digest = bundle_digest(bundle_dir)
    store = Store(tmp_path / "store")
    store.promote("m", bundle_dir, passed_verdict(digest), decision={"reason": "the first"})
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for said in ("is registered as", "is there already as"):
        done = bundlegate(tmp_path, "publish", "m", "--mlflow", uri)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"m: {digest[:12]} {said} version 1, alias champion\n"

    table = mixed_table(150, seed=9).drop_columns(["y"])
    pq.write_table(table, tmp_path / "rows.parquet")
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD_AND_SCORE, uri], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert loaded.returncode == 0, loaded.stderr
    assert json.loads(loaded.stdout.splitlines()[-1]) == {"training": False}
    answers = pq.read_table(tmp_path / "answers.parquet")
    scorer = Scorer(load_bundle(bundle_dir / "model_bundle.pt"), device="cpu")
    expected = scorer.score_table(table)
    shares = scorer.probabilities(expected.raw)
    assert answers["y_predicted"].to_pylist() == expected.decoded.tolist()
    for index, name in enumerate(scorer.bundle.class_names or []):
        got = answers[f"y_probability_{name}"].to_numpy()
        assert np.array_equal(got.view(np.uint64), np.ascontiguousarray(shares[:, index]).view(np.uint64))

    kept = [path for path in (tmp_path / "mlruns").rglob("*") if path.is_file()]
    names = {path.name for path in kept}
    assert {"verdict.json", "promotion.json", "probes.parquet", "manifest.json", "mlflow_code.py"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle"))], "a class of ours was pickled"
    assert json.loads(next(path for path in kept if path.name == "verdict.json").read_bytes())["digest"] == digest

    damaged = next(path for path in kept if path.name == "model_bundle.pt")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    refused = subprocess.run(
        [sys.executable, "-c", LOAD_AND_SCORE, uri], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert refused.returncode != 0
    assert "BundleRefused" in refused.stderr
    assert "model_bundle.pt has changed" in refused.stderr


@pytest.mark.slow
def test_what_can_not_be_published_is_one_sentence(tmp_path: Path) -> None:
    nobody = bundlegate(tmp_path, "publish", "m", "--mlflow", "sqlite:///m.db")
    assert (nobody.returncode, nobody.stderr.count("\n")) == (6, 1), nobody.stderr
    bundle_dir = sealed(tmp_path / "bundle")
    store = Store(tmp_path / "store")
    store.promote("m", bundle_dir, passed_verdict(bundle_digest(bundle_dir)), decision={"reason": "the first"})
    where = bundlegate(tmp_path, "publish", "m", "--mlflow", "nonsense://x")
    assert where.returncode == 74
    assert "publishing to MLflow at nonsense://x failed" in where.stderr
    hidden = tmp_path / "without"
    hidden.mkdir()
    (hidden / "mlflow.py").write_text("raise ImportError('no mlflow')")
    missing = subprocess.run(
        [sys.executable, "-m", "ai.ml.retraining.cli", "publish", "m", "--mlflow", "x", "--store", "store"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(hidden)},
        capture_output=True,
        text=True,
    )
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "bundlegate[mlflow]" in missing.stderr
