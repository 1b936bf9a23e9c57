"""SIGKILL of the worker and the flow that it runs: the next run of the deployment goes on to the same bundle."""

from __future__ import annotations

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
from conftest import ROOT
from prefect_cli import ask_server, copied_checkout, prefect
from waiting import until

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.store import Store

LEASE_S = 300
"""Prefect's, of a deployment's slot."""


def descendants(pid: int) -> list[int]:
    """Every process that `pid` or one of its own started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [*children.get(pid, [])]
    for child in found:
        found += children.get(child, [])
    return found


def deployed(checkout: Path, config: dict[str, Any], environment: dict[str, str]) -> str:
    """The shipped nightly deployment with other settings and in a pool of its own; returns its id."""
    shipped = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    nightly = next(deployment for deployment in shipped["deployments"] if deployment["name"] == "nightly")
    nightly |= {"name": "killed", "schedules": [], "parameters": {"config": config}, "work_pool": {"name": "killed"}}
    (checkout / "prefect.yaml").write_text(yaml.safe_dump({**shipped, "deployments": [nightly]}), encoding="utf-8")
    prefect(environment, checkout, "work-pool", "create", "killed", "--type", "process")
    prefect(environment, checkout, "--no-prompt", "deploy", "--all")
    answer = ask_server("GET", f"{environment['PREFECT_API_URL']}/deployments/name/retrain/killed")
    return str(answer.raise_for_status().json()["id"])


def start_worker(checkout: Path, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", "killed"],
            cwd=checkout,
            env=environment,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
        )


@pytest.mark.processor_seconds(60)
@pytest.mark.slow(60)
def test_killed_with_its_worker_the_next_run_goes_on(tmp_path: Path, prefect_environment: dict[str, str]) -> None:
    url, log = prefect_environment["PREFECT_API_URL"], tmp_path / "worker.log"
    write_table(mixed_table(300, seed=3), tmp_path / "table.csv")
    config: dict[str, Any] = {
        "name": "m",
        "store": str(tmp_path / "store"),
        "data": {"source": str(tmp_path / "table.csv"), "target": "y"},
        "training": {"epochs": 300, "patience": 300, "hidden_dim": 16},
    }
    checkout = copied_checkout(tmp_path / "checkout")
    deployment = deployed(checkout, config, prefect_environment)

    def started() -> str:
        answer = ask_server("POST", f"{url}/deployments/{deployment}/create_flow_run", json={})
        return str(answer.raise_for_status().json()["id"])

    def state(run: str) -> dict[str, Any]:
        return ask_server("GET", f"{url}/flow_runs/{run}").raise_for_status().json()["state"]

    def tail() -> str:
        return log.read_text(encoding="utf-8")[-4000:]

    work = tmp_path / "store" / "m" / "work"
    worker = start_worker(checkout, prefect_environment, log)
    first = started()
    until(lambda: list(work.glob("*.epochs")), tail)
    for pid in (worker.pid, *descendants(worker.pid)):
        os.kill(pid, signal.SIGKILL)
    worker.wait()
    killed = time.monotonic()
    assert state(first)["type"] == "RUNNING", "nobody was left to say that it ended"
    assert (work / "run.json").is_file()

    worker = start_worker(checkout, prefect_environment, log)
    try:
        second = started()
        # The dead run holds the slot until its lease runs out or, as the shipped automation does, it is called crashed.
        # On a very slow machine the worker may look for it after that.
        until(lambda: state(second)["name"] == "AwaitingConcurrencySlot" or time.monotonic() - killed > LEASE_S, tail)
        crashed = {"state": {"type": "CRASHED"}, "force": True}
        ask_server("POST", f"{url}/flow_runs/{first}/set_state", json=crashed).raise_for_status()
        ended = until(lambda: (now := state(second))["type"] in ("COMPLETED", "FAILED", "CRASHED") and now, tail)
        assert ended["type"] == "COMPLETED", tail()
    finally:
        # Nothing of it is under way, and letting it say goodbye takes a minute on a loaded machine.
        worker.kill()
        worker.wait()

    store = Store(tmp_path / "store")
    assert [entry.action for entry in store.history("m")] == ["promoted"]
    whole = RetrainConfig.model_validate({**config, "store": str(tmp_path / "whole")})
    assert steps.train_candidate(whole, steps.read_data(whole)).bundle.digest == store.champion("m")
