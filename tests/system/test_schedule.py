"""What the product is bought for: a run that nobody asked for is made by the schedule, picked up, and Completed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from builders import mixed_table
from bundles import sealed
from conftest import ROOT, server_environment, start_server, stop
from deployed_runs import Deployed
from prefect_cli import ask_server, copied_checkout, prefect
from verdict_samples import passed_verdict
from waiting import until

from ai.ml.core.bundle_dir import bundle_digest
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.store.store import Store

EVERY_S = 20

SCHEDULER = {
    # Three runs ahead, not a hundred: one that was made after a restart would else come after all those from before.
    "PREFECT_SERVER_SERVICES_SCHEDULER_MAX_RUNS": "3",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
}


def champion(folder: Path) -> dict[str, Any]:
    """A store with a champion and a table, and what the hourly deployment must be told of them."""
    bundle = sealed(folder / "bundle", training_mode="linear_glm_baseline")
    Store(folder / "store").promote("m", bundle, passed_verdict(bundle_digest(bundle)), decision={"reason": "better"})
    write_table(mixed_table(50, seed=3), folder / "table.csv")
    job = {"bundle": "m@champion", "input": str(folder / "table.csv"), "output": str(folder / "scored.csv")}
    return {"config": {"store": str(folder / "store"), "job": job}}


def deploy_twice(environment: dict[str, str], checkout: Path, parameters: dict[str, Any]) -> list[Deployed]:
    """The shipped hourly deployment, every few seconds: once with its schedule active, once with a paused one."""
    shipped = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    hourly = next(each for each in shipped["deployments"] if each["name"] == "hourly")
    # On a slow machine the runs that come too early would pile up, and the later ones wait for all of them.
    hourly["concurrency_limit"]["collision_strategy"] = "CANCEL_NEW"
    hourly |= {"parameters": parameters, "work_pool": {"name": f"scheduled-{uuid4().hex[:8]}"}}
    deployments = [
        {**hourly, "name": name, "schedules": [{"interval": EVERY_S, "active": active}]}
        for name, active in (("active", True), ("paused", False))
    ]
    (checkout / "prefect.yaml").write_text(yaml.safe_dump({**shipped, "deployments": deployments}), encoding="utf-8")
    pool = hourly["work_pool"]["name"]
    prefect(environment, checkout, "work-pool", "create", pool, "--type", "process")
    prefect(environment, checkout, "--no-prompt", "deploy", "--all")
    named = f"{environment['PREFECT_API_URL']}/deployments/name/batch-predict"
    ids = [ask_server("GET", f"{named}/{each['name']}").raise_for_status().json()["id"] for each in deployments]
    return [Deployed(environment, each, pool) for each in ids]


def runs(place: Deployed, *states: str) -> list[dict[str, Any]]:
    """All runs of the deployment, or those in one of these states."""
    query: dict[str, Any] = {"deployments": {"id": {"any_": [place.deployment]}}}
    if states:
        query["flow_runs"] = {"state": {"name": {"any_": list(states)}}}
    found: list[dict[str, Any]] = place.post("flow_runs/filter", **query)
    return found


def completed(place: Deployed, since: datetime) -> dict[str, Any] | None:
    """A run that was made by the scheduler after that moment and has ended well."""
    found = runs(place, "Completed")
    return next(
        (run for run in found if datetime.fromisoformat(run["created"]) > since and run["auto_scheduled"]), None
    )


def told(place: Deployed, log: Path) -> str:
    return f"{[run['state']['name'] for run in runs(place)]}\n{log.read_text()[-4000:]}"


@pytest.mark.processor_seconds(160)
@pytest.mark.slow(90)
def test_a_run_that_nobody_asked_for_is_made_picked_up_and_completed(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "worker.log"
    home.mkdir()
    environment = server_environment(home) | SCHEDULER
    server = start_server(environment)
    try:
        checkout = copied_checkout(tmp_path / "checkout")
        active, paused = deploy_twice(environment, checkout, champion(tmp_path))
        began = datetime.min.replace(tzinfo=UTC)
        with active.worker(log):
            until(lambda: completed(active, began), lambda: told(active, log))
            assert (tmp_path / "scored.csv").is_file()

            # The worker stays and finds the new server by itself.
            stop(server)
            began = datetime.now(UTC)
            server = start_server(environment)
            until(lambda: completed(active, began), lambda: told(active, log))

        assert runs(paused) == [], "its schedule is paused, and the scheduler has looked at it as often"

        schedule = active.get(f"deployments/{active.deployment}")["schedules"][0]["id"]
        paused_now = {"json": {"active": False}}
        active.ask("PATCH", f"deployments/{active.deployment}/schedules/{schedule}", **paused_now).raise_for_status()
        until(lambda: not runs(active, "Scheduled", "Late"), lambda: told(active, log))
    finally:
        stop(server)
