"""A person's approval with a real server: runs of a deployment are suspended and resumed, a terminal's run waits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from builders import mixed_table
from conftest import PATIENCE_S, ROOT
from deployed_runs import Deployed, deploy
from prefect_cli import python_of, run_module
from store_samples import promoted
from waiting import until

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.runs.work_folder import locked_work_dir
from ai.ml.retraining.store.audit import audit
from ai.ml.retraining.store.store import Store

pytestmark = pytest.mark.slow(15)


@dataclass
class Asked:
    """Three runs of one deployment that a worker took to where they wait."""

    place: Deployed
    folder: Path
    runs: dict[str, str]
    """Run by model."""

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    def key(self, name: str) -> str:
        return str(self.place.run(self.runs[name])["state"]["state_details"]["pause_key"])

    def digest(self, name: str) -> str:
        return self.key(name).partition("-")[0]

    def actions(self, name: str) -> list[str]:
        return [entry.action for entry in self.store.history(name)]

    def message(self, name: str) -> str:
        return str(self.place.run(self.runs[name])["state"]["message"])

    def resume(self, name: str, **form: Any) -> dict[str, Any]:
        run_input = {"approve": True, "approver": "Eve", "reason": "mine", **form}
        answer = self.place.ask("POST", f"flow_runs/{self.runs[name]}/resume", json={"run_input": run_input})
        return {"code": answer.status_code, **answer.json()}


def settings(folder: Path, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "store": str(folder / "store"),
        "data": {"source": str(folder / "table.csv"), "target": "y"},
        "training": {"training_mode": "linear_glm_baseline", "epochs": 5},
        "report": {"enabled": False},
        "approval": {"approve": "human", "hours": 2},
    }


def approve(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_module(environment, "flows.approve", *arguments, patience_s=PATIENCE_S)


@pytest.fixture(scope="module")
def asked(warm_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("approval")
    write_table(mixed_table(200, seed=3), folder / "table.csv")
    place = deploy(warm_environment)
    runs = {name: place.start(settings(folder, name)) for name in ("good", "outdated", "damaged")}
    place.work_off(folder / "first.log", *runs.values())
    for run in runs.values():
        assert place.state(run) == "Suspended", place.log(run) + (folder / "first.log").read_text()[-3000:]
    return Asked(place, folder, runs)


@pytest.mark.processor_seconds(80)
def test_a_suspended_run_holds_nothing_and_tells_what_it_asks(asked: Asked) -> None:
    digest = asked.digest("good")
    assert asked.actions("good") == []
    with locked_work_dir(asked.folder / "store" / "good" / "work", "good"):
        pass
    # The three models are of one table, so they have one digest.
    assert len(asked.place.events("bundle.awaiting-approval", "good", digest)) == 1
    said = asked.place.log(asked.runs["good"])
    assert "read      " in said, "the run's page tells what was done"
    assert "proved    PASSED" in said
    listed = approve(asked.place.environment)
    assert f"good: {digest[:12]} (no champion, until " in listed.stdout, listed.stderr
    shown = approve(asked.place.environment, "good").stdout
    for part in (f"Candidate `{digest}`", "**PROMOTE**", "## Verdict", "PASSED"):
        assert part in shown


def test_a_forged_answer_is_not_taken(asked: Asked) -> None:
    """One about another candidate, one without a reason, one that nobody asked for under this key."""
    other = asked.digest("good")[::-1]
    for form in ({"digest": other}, {"reason": ""}, {"approve": "perhaps"}, {"admin": True}):
        assert asked.resume("good", **form)["status"] == "REJECT", form
    # An input may be put beside by anybody who reaches the API; it is read under the question's own key only.
    run, key = asked.runs["good"], asked.key("good").replace(asked.digest("good"), other)
    value = '{"approve": true, "approver": "Eve", "reason": "mine"}'
    forged = {"key": f"suspended-{key}-response", "value": value}
    answer = asked.place.ask("POST", f"flow_runs/{run}/input", json=forged)
    assert answer.status_code == 201
    assert asked.place.state(run) == "Suspended"
    refused = approve(asked.place.environment, "good", "--yes", "--reason", "r", "--digest", other[:12])
    assert refused.returncode == 2
    assert f"waits for approval, not {other[:12]}" in refused.stderr


def test_a_run_that_has_not_stored_its_question_is_busy(asked: Asked) -> None:
    """Prefect suspends it first; a process that is killed between the two leaves it so."""
    run = asked.runs["damaged"]
    question = asked.place.run(run)["state"]["state_details"]["run_input_keyset"]["schema"]
    path = f"flow_runs/{run}/input"
    stored = asked.place.ask("GET", f"{path}/{question}").raise_for_status().text
    asked.place.ask("DELETE", f"{path}/{question}").raise_for_status()
    try:
        early = approve(asked.place.environment, "damaged", "--yes", "--reason", "fine")
    finally:
        asked.place.ask("POST", path, json={"key": question, "value": stored}).raise_for_status()
    assert early.returncode == 75, early.stderr
    assert "has not stored its question yet: try again" in early.stderr
    assert asked.place.state(run) == "Suspended"


@pytest.mark.processor_seconds(60)
def test_of_two_answers_at_once_one_counts_and_each_run_ends_as_it_must(asked: Asked) -> None:
    digest = asked.digest("good")
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(asked.resume, "good", approver=who, reason=f"says {who}") for who in ("Ann", "Bob")]
    taken = [answer.result() for answer in answers]
    assert [answer.get("status") for answer in taken].count("ACCEPT") == 1, taken
    late = approve(asked.place.environment, asked.runs["good"], "--no", "--reason", "too late")
    assert late.returncode == 2
    assert "it was answered already" in late.stderr

    champion = promoted(asked.store, asked.folder, seed=5, name="outdated")
    bundle = asked.folder / "store" / "damaged" / "work" / f"awaiting-{asked.runs['damaged']}" / "bundle"
    content = bytearray((bundle / "model_bundle.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "model_bundle.pt").write_bytes(content)
    for name in ("outdated", "damaged"):
        done = approve(asked.place.environment, name, "--yes", "--reason", "fine", "--approver", "Ann")
        assert done.returncode == 0, done.stderr
    asked.place.work_off(asked.folder / "second.log", *asked.runs.values())

    assert asked.place.state(asked.runs["good"]) == "Completed", asked.place.log(asked.runs["good"])
    assert "is outdated" in asked.message("outdated")
    assert "isn't there as it was proved" in asked.message("damaged")
    assert asked.actions("good") == ["promoted"]
    assert asked.store.champion("good") == digest
    note = asked.store.history("good")[0].body["note"]["approval"]
    assert (note["approved"], note["reason"]) == (True, f"says {note['approver']}")
    assert asked.store.champion("outdated") == champion
    assert asked.store.champion("damaged") is None
    assert audit(asked.store, "good") == []
    assert asked.place.events("bundle.promoted", "good", digest)


@contextmanager
def waiting_process(
    environment: dict[str, str], folder: Path, name: str, hours: str
) -> Generator[subprocess.Popen[str]]:
    """A run from a terminal that asks; it doesn't outlive the block."""
    write_table(mixed_table(200, seed=3), folder / "table.csv")
    arguments = ["--name", name, "--target", "y", "--store", str(folder / "store"), "--data", str(folder / "table.csv")]
    arguments += ["--mode", "linear_glm_baseline", "--epochs", "5", "--no-report"]
    arguments += ["--approve", "human", "--approval-hours", hours]
    with subprocess.Popen(
        [python_of(environment), "-m", "flows.retrain", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_run_from_the_terminal_waits_and_a_no_is_held(tmp_path: Path, warm_environment: dict[str, str]) -> None:
    with waiting_process(warm_environment, tmp_path, "terminal", "1") as process:
        until(lambda: "terminal:" in approve(warm_environment).stdout or process.poll() is not None)
        done = approve(warm_environment, "terminal", "--no", "--reason", "not now", "--approver", "Bob")
        assert done.returncode == 0, done.stderr
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 3, told
    entry = Store(tmp_path / "store").history("terminal")[0]
    assert entry.action == "held"
    assert entry.body["decision"]["reason"] == "declined by Bob: not now"


def test_an_answer_after_the_time_is_none_and_a_run_forced_on_has_none(
    tmp_path: Path, warm_environment: dict[str, str]
) -> None:
    """The second: somebody sets the state that an answer would set, without one."""
    for name in ("late", "forced"):
        (tmp_path / name).mkdir()
    with (
        waiting_process(warm_environment, tmp_path / "late", "late", "0.0006") as late,
        waiting_process(warm_environment, tmp_path / "forced", "forced", "1") as forced,
    ):
        _, told = late.communicate(timeout=PATIENCE_S)
        assert late.returncode == 75, told
        assert "nobody answered until" in told
        assert told.count("error: ") == 1
        answer = approve(warm_environment, "late", "--yes", "--reason", "late")
        assert answer.returncode in (2, 75), answer.stderr

        listed = until(lambda: [line for line in approve(warm_environment).stdout.splitlines() if "forced:" in line])
        run = listed[0].rpartition(" ")[2]
        Deployed(warm_environment, "", "").post(f"flow_runs/{run}/set_state", state={"type": "RUNNING"}, force=True)
        _, told = forced.communicate(timeout=PATIENCE_S)
        assert forced.returncode == 75, told
        assert "resumed without an answer" in told
    for name in ("late", "forced"):
        store = Store(tmp_path / name / "store")
        assert store.history(name) == []
        assert len(list((tmp_path / name / "store" / name / "work").glob("awaiting-*/bundle/model_bundle.pt"))) == 1


def test_without_a_server_that_people_reach_it_is_a_users_mistake(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    environment |= {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(PATIENCE_S),
    }
    with waiting_process(environment, tmp_path, "alone", "1") as process:
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2, told
    assert told.count("error: ") == 1
    assert "set PREFECT_API_URL to it" in told
    assert not (tmp_path / "store").exists()
