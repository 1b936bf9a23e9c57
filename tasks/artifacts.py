"""What a run shows in Prefect's UI: artifacts keyed by model, so that each has a history, events and lineage."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.assets import materialize
from prefect.context import FlowRunContext
from prefect.events import emit_event

from ai.ml.core.number_text import figure
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.gate.render import to_markdown
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.records import (
    CandidateRef,
    DecisionRecord,
    DriftRecord,
    PromotionRecord,
    ReportRef,
    VerdictRef,
)
from ai.ml.retraining.reporting.files import CARD, PREVIEW
from ai.ml.retraining.runs.summary import metrics_line
from ai.ml.retraining.settings.retrain import RetrainConfig
from tasks.caching import KEPT, PersistOnly

if TYPE_CHECKING:
    from ai.ml.frameworks.pytorch.trainer.loop import EpochReport

EVENTS = {"PROMOTED": "bundle.promoted", "HELD": "bundle.held", "REJECTED": "bundle.rejected"}
SHORT = 12
"""Characters of a digest, as everywhere in sentences."""
PROGRESS_EVERY_S = 2.0
"""An update is a call to the API; epochs can be faster."""


@task(name="report", task_run_name="report {candidate.bundle.digest:.12}", cache_policy=PersistOnly(), **KEPT)
def report(
    config: RetrainConfig, candidate: CandidateRef, verdict: VerdictRef, decision: DecisionRecord | None = None
) -> ReportRef | None:
    """Make the candidate's card and report; an error is logged and changes nothing."""
    from ai.ml.retraining.reporting.sources import report_or_warn

    return report_or_warn(config, candidate, verdict, decision, partial(show_report, config.name))


def show_report(name: str, report: ReportRef) -> None:
    """The card as Markdown, one chart as an image, and the page's path."""
    page = Path(report.page.path)
    bundle = page.parent.name[:SHORT]
    card = page.with_name(CARD).read_text(encoding="utf-8")
    # The YAML head is for model hubs.
    _publish(
        create_markdown_artifact,
        key=artifact_key(name, "card"),
        markdown=card.partition("\n---\n\n")[2],
        description=f"card of {bundle}",
    )
    # Browsers don't follow links from a server's page to a local file, so the path is shown as text.
    description = f"report of {bundle}: copy the address into a browser on the machine that keeps it"
    link = {"link": page.as_uri(), "link_text": page.as_uri(), "description": description}
    _publish(create_link_artifact, key=artifact_key(name, "report"), **link)
    chart = page.with_name(PREVIEW)
    if chart.is_file():
        content = base64.b64encode(chart.read_bytes()).decode()
        caption = f"main chart of {bundle}"
        # Not as an image artifact: both of Prefect's UIs print its address below it, all kilobytes of it in one line.
        image = f"![{caption}](data:image/svg+xml;base64,{content})"
        _publish(create_markdown_artifact, key=artifact_key(name, "chart"), markdown=image, description=caption)


def show_metrics(name: str, candidate: CandidateRef) -> None:
    """A table of the candidate's metrics."""
    rows = [{"metric": key, "value": _figure(value)} for key, value in candidate.metrics.items()]
    rows += [
        {"metric": f"{baseline['name']}: {baseline['metric']}", "value": _figure(baseline["value"])}
        for baseline in candidate.baselines
    ]
    publish_table(name, "metrics", rows, f"{candidate.bundle.digest[:SHORT]}: {metrics_line(candidate.metrics)}")


def show_drift(name: str, drift: DriftRecord) -> None:
    """A table of each column's distance from the champion's training table."""
    publish_table(name, "drift", drift_rows(drift.document.get("columns", [])), drift.sentence)


