"""Checks of deployments: their schedules, next and last runs, and the workers that would start them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ai.ml.retraining.console.installation import from_checkout
from ai.ml.retraining.doctor.diagnosis import HealthCheck, doubtful, failed, fine
from ai.ml.retraining.doctor.prefect_api import PrefectApi

PAGE = 200
ENTRYPOINT = re.compile(
    r"(.*[./])?flows[./](retrain|retrain_segments|backtest|batch_predict|validate_bundle|rollback)(\.py)?[:.]\w+"
)
"""The entrypoint of one of our flows, as a file or as a module."""
LATE_S = 120.0
"""A worker polls every 10 to 15 s."""
NEW_S = 120.0
"""The scheduler runs at least once a minute."""
LONG_S = 24 * 3600.0
BEGUN = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED", "CANCELLING", "PAUSED")


@dataclass(frozen=True)
class Deployment:
    """A deployment as the server has it."""

    record: Mapping[str, Any]
    flow: str

    @property
    def label(self) -> str:
        """The deployment's name as Prefect's commands take it."""
        return f"{self.flow}/{self.record['name']}"

    @property
    def is_scheduled(self) -> bool:
        """Whether it has a schedule, active or not."""
        return bool(self.record["schedules"])

    @property
    def is_active(self) -> bool:
        """Neither it nor all of its schedules are paused."""
        return not self.record["paused"] and any(schedule["active"] for schedule in self.record["schedules"])


def check_schedules(api: PrefectApi, name: str | None, now: datetime) -> list[HealthCheck]:
    """Check the deployments of a model, or of all models.

    Raises:
        StorageFailed: the server went away.
        UsageError: it isn't Prefect's, or refuses us.
        KeyError, TypeError, ValueError, AttributeError: its answers aren't those of Prefect 3.
    """
    deployments = [deployment for deployment in _deployments(api) if is_ours(deployment.record, name)]
    if not deployments:
        subject = "no deployment of our flows" if name is None else f"no deployment of {name}"
        return [failed("deployments", f"{subject} is on this server", _deploy())]
    checks = [fine("deployments", ", ".join(deployment.label for deployment in deployments))]
    pools = {
        str(deployment.record["work_pool_name"]) for deployment in deployments if deployment.record["work_pool_name"]
    }
    for pool in sorted(pools):
        checks += check_pool(api, pool)
    checks += [_served(deployment) for deployment in deployments if not deployment.record["work_pool_name"]]
    if not any(deployment.is_active for deployment in deployments):
        checks.append(_nothing_active(deployments))
    for deployment in deployments:
        checks += _runs(api, deployment, now, any(each.is_active for each in deployments))
    return checks


def is_ours(record: Mapping[str, Any], name: str | None) -> bool:
    """Whether a deployment runs a flow of ours; where a model is named, whether it is about that model."""
    if "bundlegate" not in record["tags"] and not ENTRYPOINT.fullmatch(record["entrypoint"] or ""):
        return False
    config = record["parameters"].get("config")
    return name is None or (isinstance(config, dict) and name in _models_of(config))


def _models_of(config: Mapping[str, Any]) -> set[str]:
    job = config.get("job")
    bundles = [config.get("bundle"), job.get("bundle") if isinstance(job, dict) else None]
    return {str(config.get("name")), *(str(bundle).partition("@")[0] for bundle in bundles)}


def _deployments(api: PrefectApi) -> list[Deployment]:
    records: list[dict[str, Any]] = []
    while page := api.post("deployments/filter", limit=PAGE, offset=len(records), sort="NAME_ASC"):
        records += page
        if len(page) < PAGE:
            break
    flows: dict[str, str] = {}
    for flow in sorted({str(record["flow_id"]) for record in records}):
        flows[flow] = str(api.get(f"flows/{flow}").content["name"])
    return [Deployment(record, flows[str(record["flow_id"])]) for record in records]


def check_pool(api: PrefectApi, pool: str) -> list[HealthCheck]:
    """A work pool, and whether it has a live worker. Raises as `check_schedules` does."""
    path, quoted = f"work_pools/{quote(pool, safe='')}", shlex.quote(pool)
    record = api.get(path).content
    start = f"prefect worker start --pool {quoted}"
    if record is None:
        create = f"prefect work-pool create {quoted} --type process, deploy again, then {start}"
        return [failed("pool", f"there is no work pool {pool}", create)]
    if record["is_paused"]:
        return [failed("pool", f"the work pool {pool} is paused", f"prefect work-pool resume {quoted}")]
    if str(record["type"]).endswith((":push", ":managed")):
        return [fine("pool", f"{pool} ({record['type']}) needs no worker")]
    workers = api.post(f"{path}/workers/filter", limit=PAGE)
    live = [str(worker["name"]) for worker in workers if worker["status"] == "ONLINE"]
    if live:
        return [fine("worker", f"{pool}: {', '.join(live[:3])}{' …' * (len(live) > 3)}")]
    last = max((_time(worker["last_heartbeat_time"]) for worker in workers), default=None)
    contact = "none was ever there" if last is None else f"the last was heard of at {_utc_text(last)}"
    return [failed("worker", f"no live worker in the pool {pool}: {contact}", f"on the machine that trains: {start}")]


def _served(deployment: Deployment) -> HealthCheck:
    """A deployment without a pool is served by the process that made it."""
    if deployment.record["status"] == "READY":
        return fine("worker", f"{deployment.label} is served by a process of its own")
    return failed(
        "worker", f"{deployment.label} has no work pool, and the process that served it is gone", "start it again"
    )


def _nothing_active(deployments: list[Deployment]) -> HealthCheck:
    if any(deployment.is_scheduled for deployment in deployments):
        labels = [deployment.label for deployment in deployments if deployment.is_scheduled]
        return failed("schedule", f"paused: {', '.join(labels)}; nothing runs by itself", _resume(labels[0]))
    return doubtful("schedule", "no deployment has a schedule: nothing runs by itself", f"add one, and {_deploy()}")


def _deploy() -> str:
    command = "prefect --no-prompt deploy --all --prefect-file FOLDER/prefect.yaml"
    where = from_checkout(before="")
    return f"{where}: {command}" if where else command


def _resume(label: str) -> str:
    quoted = shlex.quote(label)
    return f"prefect deployment schedule ls {quoted}, then prefect deployment schedule resume {quoted} ID"


def _runs(api: PrefectApi, deployment: Deployment, now: datetime, others_active: bool) -> list[HealthCheck]:
    checks: list[HealthCheck] = []
    if deployment.is_active:
        checks += _next_run(api, deployment, now)
    elif deployment.is_scheduled and others_active:
        checks.append(
            doubtful("schedule", f"{deployment.label} is paused", f"if it shall run: {_resume(deployment.label)}")
        )
    checks += _last_run(api, deployment, now)
    return checks


def _flow_runs(api: PrefectApi, deployment: Deployment, types: tuple[str, ...], sort: str, limit: int) -> list[Any]:
    runs_filter = {"deployment_id": {"any_": [deployment.record["id"]]}, "state": {"type": {"any_": list(types)}}}
    return list(api.post("flow_runs/filter", flow_runs=runs_filter, sort=sort, limit=limit))


def _next_run(api: PrefectApi, deployment: Deployment, now: datetime) -> list[HealthCheck]:
    runs = _flow_runs(api, deployment, ("SCHEDULED",), "NEXT_SCHEDULED_START_TIME_ASC", PAGE)
    due = [(run, _time(run["next_scheduled_start_time"] or run["expected_start_time"])) for run in runs]
    checks: list[HealthCheck] = []
    late = [(run, when) for run, when in due if (now - when).total_seconds() > LATE_S]
    if late:
        run, when = late[0]
        message = f"{deployment.label}: {run['name']} was due at {_utc_text(when)}, {_ago(now, when)}, and hasn't begun"
        count = f" ({len(late)} such runs)" if len(late) > 1 else ""
        waits = run["state_name"] == "AwaitingConcurrencySlot"
        advice = "the run before it has the slot" if waits else "the lines about pool and worker say why"
        result = doubtful if waits else failed
        checks.append(result("next", message + count, f"{advice}; prefect flow-run inspect {run['id']}"))
    coming = [when for run, when in due if run["auto_scheduled"] and (now - when).total_seconds() <= LATE_S]
    if coming:
        checks.append(fine("next", f"{deployment.label} at {_utc_text(coming[0])}"))
    elif (now - _time(deployment.record["updated"])).total_seconds() < NEW_S:
        message = f"{deployment.label} has no next run yet; it was deployed or resumed just now"
        checks.append(doubtful("next", message, "look again in two minutes"))
    else:
        message = f"{deployment.label} has an active schedule and no next run: the server's scheduler doesn't work"
        remedy = "look for ERROR in the server's log, and at the versions where it runs; then start it again"
        checks.append(failed("next", message, remedy))
    return checks


def _last_run(api: PrefectApi, deployment: Deployment, now: datetime) -> list[HealthCheck]:
    runs = _flow_runs(api, deployment, BEGUN, "EXPECTED_START_TIME_DESC", 1)
    if not runs:
        return [fine("last", f"{deployment.label} hasn't run yet")] if deployment.is_active else []
    run = runs[0]
    when = _time(run["end_time"] or run["start_time"] or run["expected_start_time"])
    message = f"{deployment.label}: {run['name']} {run['state_name']} at {_utc_text(when)}, {_ago(now, when)}"
    log = f"prefect flow-run logs {run['id']}"
    kind = run["state_type"]
    if kind in ("FAILED", "CRASHED"):
        reason = " ".join(str(run["state"]["message"] or "").split())[:200]
        return [failed("last", f"{message}: {reason}" if reason else message, log)]
    if kind == "PAUSED":
        return [doubtful("last", message, "it waits for a person: bundlegate approve")]
    if kind in ("CANCELLED", "CANCELLING"):
        return [doubtful("last", message, f"{log}; prefect deployment run {shlex.quote(deployment.label)}")]
    if kind != "COMPLETED" and (now - when).total_seconds() > LONG_S:
        return [doubtful("last", f"{message}, and is at it still", log)]
    return [fine("last", message)]


def _time(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def _utc_text(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _ago(now: datetime, when: datetime) -> str:
    minutes = max(0.0, (now - when).total_seconds() / 60)
    if minutes < 90:
        return f"{minutes:.0f} min ago"
    return f"{minutes / 60:.0f} h ago" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days ago"
