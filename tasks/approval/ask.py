"""Asking a person before a promotion, in Prefect's UI or by `bundlegate approve`.

A run of a deployment is suspended: its process ends, its work lock and its concurrency slot are free, and a worker
starts it again with the answer. A run without a deployment (from a terminal, or inside another flow) can't be started
again by anybody, so its process waits; its work lock is free too.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run, suspend_flow_run
from prefect.input import RunInput
from prefect.settings import PREFECT_API_URL
from prefect.states import Running
from pydantic import Field, ValidationError, create_model

from ai.ml.core.errors import Busy, UsageError
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.gate.render import to_markdown
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.records import Approval
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.approval import (
    ApprovalRequest,
    Proposal,
    create_request,
    declined,
    load_request,
    mark_answered,
    needs_person,
    verify_request,
)
from ai.ml.retraining.runs.plan import pinned
from ai.ml.retraining.settings.retrain import RetrainConfig
from tasks.artifacts import decision_markdown, emit_bundle_event, publish_markdown

LOCK_WAIT_S = 3600.0
"""A run that was answered waits so long for the run that works on the same model now."""
POLL_S = 5
"""Seconds between two polls of the server."""
SPARE_S = 60.0
"""Seconds before the flow's own time-out at which waiting ends, so that it can still be reported."""


class ApprovalForm(RunInput):
    """What the approver fills in."""

    approve: Annotated[bool, Field(description="Yes: this candidate becomes the champion. No: the champion stays")]
    approver: Annotated[str, Field(min_length=1, max_length=200, description="Who answers; the ledger keeps it")]
    reason: Annotated[str, Field(min_length=1, max_length=2000, description="Why; the ledger keeps it")]


def require_server(config: RetrainConfig) -> None:
    """Check, before anything is trained, that somebody can answer.

    Raises:
        UsageError: this run has a server of its own that nobody else reaches, and that ends with it.
    """
    asks = config.approval.approve
    if asks != "auto" and not config.dry_run and not PREFECT_API_URL.value():
        raise UsageError(
            f"--approve {asks} needs a Prefect server that people can reach: start one with `prefect server start` and "
            "set PREFECT_API_URL to it"
        )


class RetrainingRun:
    """A run of the retraining flow: locks its model's work folder, except while it waits for approval."""

    def __init__(self, config: RetrainConfig) -> None:
        self.config = config
        self.request: ApprovalRequest | None = None
        """What this very run asked before it was suspended, verified again; None in a run that hasn't asked yet."""
        self.work_folder = ExitStack()
        """Its lock, while it is locked."""

    def lock(self, timeout_s: float = 0.0) -> None:
        """Lock the work folder; raises Busy if another run of the model holds it for `timeout_s` seconds."""
        self.work_folder.enter_context(steps.open_run(self.config, timeout_s))

    def ask(self, proposal: Proposal) -> tuple[Proposal, Approval | None]:
        """Ask, wait, and give back what may be promoted now; nothing is asked where the champion stays.

        The first call of a deployment's run doesn't return: the run is suspended.

        Args:
            proposal: what was trained, proved and decided.

        Returns:
            What was asked about, with the decision after the answer, and the answer: None if nobody was asked.

        Raises:
            Busy: nobody answered in time, another champion was made meanwhile, or another run holds the work folder.
            BundleRefused: what was asked about has changed or is gone.
            UsageError: a person would have to be asked, and this is no run of a flow.
        """
        config = self.config
        if not needs_person(config, proposal):
            return proposal, None
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            raise UsageError("a person can be asked in a flow's run only: nothing is promoted")
        run, suspends = str(context.flow_run.id), _can_be_suspended(context.flow_run)
        request = self.request
        if request is None:
            seconds = config.approval.hours * 3600
            request = create_request(config, run, proposal, seconds if suspends else min(seconds, _left(context)))
            _announce(config, request)
        answer = self._answer(run, request, suspends)
        verify_request(config, request)
        mark_answered(config, run, answer)
        logger.info("%s  by %s: %s", "approved" if answer.approved else "declined", answer.approver, answer.reason)
        proposal = request.draft if self.request is None else proposal
        if answer.approved:
            return proposal, answer
        return proposal.model_copy(update={"decision": declined(proposal.decision, answer)}), answer

    def _answer(self, run: str, request: ApprovalRequest, suspends: bool) -> Approval:
        config, form = self.config, _form(self.config, request)
        if suspends:
            return _answer(lambda: suspend_flow_run(form, timeout=_seconds(request), key=request.key))
        self.work_folder.close()
        answer = _answer(lambda: _wait(config, run, request, form))
        self.lock(LOCK_WAIT_S)
        return answer


