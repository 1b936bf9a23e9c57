"""What somebody has who installs the wheel, without a checkout: the flows in a folder of their own, and no Prefect."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from builders import mixed_table
from conftest import PATIENCE_S
from installed import build_wheel, install
from prefect_cli import ask_server

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.store.store import Store

pytestmark = pytest.mark.slow(35)
SMALL = ["--epochs", "2", "--hidden-dim", "4", "--mode", "mlp_dense", "--no-report"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def own_folder(place: Path) -> list[str]:
    """A table and nothing else; the flags that name it."""
    place.mkdir()
    table = mixed_table(160, seed=3)
    write_table(table, place / "t.csv")
    return ["--data", "t.csv", "--target", table.column_names[-1], "--name", "n"]


def call(python: Path, folder: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """A module of that environment, as its own script would start it."""
    clean = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [python, "-P", "-m", *words],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
    )


def test_the_plain_wheel_retrains_without_prefect(wheel: Path, tmp_path: Path) -> None:
    python, folder = install(wheel, tmp_path / "environment", without=("prefect",)), tmp_path / "mine"
    table = own_folder(folder)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    refused = call(python, folder, environment, "bundlegate", "retrain", *table)
    assert refused.returncode == 2
    assert "pip install 'bundlegate[flows]'" in refused.stderr
    assert "--no-prefect" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (folder / ".bundlegate").exists()

    done = call(python, folder, environment, "bundlegate", "retrain", *table, *SMALL, "--no-prefect")
    assert done.returncode == 0, done.stderr
    assert Store(folder / ".bundlegate" / "store").champion("n") is not None
    proved = call(python, folder, environment, "bundlegate", "validate", "--bundle", "n@champion", "--no-prefect")
    assert proved.returncode == 0, proved.stderr
    words = ["--bundle", "n@champion", "--input", "t.csv", "--output", "scored.csv"]
    scored = call(python, folder, environment, "bundlegate", "batch-predict", *words, "--no-prefect")
    assert scored.returncode == 0, scored.stderr
    assert (folder / "scored.csv").is_file()


@pytest.mark.processor_seconds(70)
def test_the_flows_run_and_deploy_from_the_wheel_in_a_folder_of_ones_own(
    wheel: Path, tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    python, folder = install(wheel, tmp_path / "environment"), tmp_path / "mine"
    table = own_folder(folder)

    done = call(python, folder, prefect_environment, "bundlegate", "retrain", *table, *SMALL)
    assert done.returncode == 0, done.stderr
    store = Store(folder / ".bundlegate" / "store")
    assert len(store.history("n")) == 1

    written = call(python, folder, prefect_environment, "bundlegate", "init", ".", *table)
    assert written.returncode == 0, written.stderr
    settings = folder / "retrain.toml"
    text = settings.read_text(encoding="utf-8").replace("# epochs = 500", "epochs = 2")
    settings.write_text(text.replace("# enabled = true", "enabled = false"), encoding="utf-8")
    (deployment,) = yaml.safe_load((folder / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert deployment["entrypoint"] == "bundlegate.flows.retrain.retrain"

    for words in (
        ["work-pool", "create", "bundlegate", "--type", "process", "--overwrite"],
        ["--no-prompt", "deploy", "--all"],
        ["deployment", "run", "retrain/n-nightly"],
        ["worker", "start", "--pool", "bundlegate", "--run-once"],
    ):
        run = call(python, folder, prefect_environment, "prefect", *words)
        assert run.returncode == 0, run.stdout + run.stderr
    query = {"deployments": {"name": {"any_": ["n-nightly"]}}, "flows": {"name": {"any_": ["retrain"]}}}
    url = f"{prefect_environment['PREFECT_API_URL']}/flow_runs/filter"
    states = [found["state"]["type"] for found in ask_server("POST", url, json=query).json() if found["start_time"]]
    assert states == ["COMPLETED"]
    assert len(store.history("n")) == 2
