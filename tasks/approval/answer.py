"""What waits for a person at a Prefect server, and their answer to it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from ai.ml.core.errors import Busy, UsageError
from ai.ml.retraining.records import Approval
from tasks.artifacts import artifact_key
from tasks.command_line import server_answers

FLOW = "retrain"
_NO_QUESTION = "Run input schema not found"
"""The message of Prefect's error: it suspends a run before it stores the run's request."""


@dataclass(frozen=True)
class Waiting:
    """A run that waits for approval."""

    run: UUID
    name: str
    """The model's."""
    digest: str
    champion: str | None
    """Digest of the one that would be replaced."""
    until: datetime | None


def list_waiting() -> list[Waiting]:
    """Every run that waits for an answer, the oldest first.

    Raises:
        UsageError: no server is named.
        StorageFailed: it can't be reached.
    """
    with _client() as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
            ),
        )
    found = [waiting for run in runs if (waiting := _waiting(run)) is not None]
    return sorted(found, key=lambda waiting: str(waiting.until))


def find_waiting(reference: str) -> Waiting:
    """The run that a model's name or a run's id means.

    Raises:
        UsageError: there is none, or more than one.
    """
    found = [waiting for waiting in list_waiting() if reference in (waiting.name, str(waiting.run))]
    if not found:
        raise UsageError(f"nothing waits for approval under {reference!r}: it was answered already, or never asked")
    if len(found) > 1:
        runs = ", ".join(f"{waiting.run} ({waiting.digest[:12]})" for waiting in found)
        raise UsageError(f"{len(found)} runs of {reference} wait for approval; name one by its id: {runs}")
    return found[0]


def question(waiting: Waiting) -> str:
    """What the run published for its approver, as Markdown; empty where that was deleted."""
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[waiting.run]),
        key=ArtifactFilterKey(any_=[artifact_key(waiting.name, "approval")]),
    )
    with _client() as client:
        artifacts = client.read_artifacts(artifact_filter=wanted)
    texts = [artifact.data for artifact in artifacts if isinstance(artifact.data, str)]
    return texts[-1] if texts else ""


def send_answer(waiting: Waiting, approval: Approval) -> None:
    """Answer, and let the run go on.

    Raises:
        Busy: it doesn't wait any more (answered already, cancelled, or its time is over), or has no question yet.
        UsageError: the server doesn't take the answer.
        StorageFailed: it can't be reached.
    """
    form: dict[str, Any] = {
        "approve": approval.approved,
        "approver": approval.approver,
        "reason": approval.reason,
        "digest": waiting.digest,
    }
    gone = f"{waiting.name}: run {waiting.run} doesn't wait for approval any more"
    try:
        with _client() as client:
            result = client.resume_flow_run(waiting.run, run_input=form)
    except (httpx.HTTPStatusError, ObjectNotFound) as error:
        raise Busy(f"{gone}: somebody else answered at the same moment, or it was deleted") from error
    if result.status == SetStateStatus.ACCEPT:
        return
    reason = str(getattr(result.details, "reason", ""))
    if reason.startswith(_NO_QUESTION):
        raise Busy(
            f"{waiting.name}: run {waiting.run} has not stored its question yet: try again in a moment; if it stays "
            "so, its process was killed while it asked: cancel it and run it again"
        )
    if result.status == SetStateStatus.REJECT and result.state is not None and result.state.type == StateType.PAUSED:
        raise UsageError(f"the server doesn't take the answer: {reason}")
    raise Busy(f"{gone}: {reason}")


def _waiting(run: FlowRun) -> Waiting | None:
    """None for a run that was paused for something else."""
    key = (run.state.state_details.pause_key if run.state is not None else None) or ""
    digest, _, rest = key.partition("-")
    name = (run.parameters.get("config") or {}).get("name")
    if run.state is None or len(digest) != 64 or not rest or not isinstance(name, str):
        return None
    champion = rest.partition("-")[0]
    details = run.state.state_details
    return Waiting(run.id, name, digest, None if champion == "none" else champion, details.pause_timeout)


@contextmanager
def _client() -> Generator[SyncPrefectClient]:
    """A client whose connection errors are one sentence."""
    if not PREFECT_API_URL.value():
        raise UsageError("set PREFECT_API_URL to the server whose runs wait: an ephemeral one has none")
    with server_answers(), get_client(sync_client=True) as client:
        yield client
