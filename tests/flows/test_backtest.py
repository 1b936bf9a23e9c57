"""A backtest whose process is killed goes on where it was, as a flow and without Prefect, to the same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import mixed_table
from conftest import PATIENCE_S, ROOT
from prefect_cli import ask_server, python_of
from waiting import until

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.store.store import Store

# A loaded machine takes its time for a dozen processes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

SETTINGS = ["--name", "m", "--target", "y", "--mode", "mlp_dense", "--order-by", "signup", "--exclude", "signup"]
SETTINGS += ["--epochs", "8", "--origins", "2", "--policies", "better", "not-worse:50%", "--json"]
Result = tuple[int, dict[str, Any], str]


def start(folder: Path, words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    told = [*words, "--data", str(folder / "table.parquet"), "--store", str(folder / "store"), *SETTINGS]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(told, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, text=True, **streams)


def killed(process: subprocess.Popen[str], sign: Path) -> None:
    """SIGKILL once a file is there."""
    try:
        until(lambda: any(sign.parent.glob(sign.name)), process=process)
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> Result:
    try:
        out, said = process.communicate(timeout=PATIENCE_S * 2)
    finally:
        process.kill()
    assert out.startswith("{"), said
    summary = json.loads(out)
    assert summary["exit_code"] == process.returncode
    return process.returncode, summary, said


def found(folder: Path, place: str) -> Path:
    return folder / "store" / "m" / "work" / "backtest" / place


def weights(summary: dict[str, Any]) -> list[bytes]:
    """Of each origin, as its bundle has them."""
    folders = [Path(origin["proved"]["candidate"]["bundle"]["path"]) for origin in summary["origins"]]
    return [(folder / "model_bundle.pt").read_bytes() for folder in folders]


@pytest.fixture(scope="module")
def by_flow(
    tmp_path_factory: pytest.TempPathFactory, prefect_environment: dict[str, str]
) -> tuple[Path, Result, dict[str, str]]:
    """A run whose parent was killed after its first training, and the one that went on from there."""
    folder = tmp_path_factory.mktemp("flow")
    write_table(mixed_table(260, seed=6), folder / "table.parquet")
    own = prefect_environment | {"PREFECT_LOCAL_STORAGE_PATH": str(folder / "results")}
    words = [python_of(own), "-m", "flows.backtest", "--parallel", "1"]
    # The larger one goes first; a verdict lies there after the training's record is stored.
    killed(start(folder, words, own), found(folder, "origins/origin-002/work/verdict-*.json"))
    return folder, ended(start(folder, words, own)), own


@pytest.mark.processor_seconds(60)
def test_a_killed_flow_goes_on_and_its_origins_are_sub_runs(by_flow: tuple[Path, Result, dict[str, str]]) -> None:
    folder, (code, summary, said), environment = by_flow
    assert code == 0, said
    assert "origin-001  trained" in said
    assert "origin-002  trained" not in said, "the training was done again"
    assert [origin["outcome"] for origin in summary["origins"]] == ["PROVED", "PROVED"]
    assert [course["name"] for course in summary["courses"]][:2] == ["better", "not-worse:50%"]
    url = environment["PREFECT_API_URL"]
    runs = [ask_server("GET", f"{url}/flow_runs/{origin['flow_run']}").json() for origin in summary["origins"]]
    assert [run["state"]["type"] for run in runs] == ["COMPLETED"] * 2
    above = {ask_server("GET", f"{url}/task_runs/{run['parent_task_run_id']}").json()["flow_run_id"] for run in runs}
    (parent,) = above
    wanted = {"artifacts": {"flow_run_id": {"any_": [parent]}}}
    tables = ask_server("POST", f"{url}/artifacts/filter", json=wanted).json()
    (table,) = [artifact for artifact in tables if artifact["key"] == "m-backtest"]
    assert len(json.loads(table["data"])) == len(summary["courses"])
    assert table["description"] == summary["sentence"]
    assert Path(summary["report"]["path"]).is_file()
    assert Store(folder / "store").champion("m") is None


@pytest.mark.processor_seconds(70)
def test_without_prefect_killed_at_three_moments_it_ends_the_same(
    tmp_path: Path, by_flow: tuple[Path, Result, dict[str, str]]
) -> None:
    """In a training, between two of them, and while policies decide."""
    _, (_, summary, _), _ = by_flow
    write_table(mixed_table(260, seed=6), tmp_path / "table.parquet")
    words = [str(Path(sys.executable).with_name("bundlegate")), "backtest", "--no-prefect"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for sign in (
        "origins/origin-001/work/candidate-*.epochs",
        "origins/origin-002/work/data-*.parquet",
        "policies/better/m/champion",
    ):
        killed(start(tmp_path, words, environment), found(tmp_path, sign))
    code, own, said = ended(start(tmp_path, words, environment))
    assert code == 0, said
    assert "trained" not in said
    assert weights(own) == weights(summary)
    assert own["courses"] == summary["courses"]
    assert own["sentence"] == summary["sentence"]
