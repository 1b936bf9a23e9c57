"""`prefect.yaml` as an operator uses it: deploy everything, start a worker, and the run ends Completed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import mixed_table
from conftest import PATIENCE_S, ROOT
from prefect.flows import load_flow_from_entrypoint
from prefect_cli import ask_server, copied_checkout, prefect

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.store.store import Store

DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_every_entrypoint_loads_as_the_real_flow(deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    assert flow.name == deployment["entrypoint"].partition(":")[2].replace("_", "-")
    flow.validate_parameters(deployment["parameters"])
    assert flow.timeout_seconds, "a run that hangs would keep the deployment's only slot for good"


def test_the_deployments_are_named_and_scheduled_as_the_docs_say() -> None:
    crons = {
        f"{deployment['entrypoint'].partition(':')[2].replace('_', '-')}/{deployment['name']}": [
            schedule["cron"] for schedule in deployment.get("schedules", []) if schedule["timezone"]
        ]
        for deployment in DEPLOYMENTS
    }
    assert crons == {
        "retrain/nightly": ["30 2 * * *"],
        "retrain-segments/nightly": ["30 3 * * *"],
        "validate-bundle/on-demand": [],
        "rollback/on-demand": [],
        "batch-predict/hourly": ["0 * * * *"],
    }
    assert all(deployment["description"] and deployment["tags"] for deployment in DEPLOYMENTS)


def test_the_nightly_run_never_overlaps_itself() -> None:
    nightly = next(deployment for deployment in DEPLOYMENTS if deployment["name"] == "nightly")
    assert nightly["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert nightly["schedules"][0]["timezone"]


@pytest.mark.slow
def test_deployed_and_run_by_a_process_worker_it_ends_completed(
    tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    checkout = copied_checkout(tmp_path / "checkout")
    table = mixed_table(200, seed=7)
    (checkout / "demo").mkdir()
    write_table(table.rename_columns([*table.column_names[:-1], "species"]), checkout / "demo" / "penguins.csv")

    # Else the worker takes the hour's run, too, when the clock strikes.
    shipped = yaml.safe_load((checkout / "prefect.yaml").read_text(encoding="utf-8"))
    for schedule in (each for deployment in shipped["deployments"] for each in deployment.get("schedules", [])):
        schedule["active"] = False
    (checkout / "prefect.yaml").write_text(yaml.safe_dump(shipped), encoding="utf-8")

    prefect(prefect_environment, checkout, "work-pool", "create", "bundlegate", "--type", "process")
    prefect(prefect_environment, checkout, "--no-prompt", "deploy", "--all")
    for name in ("retrain/nightly", "validate-bundle/on-demand", "batch-predict/hourly"):
        _run_deployment(name, checkout, prefect_environment, tmp_path / f"{name.partition('/')[0]}.log")
    assert Store(checkout / "demo" / "store").champion("penguins") is not None
    assert (checkout / "demo" / "scored.csv").is_file()


def _run_deployment(name: str, checkout: Path, environment: dict[str, str], log: Path) -> None:
    prefect(environment, checkout, "deployment", "run", name)
    with log.open("wb") as file:
        worker = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", "bundlegate", "--run-once"],
            cwd=checkout,
            env=environment,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            state = _final_state(environment["PREFECT_API_URL"], *name.split("/"))
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGTERM)
            worker.wait(PATIENCE_S)
    assert state.get("type") == "COMPLETED", json.dumps(state) + log.read_text()[-4000:]


def _final_state(url: str, flow: str, deployment: str) -> dict[str, Any]:
    query = {
        "flows": {"name": {"any_": [flow]}},
        "deployments": {"name": {"any_": [deployment]}},
        "sort": "START_TIME_DESC",
    }
    deadline = time.monotonic() + PATIENCE_S
    state: dict[str, Any] = {}
    while time.monotonic() < deadline:
        runs = ask_server("POST", f"{url}/flow_runs/filter", json=query).json()
        states = [run["state"] for run in runs if run["state"]["type"] not in ("SCHEDULED", "PENDING")]
        state = states[0] if states else {}
        if state.get("type") in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return state
        time.sleep(1)
    return state
