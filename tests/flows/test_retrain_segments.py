"""Many sub-runs at once, as real processes under a real server: their number, their failures, and what stops them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import mixed_table
from conftest import PATIENCE_S, ROOT, SUPPORT
from prefect_cli import ask_server, python_of
from waiting import until

from ai.ml.core.files.atomic import is_alive
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.runs.work_folder import locked_work_dir
from ai.ml.retraining.store.store import Store

# A loaded machine takes its time for a dozen processes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def table_of(folder: Path, rows: dict[str, int]) -> Path:
    """A table with so many rows for each value of `c`; the first ones are the same however many there are."""
    table = mixed_table(500, seed=5).slice(0, sum(rows.values()))
    column = [value for value, count in rows.items() for _ in range(count)]
    path = folder / "table.parquet"
    write_table(table.append_column("c", pa.array(column)), path)
    return path


def start(environment: dict[str, str], script: list[str], folder: Path, *arguments: str) -> subprocess.Popen[str]:
    told = ["--name", "m", "--target", "y", "--data", str(folder / "table.parquet"), "--store", str(folder / "store")]
    (folder / "store").mkdir(exist_ok=True)
    return subprocess.Popen(
        [python_of(environment), *script, *told, "--segments", "c", "--json", *arguments],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), str(SUPPORT)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


SMALL, REAL = [str(SUPPORT / "small_flows.py")], ["-m", "flows.retrain"]


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, dict[str, Any]], str]:
    """Exit code, the segments by model, and what was said."""
    out, said = process.communicate(timeout=PATIENCE_S * 2)
    assert out.startswith("{"), said
    summary = json.loads(out)
    assert summary["exit_code"] == process.returncode
    return process.returncode, {segment["model"]: segment for segment in summary["segments"]}, said


def most_at_once(store: Path) -> int:
    times = [tuple(map(float, path.read_text().split())) for path in store.glob("*.times")]
    return max(sum(1 for began, end in times if began <= moment < end) for moment, _ in times)


def test_one_that_fails_stops_nobody_and_the_worst_is_the_exit_code(
    tmp_path: Path, warm_environment: dict[str, str]
) -> None:
    table_of(tmp_path, {"a": 60, "b": 60, "d": 60, "bad": 60, "dies": 60, "busy": 60, "few": 3})
    busy = tmp_path / "store" / "m-busy" / "work"
    with locked_work_dir(busy, "m-busy"):
        code, found, said = ended(start(warm_environment, SMALL, tmp_path, "--parallel", "2"))
    outcomes = {model: (segment["outcome"], segment["exit_code"]) for model, segment in found.items()}
    assert outcomes == {
        "m-a": ("PROMOTED", 0),
        "m-b": ("PROMOTED", 0),
        "m-d": ("PROMOTED", 0),
        "m-bad": ("DATA", 4),
        "m-dies": ("STORAGE", 74),
        "m-busy": ("BUSY", 75),
        "m-few": ("DATA", 4),
    }
    assert code == 74, said
    assert found["m-bad"]["reason"] == "its table is bad"
    assert "SIGKILL" in found["m-dies"]["reason"]
    assert f"by {os.uname().nodename}" in found["m-busy"]["reason"] or "already" in found["m-busy"]["reason"]
    assert found["m-few"]["reason"] == "3 rows, and segments.min_rows asks for 50"
    assert (found["m-a"]["rows"], found["m-a"]["digest"]) == (60, "ab" * 32)
    assert most_at_once(tmp_path / "store") <= 2
    states = states_of(warm_environment, found)
    assert states.pop("parent") == ("FAILED", "m: 7 segments")
    assert {model: kind for model, (kind, _) in states.items()} == {
        "m-a": "COMPLETED",
        "m-b": "COMPLETED",
        "m-d": "COMPLETED",
        "m-bad": "FAILED",
        "m-dies": "CRASHED",
        "m-busy": "FAILED",
    }


def states_of(environment: dict[str, str], found: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """State and the beginning of its message, of each sub-run and of the one run that is above all of them."""
    url = environment["PREFECT_API_URL"]
    runs = {m: ask_server("GET", f"{url}/flow_runs/{s['flow_run']}").json() for m, s in found.items() if s["flow_run"]}
    tasks = [ask_server("GET", f"{url}/task_runs/{run['parent_task_run_id']}").json() for run in runs.values()]
    (parent,) = {task["flow_run_id"] for task in tasks}
    runs["parent"] = ask_server("GET", f"{url}/flow_runs/{parent}").json()
    wanted = {"artifacts": {"flow_run_id": {"any_": [parent]}}}
    tables = ask_server("POST", f"{url}/artifacts/filter", json=wanted).json()
    (table,) = [artifact for artifact in tables if artifact["key"] == "m-segments"]
    assert {row["model"] for row in json.loads(table["data"])} == set(found)
    return {name: (run["state"]["type"], (run["state"]["message"] or "")[:13]) for name, run in runs.items()}


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_run(tmp_path: Path, warm_environment: dict[str, str], ending: signal.Signals) -> None:
    table_of(tmp_path, {"slow": 60, "x-slow": 60, "y-slow": 60})
    process = start(warm_environment, SMALL, tmp_path, "--parallel", "2", "--segment-value", "slow")
    began = tmp_path / "store" / "m-slow.began"
    until(lambda: began.exists() and began.read_text(), process=process)
    child = int(began.read_text())
    assert is_alive(child)
    process.send_signal(ending)
    out, said = process.communicate(timeout=PATIENCE_S)
    until(lambda: not is_alive(child))
    if ending is signal.SIGINT:
        assert (process.returncode, out) == (130, "")
        assert "interrupted: 0 of 1 segments are done, and stay so" in said
    else:
        assert process.returncode != 0


def decisions(folder: Path, model: str) -> list[str]:
    return [entry.action for entry in Store(folder / "store").history(model)]


def test_real_models_killed_in_the_middle_are_each_promoted_once(
    tmp_path: Path, warm_environment: dict[str, str]
) -> None:
    """And a table that changed for one of them trains that one only."""
    table_of(tmp_path, {"NO": 61, "SE": 60, "few": 3})
    few_epochs = ["--parallel", "1", "--epochs", "2", "--hidden-dim", "8", "--no-report"]
    process = start(warm_environment, REAL, tmp_path, *few_epochs)
    until(lambda: decisions(tmp_path, "m-NO") == ["promoted"], process=process)
    process.kill()
    process.communicate()

    code, found, said = ended(start(warm_environment, REAL, tmp_path, *few_epochs))
    assert code == 4, said
    assert {model: segment["outcome"] for model, segment in found.items()} == {
        "m-NO": "PROMOTED",
        "m-SE": "PROMOTED",
        "m-few": "DATA",
    }
    assert "m-NO  trained" not in said, "the training was done again"
    assert (decisions(tmp_path, "m-NO"), decisions(tmp_path, "m-SE")) == (["promoted"], ["promoted"])
    store = Store(tmp_path / "store")
    assert store.champion("m-NO") == found["m-NO"]["digest"]
    (line,) = store.history("m-SE")
    assert line.body["note"]["labels"]["segment"] == "c = SE"

    table_of(tmp_path, {"NO": 61, "SE": 70, "few": 3})
    _, again, said = ended(start(warm_environment, REAL, tmp_path, *few_epochs))
    assert "m-NO  trained" not in said
    assert "m-SE  trained" in said
    assert again["m-NO"]["digest"] == found["m-NO"]["digest"]
    assert again["m-SE"]["digest"] != found["m-SE"]["digest"]


@pytest.mark.processor_seconds(50)
def test_on_a_dask_cluster_it_is_the_same(tmp_path: Path, prefect_environment: dict[str, str]) -> None:
    table_of(tmp_path, {"a": 60, "b": 60, "bad": 60})
    code, found, said = ended(start(prefect_environment, SMALL, tmp_path, "--parallel", "2", "--runner", "dask"))
    outcomes = {model: segment["outcome"] for model, segment in found.items()}
    assert outcomes == {"m-a": "PROMOTED", "m-b": "PROMOTED", "m-bad": "DATA"}, said
    assert code == 4
    assert most_at_once(tmp_path / "store") <= 2
