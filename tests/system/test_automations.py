"""The automations that are shipped: a real server takes them, and a run whose process is gone ends Crashed by one."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from builders import mixed_table
from bundles import sealed
from conftest import PATIENCE_S, ROOT
from deployed_runs import Deployed, deploy
from prefect_cli import prefect, run_module
from verdict_samples import passed_verdict
from waiting import until

from ai.ml.core.bundle_dir import bundle_digest
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.store.store import Store
from tasks.artifacts import EVENTS

FOLDER = ROOT / "docs" / "automations"
OURS = {*EVENTS.values(), "bundle.refused", "bundle.unproved", "bundle.rolled-back", "bundle.awaiting-approval"}


def documents(file: Path) -> list[dict[str, Any]]:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content.get("automations", [content])


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_an_automation_waits_for_events_that_exist(file: Path) -> None:
    for document in documents(file):
        for event in document["trigger"]["expect"]:
            assert event in OURS or event.startswith("prefect.flow-run."), event


def test_a_run_that_waits_for_a_person_is_no_zombie() -> None:
    trigger = documents(FOLDER / "zombies.yaml")[0]["trigger"]
    assert {"prefect.flow-run.Suspended", "prefect.flow-run.Paused"} <= set(trigger["expect"])
    assert trigger["within"] > 3 * 180, "three heartbeats of Prefect's default"


def create(environment: dict[str, str], file: Path) -> None:
    prefect(environment, ROOT, "automation", "create", "--from-file", str(file), patience_s=PATIENCE_S)


@pytest.mark.slow
def test_a_rollback_is_heard_of_and_starts_what_waits_for_it(
    tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    """The shipped example, with a deployment of this test in it that shows the digest."""
    place = deploy(prefect_environment)
    notify = documents(FOLDER / "notify.yaml")
    template = notify[0]["actions"][0]["parameters"]["config"]["bundle"].partition("@")[2]
    parameters = {"config": {"name": "m", "data": {"source": f"{template}.csv", "target": "y"}}}
    notify[0]["actions"][0]["parameters"] = parameters
    for document in notify:
        document["actions"][0]["deployment_id"] = place.deployment
        document["trigger"]["match"]["prefect.resource.id"] = "bundlegate.model.m"
    (tmp_path / "notify.yaml").write_text(yaml.safe_dump({"automations": notify}))
    create(prefect_environment, tmp_path / "notify.yaml")

    store = Store(tmp_path / "store")
    digests: list[str] = []
    for mode in ("mlp_dense", "linear_glm_baseline"):
        bundle = sealed(tmp_path / mode, training_mode=mode)
        digests.append(bundle_digest(bundle))
        store.promote("m", bundle, passed_verdict(digests[-1]), decision={"reason": "better"})
    done = roll_back_by_flow(prefect_environment, store, "m")
    assert done.returncode == 0, done.stderr
    assert f"m: {digests[0][:12]} is the champion again" in done.stdout
    assert [entry.action for entry in store.history("m")] == ["promoted", "promoted", "rolled-back"]
    event = place.events("bundle.rolled-back", "m", digests[0])[0]
    assert event["payload"] == {"sentence": "complaints", "instead_of": digests[1]}
    started = until(lambda: place.post("flow_runs/filter", deployments={"id": {"any_": [place.deployment]}}))
    assert started[0]["parameters"]["config"]["data"]["source"] == f"{digests[0]}.csv"

    none = roll_back_by_flow(prefect_environment, store, "another")
    assert none.returncode == 2
    assert none.stderr.count("error: ") == 1


def roll_back_by_flow(environment: dict[str, str], store: Store, name: str) -> subprocess.CompletedProcess[str]:
    arguments = ("--name", name, "--store", str(store.root), "--reason", "complaints")
    return run_module(environment, "flows.rollback", *arguments, patience_s=PATIENCE_S)


@pytest.mark.processor_seconds(40)
@pytest.mark.slow(130)
def test_a_run_whose_worker_was_killed_with_it_ends_as_crashed(
    tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    """The shipped automation with shorter times: as short as Prefect allows, and room for a heartbeat that is late."""
    create(prefect_environment, FOLDER / "zombies.yaml")
    zombies = documents(FOLDER / "zombies.yaml")[0]
    zombies |= {"name": "fast", "trigger": {**zombies["trigger"], "within": 70}}
    (tmp_path / "fast.yaml").write_text(yaml.safe_dump(zombies))
    create(prefect_environment, tmp_path / "fast.yaml")
    place = deploy({**prefect_environment, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"})
    try:
        check_that_it_ends_as_crashed(place, tmp_path)
    finally:
        delete(place, "fast")


def check_that_it_ends_as_crashed(place: Deployed, tmp_path: Path) -> None:
    write_table(mixed_table(300, seed=3), tmp_path / "table.csv")
    run = place.start(
        {
            "name": "m",
            "store": str(tmp_path / "store"),
            "data": {"source": str(tmp_path / "table.csv"), "target": "y"},
            "training": {"epochs": 100_000, "patience": 100_000},
        }
    )
    work = tmp_path / "store" / "m" / "work"
    with place.worker(tmp_path / "worker.log") as worker:
        until(lambda: list(work.glob("*.epochs")), lambda: (tmp_path / "worker.log").read_text()[-2000:])
        until(lambda: heartbeats(place, run), lambda: "no heartbeat")
        os.kill(worker.pid, signal.SIGKILL)
        os.kill(int((work / ".holder").read_text().split()[1]), signal.SIGKILL)
    assert place.state(run) == "Running", "nobody is left who could say so"
    until(lambda: place.state(run) == "Crashed", lambda: place.run(run)["state"])
    assert "no heartbeat came any more" in place.run(run)["state"]["message"]


def heartbeats(place: Deployed, run: str) -> list[dict[str, Any]]:
    wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    found: list[dict[str, Any]] = place.post("events/filter", filter=wanted)["events"]
    return found


def delete(place: Deployed, name: str) -> None:
    """Else it would end the runs of other tests."""
    for found in place.post("automations/filter"):
        if found["name"] == name:
            answer = httpx.delete(
                f"{place.environment['PREFECT_API_URL']}/automations/{found['id']}", timeout=PATIENCE_S
            )
            answer.raise_for_status()
