"""`prefect.yaml` as an operator uses it: deploy everything, start a worker, and the run ends Completed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import mixed_table
from conftest import PATIENCE_S, ROOT
from prefect.flows import load_flow_from_entrypoint
from prefect_cli import ask_server, copied_checkout, prefect

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.store.store import Store

SHIPPED = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
DEPLOYMENTS = yaml.safe_load(SHIPPED)["deployments"]


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


def test_it_is_written_for_the_prefect_of_the_lock() -> None:
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert f"prefect=={yaml.safe_load(SHIPPED)['prefect-version']}" in locked


def shown_commands(text: str) -> list[list[str]]:
    """What a text tells an operator to type after `prefect`: pool, deployment, worker."""
    shown = re.findall(r"^(?:# *)?(?:[^\s#]*/)?prefect (.*)$", text, flags=re.MULTILINE)
    commands = [shlex.split(line, comments=True) for line in shown]
    assert [words[0] for words in commands] == ["work-pool", "--no-prompt", "worker"]
    assert commands[2] == ["worker", "start", "--pool", "bundlegate"]
    return commands


@contextmanager
def no_pool_before(environment: dict[str, str]) -> Generator[None]:
    """The server as it is at first, and again for the next test; the deployments go with their pool."""
    url = environment["PREFECT_API_URL"]
    pool = f"{url}/work_pools/bundlegate"
    assert ask_server("GET", pool).status_code == 404
    yield
    within = {"work_pools": {"name": {"any_": ["bundlegate"]}}}
    for deployment in ask_server("POST", f"{url}/deployments/filter", json=within).raise_for_status().json():
        ask_server("DELETE", f"{url}/deployments/{deployment['id']}").raise_for_status()
    ask_server("DELETE", pool).raise_for_status()


@pytest.mark.slow
def test_what_init_prints_and_writes_deploys_on_a_new_server(
    tmp_path: Path, prefect_environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("price,left\n1,no\n", encoding="utf-8")
    folder, rows, store = (str(tmp_path / each) for each in ("churn", "rows.csv", "store"))
    assert main(["init", folder, "--name", "churn", "--data", rows, "--target", "left", "--store", store]) == 0
    printed = shown_commands(capsys.readouterr().out)
    assert shown_commands((tmp_path / "churn" / "prefect.yaml").read_text(encoding="utf-8")) == printed
    with no_pool_before(prefect_environment):
        for words in printed[:2]:
            prefect(prefect_environment, ROOT, *words)
        url = f"{prefect_environment['PREFECT_API_URL']}/deployments/name/retrain/churn-nightly"
        deployment = ask_server("GET", url).raise_for_status().json()
    assert deployment["work_pool_name"] == "bundlegate"
    assert [schedule["active"] for schedule in deployment["schedules"]] == [True]


@pytest.mark.processor_seconds(110)
@pytest.mark.slow(50)
def test_deployed_and_run_by_a_process_worker_it_ends_completed(
    tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    checkout = copied_checkout(tmp_path / "checkout")
    table = mixed_table(200, seed=7)
    (checkout / "demo").mkdir()
    write_table(table.rename_columns([*table.column_names[:-1], "species"]), checkout / "demo" / "penguins.csv")

    # Else the worker takes the hour's run, too, when the clock strikes.
    shipped = yaml.safe_load(SHIPPED)
    for schedule in (each for deployment in shipped["deployments"] for each in deployment.get("schedules", [])):
        schedule["active"] = False
    (checkout / "prefect.yaml").write_text(yaml.safe_dump(shipped), encoding="utf-8")

    with no_pool_before(prefect_environment):
        for words in shown_commands(SHIPPED)[:2]:
            prefect(prefect_environment, checkout, *words)
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
