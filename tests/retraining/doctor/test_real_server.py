"""The doctor at a real Prefect server: no schedule, a schedule, no worker, a worker, all paused, a failed run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deployed_runs import deploy
from waiting import until

from ai.ml.retraining.commands.cli import main

pytestmark = pytest.mark.slow(90)


def test_what_a_real_server_says(
    prefect_environment: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_environment["PREFECT_API_URL"])
    target = deploy(prefect_environment)
    name, place = target.pool, f"deployments/{target.deployment}"
    label = f"retrain/{name}"

    def looked_at() -> dict[str, tuple[str, str]]:
        main(["doctor", name, "--store", str(tmp_path), "--json"])
        lines = json.loads(capsys.readouterr().out)["checks"]
        return {line["check"]: (line["status"], line["message"]) for line in lines}

    assert looked_at()["deployments"] == ("fail", f"no deployment of {name} is on this server")
    target.ask("PATCH", place, json={"parameters": {"config": {"name": name}}}).raise_for_status()
    first = looked_at()
    assert first["server"][0] == "ok"
    assert first["clock"][0] == "ok"
    assert first["deployments"] == ("ok", label)
    assert first["worker"] == ("fail", f"no live worker in the pool {name}: none was ever there")
    assert first["schedule"] == ("warn", "no deployment has a schedule: nothing runs by itself")

    # Half a day away, so that no worker of this test ever takes the run.
    cron = f"0 {(datetime.now(UTC).hour + 12) % 24} * * *"
    wanted = [{"active": True, "schedule": {"cron": cron, "timezone": "UTC"}}]
    (schedule,) = target.ask("POST", f"{place}/schedules", json=wanted).raise_for_status().json()
    said = until(lambda: found if (found := looked_at())["next"][0] == "ok" else None, looked_at)
    assert said["next"][1].startswith(f"{label} at 20")
    assert said["last"] == ("ok", f"{label} hasn't run yet")
    with target.worker(tmp_path / "worker.log"):
        until(lambda: looked_at()["worker"][0] == "ok", looked_at)

    target.ask("PATCH", f"{place}/schedules/{schedule['id']}", json={"active": False}).raise_for_status()
    assert looked_at()["schedule"] == ("fail", f"paused: {label}; nothing runs by itself")
    target.ask("PATCH", f"work_pools/{name}", json={"is_paused": True}).raise_for_status()
    assert looked_at()["pool"] == ("fail", f"the work pool {name} is paused")
    run = target.post(f"{place}/create_flow_run", parameters={}, enforce_parameter_schema=False)["id"]
    failed = {"type": "FAILED", "message": "the table is gone"}
    target.post(f"flow_runs/{run}/set_state", state=failed, force=True)
    status, message = looked_at()["last"]
    assert (status, message.startswith(f"{label}: "), message.endswith(": the table is gone")) == ("fail", True, True)