@contextmanager
def retraining_run(config: RetrainConfig) -> Generator[RetrainingRun]:
    """Begin a run, or go on with one that was suspended to ask a person; at its end there is nothing to resume.

    Yields:
        The run. Its teacher is named by digest, so that a resumed run goes on with the one that it began with.

    Raises:
        BundleRefused: what was asked about has changed or is gone.
        Busy: another champion was made meanwhile, or another run holds the work folder.
    """
    context, keys = FlowRunContext.get(), None
    if context is not None and context.flow_run is not None and config.approval.approve != "auto":
        keys = context.flow_run.empirical_policy.pause_keys
    run = RetrainingRun(config if keys else pinned(config))
    with run.work_folder:
        run.lock(LOCK_WAIT_S if keys else 0.0)
        if keys and context is not None and context.flow_run is not None:
            run.request = load_request(config, str(context.flow_run.id), keys)
            logger.info("resumed   %s was asked about and is as it was", run.request.draft.candidate.bundle.digest[:12])
        yield run
        steps.end_run(config)


def _answer(ask: Any) -> Approval:
    try:
        given = ask()
    except ValidationError:
        raise Busy("the run was resumed without an answer to what it asks: nothing is promoted, run it again") from None
    return Approval(approved=given.approve, approver=_line(given.approver), reason=_line(given.reason))


def _can_be_suspended(run: FlowRun) -> bool:
    """Only a worker that knows its deployment can start it again; never the child of another run."""
    return run.deployment_id is not None and run.parent_task_run_id is None


def _left(context: FlowRunContext) -> float:
    """Seconds before the flow's own time-out, in which a process may wait."""
    limit = None if context.flow is None else context.flow.timeout_seconds
    started = None if context.flow_run is None else context.flow_run.start_time
    if not limit or started is None:
        return math.inf
    return max(limit - (datetime.now(UTC) - started).total_seconds() - SPARE_S, 1.0)


def _wait(config: RetrainConfig, run: str, request: ApprovalRequest, form: Any) -> Any:
    try:
        return pause_flow_run(form, timeout=_seconds(request), poll_interval=POLL_S, key=request.key)
    except FlowPauseTimeout:
        _take_back(UUID(run))
        bundle = request.draft.candidate.bundle
        raise Busy(
            f"{config.name}: nobody answered until {_shown(request)} whether {bundle.digest[:12]} may become the "
            f"champion; the champion stays, the candidate is kept at {Path(bundle.path).parent}; run it again, and it "
            "asks again"
        ) from None


def _take_back(run: UUID) -> None:
    """Make this run a running one again after a pause in vain, so that it can end with its own sentence.

    The server takes nothing from a run whose pause has run out but a failure of its own making, which says nothing of
    the candidate; whether it has set that already depends on who looks at the clock first.
    """
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
        if state is not None and (state.is_paused() or state.is_failed()):
            client.set_flow_run_state(run, Running(), force=True)


def _seconds(request: ApprovalRequest) -> int:
    left = datetime.fromisoformat(request.until) - datetime.now(UTC)
    return max(int(left.total_seconds()), 1)


def _form(config: RetrainConfig, request: ApprovalRequest) -> Any:
    """The form with the digest in it: an answer that names another one isn't taken by the server."""
    digest = request.draft.candidate.bundle.digest
    field = Field(default=digest, description="The candidate that this answer is about")
    fields: Any = {"digest": (Literal[digest], field)}
    form: Any = create_model("ApprovalForm", __base__=ApprovalForm, **fields)
    form._description = _question(config, request)
    return form


def _question(config: RetrainConfig, request: ApprovalRequest) -> str:
    """Decision and verdict, and how to answer, as Markdown."""
    draft = request.draft
    digest, champion = draft.candidate.bundle.digest, draft.decision.champion
    replaced = f"in place of `{champion}`" if champion else "the first one"
    verdict = Verdict.from_json(Path(draft.verdict.file.path).read_bytes())
    return "\n".join(
        [
            f"# May this become the champion of {config.name}?",
            "",
            f"Candidate `{digest}`, {replaced}. Answer until {_shown(request)}:",
            f"*Resume* at this run, or `bundlegate approve {config.name} --yes --reason '…'` (or `--no`).",
            "",
            "## Decision",
            "",
            decision_markdown(draft.decision),
            "",
            "## Verdict",
            "",
            to_markdown(verdict),
        ]
    )


def _announce(config: RetrainConfig, request: ApprovalRequest) -> None:
    """Announce the request by an artifact, an event and the log."""
    digest = request.draft.candidate.bundle.digest
    publish_markdown(config.name, "approval", _question(config, request), f"{digest} waits for approval")
    reason = request.draft.decision.reason
    emit_bundle_event("bundle.awaiting-approval", config.name, digest, sentence=reason, until=request.until)
    logger.info(
        "waiting   for approval of %s until %s: bundlegate approve %s --yes --reason '…'",
        digest[:12],
        _shown(request),
        config.name,
    )


def _shown(request: ApprovalRequest) -> str:
    return f"{datetime.fromisoformat(request.until):%Y-%m-%d %H:%M} UTC"


def _line(text: str) -> str:
    """On one line and without what would steer a terminal, as the ledger's table shows it."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