def drift_rows(columns: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The drift of each column as a table: figures and severity."""
    return [
        {
            "column": column["column"],
            "drift": column["severity"],
            "PSI": round(column["psi"], 3),
            "KS": "–" if column["ks"] is None else round(column["ks"], 2),
            "missing": f"{column['missing_share']:.1%}",
            "missing at training": f"{column['missing_share_at_training']:.1%}",
        }
        for column in columns
    ]


def show_verdict(name: str, verdict: Verdict) -> None:
    """The gate's verdict as Markdown."""
    markdown = to_markdown(verdict)
    _publish(create_markdown_artifact, key=artifact_key(name, "verdict"), markdown=markdown, description=verdict.reason)


def show_decision(name: str, decision: DecisionRecord) -> None:
    """Challenger against champion as Markdown."""
    publish_markdown(name, "decision", decision_markdown(decision), decision.reason)


def decision_markdown(decision: DecisionRecord) -> str:
    """Outcome, reason, and the metrics of both."""
    document = decision.document
    lines = [f"**{decision.outcome}** — {decision.reason}", "", "| metric | challenger | champion |", "|---|---|---|"]
    champion: dict[str, float] = document.get("champion") or {}
    for metric, value in document["challenger"].items():
        beside = figure(champion[metric]) if metric in champion else "–"
        lines.append(f"| {metric} | {figure(value)} | {beside} |")
    if gain := document.get("gain"):
        estimate, low, high = (figure(gain[key], signed=True) for key in ("estimate", "low", "high"))
        lines += [
            "",
            f"Gain in {document['metric']}: {estimate} ({low} to {high})",
        ]
    return "\n".join(lines)


def publish_table(name: str, part: str, rows: list[dict[str, Any]], description: str) -> None:
    """A table under a key of its own."""
    _publish(create_table_artifact, key=artifact_key(name, part), table=rows, description=description)


def publish_markdown(name: str, part: str, text: str, description: str | None = None) -> None:
    """A text under a key of its own."""
    _publish(create_markdown_artifact, key=artifact_key(name, part), markdown=text, description=description)


@contextmanager
def epoch_progress(name: str) -> Generator[Callable[[EpochReport], None]]:
    """Show the training's epochs as a progress artifact; nothing outside a run."""
    if FlowRunContext.get() is None:
        yield lambda report: None
        return
    key, description = artifact_key(name, "training"), f"epochs of the training of {name}, in percent"
    artifact: Any = _best_effort(create_progress_artifact, 0.0, key=key, description=description)
    shown = time.monotonic()

    def show(report: EpochReport) -> None:
        nonlocal shown, artifact
        if artifact is not None and time.monotonic() - shown >= PROGRESS_EVERY_S:
            shown = time.monotonic()
            share = 100 * report.epoch / report.epochs
            artifact = _best_effort(update_progress_artifact, UUID(str(artifact)), share)

    yield show
    if artifact is not None:
        _best_effort(update_progress_artifact, UUID(str(artifact)), 100.0)


def emit_outcome(name: str, promotion: PromotionRecord) -> None:
    """The event that automations listen for, and the bundle's lineage if it is live now."""
    emit_bundle_event(EVENTS[promotion.outcome], name, promotion.digest, sentence=promotion.sentence)
    if promotion.outcome == "PROMOTED":
        emit_lineage(f"model/{name}", f"data/{name}", digest=promotion.digest)


def emit_bundle_event(event: str, name: str, digest: str, **payload: str | None) -> None:
    """An event about a bundle of the model `name`; nothing outside a run."""
    if FlowRunContext.get() is not None:
        resource = {"prefect.resource.id": f"bundlegate.model.{name}", "bundlegate.digest": digest}
        emit_event(event, resource=resource, payload=payload)


def emit_lineage(made: str, of: str, **facts: str) -> None:
    """Record as Prefect assets that one was made of another; does nothing outside a run.

    Args:
        made: `model/churn`, `predictions/scored.csv`: keys without an address, which could hold a password.
        of: what it was made of.
        facts: about this version of it.
    """
    if FlowRunContext.get() is None:
        return
    key = _asset(made)

    @materialize(key, by="bundlegate", name="lineage", task_run_name=f"lineage of {made}", asset_deps=[_asset(of)])
    def lineage() -> None:
        from prefect.assets import add_asset_metadata

        add_asset_metadata(key, dict(facts))

    lineage()


def _asset(name: str) -> str:
    return "bundlegate://" + re.sub(r"[^A-Za-z0-9._/-]+", "-", name)


def artifact_key(name: str, part: str) -> str:
    """Artifact keys hold lower-case letters, digits and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", f"{name}-{part}".lower()).strip("-")


def _figure(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _publish(create: Any, **content: Any) -> None:
    """Outside a run (tests and plain calls of a task's function) there is nothing to attach an artifact to."""
    if FlowRunContext.get() is not None:
        _best_effort(create, **content)


def _best_effort(call: Any, *arguments: Any, **content: Any) -> Any:
    """A server that is away for a moment must not undo what a step has done: a training of hours, a promotion."""
    try:
        return call(*arguments, **content)
    except Exception as error:
        logger.warning("not shown in Prefect: %s: %s; nothing else depends on it", type(error).__name__, error)
        return None
