"""A deployment's concurrency slot: one holder at a time; a dead holder's slot doesn't outlive its lease."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, server_environment, start_server
from prefect_cli import ask_server

pytestmark = pytest.mark.slow(30)

LEASE_S = 30
"""The shortest that the server grants."""


def post(url: str, body: dict[str, Any]) -> Any:
    return ask_server("POST", url, json=body).raise_for_status().json()


def proposed(url: str, run: str) -> str:
    """What the server says to a worker that wants to start a run."""
    return str(post(f"{url}/flow_runs/{run}/set_state", {"state": {"type": "PENDING"}})["state"]["name"])


def test_a_server_as_the_docs_start_it_keeps_its_leases_on_disk(prefect_environment: dict[str, str]) -> None:
    answer = ask_server("GET", f"{prefect_environment['PREFECT_API_URL']}/admin/settings")
    found = answer.raise_for_status().json()["server"]["concurrency"]["lease_storage"]
    assert found == "prefect.server.concurrency.lease_storage.filesystem"


def test_a_slot_is_free_again_after_its_holder_and_the_server_were_killed(tmp_path: Path) -> None:
    environment = server_environment(tmp_path) | {
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": str(LEASE_S),
        "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "1",
    }
    url = environment["PREFECT_API_URL"]
    server = start_server(environment)
    try:
        flow = post(f"{url}/flows/", {"name": "retrain"})["id"]
        limit = {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "ENQUEUE"}}
        deployment = post(f"{url}/deployments/", {"name": "nightly", "flow_id": flow, **limit})["id"]
        first, second = (post(f"{url}/deployments/{deployment}/create_flow_run", {})["id"] for _ in range(2))
        assert proposed(url, first) == "Pending"
        granted = time.monotonic()
        assert proposed(url, second) == "AwaitingConcurrencySlot"
        server.kill()
        server.wait()
        # Nobody is left to renew the lease of the first.
        server = start_server(environment)
        deadline = max(granted + LEASE_S, time.monotonic()) + PATIENCE_S
        while (answer := proposed(url, second)) != "Pending":
            assert answer == "AwaitingConcurrencySlot"
            assert time.monotonic() < deadline, "the slot is gone for good"
            time.sleep(1)
    finally:
        server.kill()
        server.wait()
