"""What a run shows in Prefect's UI: artifacts keyed by model, so that each has a history, and events."""

from __future__ import annotations

import re
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext
from prefect.events import emit_event

from ai.ml.retraining.checkpoints import CandidateRef, DecisionRecord, PromotionRecord
from ai.ml.retraining.verdict import Verdict
from ai.ml.retraining.verdict_render import to_markdown

EVENTS = {"PROMOTED": "bundle.promoted", "HELD": "bundle.held", "REJECTED": "bundle.rejected"}


def show_metrics(name: str, candidate: CandidateRef) -> None:
    """A table of the candidate's metrics."""
    rows = [{"metric": key, "value": value} for key, value in candidate.metrics.items()]
    _publish(create_table_artifact, key=_key(name, "metrics"), table=rows, description=candidate.bundle.digest)


def show_verdict(name: str, verdict: Verdict) -> None:
    """The gate's verdict as Markdown."""
    _publish(create_markdown_artifact, key=_key(name, "verdict"), markdown=to_markdown(verdict))


def show_decision(name: str, decision: DecisionRecord) -> None:
    """Challenger against champion as Markdown."""
    lines = [f"**{decision.outcome}** — {decision.reason}", "", "```json", f"{decision.document}", "```"]
    _publish(create_markdown_artifact, key=_key(name, "decision"), markdown="\n".join(lines))


def publish_table(name: str, part: str, rows: list[dict[str, Any]], description: str) -> None:
    """A table under a key of its own."""
    _publish(create_table_artifact, key=_key(name, part), table=rows, description=description)


def publish_markdown(name: str, part: str, text: str) -> None:
    """A text under a key of its own."""
    _publish(create_markdown_artifact, key=_key(name, part), markdown=text)


def emit_outcome(name: str, promotion: PromotionRecord) -> None:
    """The event that automations listen for."""
    if FlowRunContext.get() is not None:
        resource = {"prefect.resource.id": f"bundlegate.model.{name}", "bundlegate.digest": promotion.digest}
        emit_event(EVENTS[promotion.outcome], resource=resource, payload={"sentence": promotion.sentence})


def _key(name: str, part: str) -> str:
    """Artifact keys hold lower-case letters, digits and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", f"{name}-{part}".lower()).strip("-")


def _publish(create: Any, **content: Any) -> None:
    """Outside a run (tests and plain calls of a task's function) there is nothing to attach an artifact to."""
    if FlowRunContext.get() is not None:
        create(**content)
