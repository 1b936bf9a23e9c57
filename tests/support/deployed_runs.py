"""Runs of a deployment on the session's server: created, worked off by a process worker, and looked at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
from conftest import ROOT
from prefect.utilities.callables import parameter_schema
from prefect_cli import ask_server
from waiting import until

from flows.retrain import retrain

RESTING = ("Completed", "Failed", "Crashed", "Cancelled", "Suspended")


@dataclass(frozen=True)
class Deployed:
    """A deployment of the retraining with a work pool of its own."""

    environment: dict[str, str]
    deployment: str
    pool: str

    def post(self, path: str, /, **content: Any) -> Any:
        return self.ask("POST", path, json=content).raise_for_status().json()

    def get(self, path: str) -> Any:
        return self.ask("GET", path).raise_for_status().json()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return ask_server(method, f"{self.environment['PREFECT_API_URL']}/{path}", **more)

    def start(self, config: dict[str, Any]) -> str:
        """The id of a new run, which a worker will pick up."""
        path = f"deployments/{self.deployment}/create_flow_run"
        return str(self.post(path, parameters={"config": config}, state={"type": "SCHEDULED"})["id"])

    def run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"flow_runs/{run}")
        return found

    def state(self, run: str) -> str:
        return str(self.run(run)["state"]["name"])

    def rests(self, run: str) -> bool:
        """Whether it has ended, or waits and has asked: Prefect suspends a run first and then stores its question."""
        state = self.run(run)["state"]
        if state["name"] != "Suspended":
            return state["name"] in RESTING
        question = state["state_details"]["run_input_keyset"]["schema"]
        return self.ask("GET", f"flow_runs/{run}/input/{question}").status_code == 200

    def log(self, run: str) -> str:
        found = self.post("logs/filter", logs={"flow_run_id": {"any_": [run]}}, sort="TIMESTAMP_ASC")
        return "\n".join(line["message"] for line in found)

    def events(self, name: str, model: str, digest: str) -> list[dict[str, Any]]:
        """Events of that name about a model's bundle; the server writes them a moment after they come."""
        wanted = {"prefect.resource.id": f"bundlegate.model.{model}", "bundlegate.digest": digest}

        def look() -> list[dict[str, Any]]:
            found = self.post("events/filter", filter={"event": {"name": [name]}}, limit=50)["events"]
            return [event for event in found if wanted.items() <= event["resource"].items()]

        return until(look, lambda: f"no {name} of {model}, {digest}")

    @contextmanager
    def worker(self, log: Path) -> Generator[subprocess.Popen[bytes]]:
        """A worker of the pool, stopped at the end with all that it started."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", self.pool, "--type", "process"]
        with log.open("wb") as file:
            worker = subprocess.Popen(
                command,
                cwd=ROOT,
                # The flows' own setting, which this process has, would hide what a worker says.
                env={**self.environment, "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO"},
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            yield worker
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGTERM)
            try:
                worker.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()

    def work_off(self, log: Path, *runs: str) -> None:
        """A worker, until each of these runs has ended or waits."""
        with self.worker(log) as worker:
            for run in runs:
                until(lambda run=run: self.rests(run), lambda run=run: self.log(run) + log.read_text()[-2000:])
            # A run's process lets go of its work folder and sends its last lines after the server knows its state.
            until(lambda: not psutil.Process(worker.pid).children(), lambda: log.read_text()[-2000:])


def deploy(environment: dict[str, str]) -> Deployed:
    """A deployment of the checkout's `flows/retrain.py`, as `prefect deploy` makes it."""
    name = f"test-{uuid4().hex[:8]}"
    target = Deployed(environment, "", name)
    target.post("work_pools/", name=name, type="process", base_job_template={})
    deployment = target.post(
        "deployments/",
        name=name,
        flow_id=target.post("flows/", name="retrain")["id"],
        work_pool_name=name,
        # Without a pull step each run would first copy the whole checkout, with its environment.
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}],
        entrypoint="flows/retrain.py:retrain",
        parameter_openapi_schema=parameter_schema(retrain.fn).model_dump(mode="json"),
        enforce_parameter_schema=True,
    )
    return Deployed(environment, str(deployment["id"]), name)
