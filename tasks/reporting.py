"""What a run shows in Prefect's UI: artifacts keyed by model, so that each has a history, and events."""

from __future__ import annotations

import re
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext
from prefect.events import emit_event

from ai.ml.retraining.batch import BatchReport
from ai.ml.retraining.checkpoints import CandidateRef, DecisionRecord, DriftRecord, PromotionRecord
from ai.ml.retraining.verdict import Verdict
from ai.ml.retraining.verdict_render import to_markdown

EVENTS = {"PROMOTED": "bundle.promoted", "HELD": "bundle.held", "REJECTED": "bundle.rejected"}


def show_metrics(name: str, candidate: CandidateRef) -> None:
    """A table of the candidate's metrics."""
    rows = [{"metric": key, "value": value} for key, value in candidate.metrics.items()]
    _publish(create_table_artifact, key=_key(name, "metrics"), table=rows, description=candidate.bundle.digest)


def show_drift(name: str, drift: DriftRecord) -> None:
    """A table of each column's distance from the champion's training table."""
    rows = drift.document.get("columns", [])
    _publish(create_table_artifact, key=_key(name, "drift"), table=rows, description=drift.sentence)


def show_verdict(name: str, verdict: Verdict) -> None:
    """The gate's verdict as Markdown."""
    _publish(create_markdown_artifact, key=_key(name, "verdict"), markdown=to_markdown(verdict))


def show_decision(name: str, decision: DecisionRecord) -> None:
    """Challenger against champion as Markdown."""
    lines = [f"**{decision.outcome}** — {decision.reason}", "", "```json", f"{decision.document}", "```"]
    _publish(create_markdown_artifact, key=_key(name, "decision"), markdown="\n".join(lines))


def show_batch(output: str, report: BatchReport) -> None:
    """A table of what a batch prediction did."""
    facts = report.model_dump(mode="json", exclude={"failures", "counts", "answers"})
    facts |= {"failures": len(report.failures), **{f"label {name}": n for name, n in report.answers.labels.items()}}
    rows = [{"fact": name, "value": value} for name, value in facts.items()]
    name = output.rstrip("/").rpartition("/")[2]
    _publish(create_table_artifact, key=_key(name, "scored"), table=rows, description=report.sentence)


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
