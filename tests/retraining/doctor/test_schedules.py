"""What the server says of pool, worker, schedules and runs, against a real HTTP server with answers like Prefect's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from odd_server import POOL, Answers, at, deployment, flow_run, healthy, odd_server

from ai.ml.retraining.console import installation
from ai.ml.retraining.doctor.diagnosis import HealthCheck
from ai.ml.retraining.doctor.prefect_api import PrefectApi
from ai.ml.retraining.doctor.schedules import check_schedules, is_ours

DEPLOY = "prefect --no-prompt deploy --all --prefect-file FOLDER/prefect.yaml"
NEXT, LAST = "NEXT_SCHEDULED_START_TIME_ASC", "EXPECTED_START_TIME_DESC"


def looked_at(answers: Answers, name: str | None = "churn") -> list[HealthCheck]:
    with odd_server(answers) as url:
        return check_schedules(PrefectApi(url), name, datetime.now(UTC))


def test_a_healthy_server_has_a_line_for_each_thing() -> None:
    checks = looked_at(healthy())
    assert [(check.check, check.status) for check in checks] == [
        (name, "ok") for name in ("deployments", "worker", "next", "last")
    ]
    assert "retrain/churn-nightly at " in checks[2].message
    assert "calm-owl Completed at " in checks[3].message
    assert " min ago" in checks[3].message


def run(*state: Any, **more: Any) -> Callable[[], Answers]:
    """A run whose times count from when it is asked for, not from when the tests were collected."""
    return partial(flow_run, *state, **more)


def runs(sort: str, *found: Any) -> Callable[[Answers], Any]:
    return lambda answers: answers["flow_runs/filter"].update({sort: [make() for make in found]})


def deployed(**more: Any) -> Callable[[Answers], Any]:
    return lambda answers: answers.update({"deployments/filter": [deployment(**more)]})


def pool(**more: Any) -> Callable[[Answers], Any]:
    return lambda answers: answers[POOL].update(more)


def workers(*found: Any) -> Callable[[Answers], Any]:
    return lambda answers: answers.update({f"{POOL}/workers/filter": list(found)})


OFFLINE = {"name": "w1", "status": "OFFLINE", "last_heartbeat_time": at(-86_400)}
FAULTS: dict[str, tuple[Callable[[Answers], Any], str, str, str, str]] = {
    "nothing deployed": (
        lambda answers: answers.update({"deployments/filter": []}),
        "deployments", "fail", "no deployment of churn is on this server",
        "from the checkout: prefect --no-prompt deploy --all",
    ),
    "another model's": (
        deployed(parameters={"config": {"name": "other"}}), "deployments", "fail", "no deployment of churn", "deploy",
    ),
    "somebody else's": (
        deployed(tags=[], entrypoint="etl.py:retrain"), "deployments", "fail", "no deployment of churn", "deploy",
    ),
    "no pool": (
        lambda answers: answers.pop(POOL),
        "pool", "fail", "there is no work pool night", "prefect work-pool create night --type process",
    ),
    "pool paused": (pool(is_paused=True), "pool", "fail", "night is paused", "prefect work-pool resume night"),
    "no worker ever": (
        workers(), "worker", "fail", "no live worker in the pool night: none was ever there",
        "prefect worker start --pool night",
    ),
    "worker gone": (workers(OFFLINE), "worker", "fail", "the last was heard of at 20", "worker start --pool night"),
    "push pool": (pool(type="ecs:push"), "pool", "ok", "needs no worker", ""),
    "served no more": (
        deployed(work_pool_name=None, status="NOT_READY"),
        "worker", "fail", "the process that served it is gone", "start",
    ),
    "schedule paused": (
        deployed(schedules=[{"active": False}]),
        "schedule", "fail", "paused: retrain/churn-nightly; nothing runs by itself",
        "prefect deployment schedule resume retrain/churn-nightly ID",
    ),
    "deployment paused": (deployed(paused=True), "schedule", "fail", "paused: retrain/churn-nightly", "resume"),
    "no schedule": (deployed(schedules=[]), "schedule", "warn", "no deployment has a schedule", "add one"),
    "no next run": (
        runs(NEXT), "next", "fail", "has an active schedule and no next run: the server's scheduler doesn't work",
        "look for ERROR in the server's log",
    ),
    "only a run by hand": (
        runs(NEXT, run("SCHEDULED", "Scheduled", 60, auto_scheduled=False)),
        "next", "fail", "no next run", "ERROR",
    ),
    "just deployed": (
        lambda answers: (deployed(updated=at(-5))(answers), runs(NEXT)(answers)),
        "next", "warn", "no next run yet", "look again in two minutes",
    ),
    "late": (
        runs(NEXT, run("SCHEDULED", "Late", -1800), run("SCHEDULED", "Scheduled", 60)),
        "next", "fail", "calm-owl was due at 20", "prefect flow-run inspect r1",
    ),
    "waits for the slot": (
        runs(NEXT, run("SCHEDULED", "AwaitingConcurrencySlot", -1800), run("SCHEDULED", "Scheduled", 60)),
        "next", "warn", " min ago, and hasn't begun", "the run before it has the slot",
    ),
    "failed": (
        runs(LAST, run("FAILED", "Failed", -7200, state={"message": "column 'x'\nis gone"})),
        "last", "fail", "2 h ago: column 'x' is gone", "prefect flow-run logs r1",
    ),
    "crashed": (runs(LAST, run("CRASHED", "Crashed", -300_000)), "last", "fail", "3 days ago", "logs r1"),
    "cancelled": (runs(LAST, run("CANCELLED", "Cancelled", -60)), "last", "warn", "Cancelled at", "logs r1"),
    "waits for a person": (runs(LAST, run("PAUSED", "Suspended", -60)), "last", "warn", "Suspended", "approve"),
    "runs for days": (runs(LAST, run("RUNNING", "Running", -90_000)), "last", "warn", "is at it still", "logs r1"),
    "runs now": (runs(LAST, run("RUNNING", "Running", -90)), "last", "ok", "Running at", ""),
    "never ran": (runs(LAST), "last", "ok", "hasn't run yet", ""),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_what_to_do(fault: str) -> None:
    change, check, status, said, remedy = FAULTS[fault]
    answers = healthy()
    change(answers)
    checks = looked_at(answers)
    found = next(line for line in checks if line.check == check and line.status == status)
    assert said in found.message
    assert remedy in found.remedy
    assert bool(found.remedy) == (status != "ok")
    assert found.exit_code == (status == "fail")
    others = {line.check for line in checks if line.status == "fail"} - {check}
    assert not others, checks


@pytest.mark.parametrize(("deployments", "remedy"), [([], DEPLOY), ([{"schedules": []}], f"add one, and {DEPLOY}")])
def test_what_to_deploy_needs_no_checkout_where_the_wheel_is_installed(
    deployments: list[dict[str, Any]], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "flows_are_installed", lambda: True)
    answers = healthy()
    answers["deployments/filter"] = [deployment(**more) for more in deployments]
    assert remedy in [check.remedy for check in looked_at(answers)]


def test_a_paused_deployment_beside_one_that_runs_is_no_failure() -> None:
    answers = healthy()
    answers["deployments/filter"].append(deployment(id="d2", name="segments", schedules=[{"active": False}]))
    (paused,) = [check for check in looked_at(answers) if check.check == "schedule"]
    assert (paused.status, "retrain/segments is paused" in paused.message) == ("warn", True)


def test_deployments_that_score_or_prove_a_model_belong_to_it() -> None:
    answers = healthy()
    answers["deployments/filter"] += [
        deployment(name="score", parameters={"config": {"job": {"bundle": "churn@champion"}}}),
        deployment(name="prove", parameters={"config": {"bundle": "churn@champion"}}),
        deployment(name="other", parameters={"config": {"bundle": "other@champion"}}),
        deployment(name="none", parameters={}),
    ]
    assert looked_at(answers)[0].message == "retrain/churn-nightly, retrain/score, retrain/prove"
    assert "retrain/other" in looked_at(answers, None)[0].message


@pytest.mark.parametrize(
    ("entrypoint", "ours"),
    [
        ("flows/retrain.py:retrain", True),
        ("/srv/bundlegate/flows/batch_predict.py:batch_predict", True),
        ("bundlegate.flows.rollback:rollback", True),
        ("bundlegate.flows.rollback.rollback", True),
        ("workflows/retrain.py:retrain", False),
        ("flows/other.py:retrain", False),
        (None, False),
    ],
)
def test_a_flow_of_ours_is_known_without_its_tag(entrypoint: str | None, ours: bool) -> None:
    assert is_ours(deployment(tags=[], entrypoint=entrypoint), "churn") == ours


def test_names_of_others_are_quoted_in_commands() -> None:
    answers = healthy()
    answers["deployments/filter"] = [deployment(work_pool_name="a b; rm -rf ~")]
    found = next(check for check in looked_at(answers) if check.check == "pool")
    assert "prefect work-pool create 'a b; rm -rf ~' --type process" in found.remedy
