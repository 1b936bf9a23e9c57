"""The champion in an MLflow registry, and back through `mlflow.pyfunc` in another process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from builders import mixed_table, sealed_tiny
from bundles import sealed
from verdict_samples import passed_verdict

from ai.ml.core.bundle_dir import bundle_digest
from ai.ml.frameworks.pytorch.inference.scorer import Scorer
from ai.ml.frameworks.pytorch.serialization import load_bundle
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.store.store import Store

PUBLISH_AGAIN_LOAD_AND_DAMAGE = """
import json, sys
from pathlib import Path
from ai.ml.core.errors import BundleRefused, StorageFailed
from ai.ml.retraining.batch.pinned import prove_pinned
from ai.ml.retraining.integrations.mlflow_registry import publish_champion
from ai.ml.retraining.store.store import Store
uri, told = sys.argv[1], {}
again = publish_champion(Store("store"), "m", uri)
told["again"] = [again.version, again.already]
try:
    publish_champion(Store("store"), "m", "nonsense://x")
except StorageFailed as failure:
    told["nonsense"] = str(failure)
import mlflow, pyarrow.parquet
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model("models:/m@champion")
model.predict(pyarrow.parquet.read_table("rows.parquet").to_pandas()).to_parquet("answers.parquet")
told["training"] = model.unwrap_python_model()._proven.bundle.model.training
file = next(Path("mlruns").rglob("model_bundle.pt"))
content = bytearray(file.read_bytes())
content[len(content) // 2] ^= 1
file.write_bytes(content)
prove_pinned.cache_clear()
try:
    mlflow.pyfunc.load_model("models:/m@champion")
except BundleRefused as refused:
    told["damaged"] = str(refused)
print(json.dumps(told))
"""


@pytest.mark.slow
def test_the_champion_comes_back_through_pyfunc_with_the_same_bits(tmp_path: Path) -> None:
    bundle_dir = sealed(tmp_path / "bundle")
    digest = bundle_digest(bundle_dir)
    store = Store(tmp_path / "store")
    store.promote("m", bundle_dir, passed_verdict(digest), decision={"reason": "the first"})
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    command = [
        sys.executable,
        "-m",
        "ai.ml.retraining.commands.cli",
        "publish",
        "m",
        "--mlflow",
        uri,
        "--store",
        "store",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"m: {digest[:12]} is registered as version 1, alias champion\n"

    table = mixed_table(150, seed=9).drop_columns(["y"])
    pq.write_table(table, tmp_path / "rows.parquet")
    command = [sys.executable, "-c", PUBLISH_AGAIN_LOAD_AND_DAMAGE, uri]
    loaded = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    told = json.loads(loaded.stdout.splitlines()[-1])
    assert told["again"] == ["1", True]
    assert told["training"] is False
    assert "publishing to MLflow at nonsense://x failed" in told["nonsense"]
    assert "model_bundle.pt has changed" in told["damaged"]
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


def test_what_can_not_be_published_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["publish", "m", "--mlflow", "sqlite:///m.db", "--store", str(tmp_path / "store")]
    assert main(command) == 2
    assert "nothing was promoted" in capsys.readouterr().err
    bundle_dir, digest = sealed_tiny(tmp_path / "bundle")
    Store(tmp_path / "store").promote("m", bundle_dir, passed_verdict(digest), decision={"reason": "the first"})
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main(command) == 2
    said = capsys.readouterr().err
    assert (said.count("\n"), "bundlegate[mlflow]" in said) == (1, True)


def test_a_tracking_database_without_its_packages_is_one_sentence(tmp_path: Path) -> None:
    bundle_dir, digest = sealed_tiny(tmp_path / "bundle")
    Store(tmp_path / "store").promote("m", bundle_dir, passed_verdict(digest), decision={"reason": "the first"})
    script = (
        "import sys\n"
        "from ai.ml.retraining.commands.cli import main\n"
        "from ai.ml.retraining.integrations import mlflow_registry\n"
        "mlflow_registry.DATABASE_PACKAGES = ('sqlalchemy', 'not_installed_here')\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "publish", "m", "--mlflow", "sqlite:///m.db", "--store", "store"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "MLflow in a database (sqlite) needs not_installed_here: pip install" in done.stderr
