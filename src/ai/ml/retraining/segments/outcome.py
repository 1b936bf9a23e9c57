"""What became of many models at once: one line for each, and the exit code of them all."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.table import Table
from rich.text import Text

from ai.ml.core.errors import ExitCode, worst_of
from ai.ml.retraining.console import colours
from ai.ml.retraining.console.progress import result_console
from ai.ml.retraining.records import Record, RetrainSummary
from ai.ml.retraining.segments.cut import Segment, SegmentPlan

DECIDED = ("PROMOTED", "HELD", "REJECTED")
"""Outcomes of runs that ended normally; the others are counted by the name of their exit code."""


class SegmentOutcome(Record):
    """The outcome of one segment."""

    model: str
    segment: str
    """`country = NO`."""
    rows: int
    outcome: str
    """PROMOTED, HELD, REJECTED, or why there was no decision: REFUSED by the gate, DATA, BUSY, STORAGE, …"""
    digest: str | None
    """Of the candidate; None where there is none, or where it is in quarantine, whose path is in the reason."""
    reason: str
    exit_code: int
    flow_run: str | None = None
    """Id of its own run; None if none was started."""
    seconds: float | None = None


class SegmentsSummary(Record):
    """The outcomes of all segments of a run."""

    name: str
    source: str
    rows: int
    left_out: tuple[str, ...]
    segments: tuple[SegmentOutcome, ...]
    exit_code: int
    """The worst of the segments', as `SEVERITY` in `ai/ml/core/errors.py` has it."""
    sentence: str

    @property
    def undecided(self) -> tuple[SegmentOutcome, ...]:
        """Segments whose run failed or didn't start."""
        return tuple(outcome for outcome in self.segments if outcome.outcome not in DECIDED)


def refused_segment(segment: Segment, reason: str) -> SegmentOutcome:
    """The outcome of a segment whose rows can't be trained on."""
    return failed_segment(segment, ExitCode.DATA, reason)


def failed_segment(segment: Segment, exit_code: int, reason: str, flow_run: str | None = None) -> SegmentOutcome:
    """The outcome of a segment whose run ended without a decision."""
    known = {int(code): code.name for code in ExitCode}
    return SegmentOutcome(
        model=segment.model,
        segment=segment.label,
        rows=segment.rows,
        outcome=known.get(exit_code, f"EXIT {exit_code}"),
        digest=None,
        reason=reason,
        exit_code=exit_code,
        flow_run=flow_run,
    )


def decided_segment(segment: Segment, summary: RetrainSummary, flow_run: str | None) -> SegmentOutcome:
    """The outcome of a segment whose run ended normally."""
    return SegmentOutcome(
        model=segment.model,
        segment=segment.label,
        rows=segment.rows,
        outcome=summary.promotion.outcome,
        digest=summary.candidate.bundle.digest,
        reason=summary.decision.reason,
        exit_code=int(summary.exit_code),
        flow_run=flow_run,
    )


def summarize(name: str, plan: SegmentPlan, outcomes: list[SegmentOutcome]) -> SegmentsSummary:
    """The summary of all outcomes, in the plan's order."""
    counts = Counter(outcome.outcome for outcome in outcomes)
    counted_outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    code = worst_of(outcome.exit_code for outcome in outcomes)
    sentence = f"{name}: {len(outcomes)} segments: {counted_outcomes}"
    worst = next((outcome for outcome in outcomes if outcome.exit_code == code and code), None)
    if worst is not None:
        sentence += f"; exit code {code} is {worst.model}'s ({worst.reason})"
    return SegmentsSummary(
        name=name,
        source=plan.source,
        rows=plan.rows,
        left_out=plan.left_out,
        segments=tuple(outcomes),
        exit_code=code,
        sentence=sentence,
    )


def segment_rows(summary: SegmentsSummary) -> list[dict[str, Any]]:
    """The table as plain rows: model, segment, rows, outcome, digest, exit code, reason."""
    return [outcome.model_dump(mode="json") for outcome in summary.segments]


def show_segments(summary: SegmentsSummary) -> None:
    """Print the table to stdout; in a file or pipe a line for each segment, without wrapping."""
    console = result_console()
    table = Table(title=f"{summary.name}: {summary.rows:,} rows of {summary.source}", title_justify="left")
    for name in ("model", "segment"):
        table.add_column(name, overflow="fold")
    table.add_column("rows", justify="right")
    for name in ("outcome", "digest", "exit", "reason"):
        table.add_column(name, overflow="fold", no_wrap=name != "reason")
    for outcome in summary.segments:
        coloured = Text(outcome.outcome, colours.RUNS.get(outcome.outcome, "red"))
        digest = (outcome.digest or "–")[:12]
        cells = (Text(outcome.model), Text(outcome.segment), f"{outcome.rows:,}", coloured)
        table.add_row(*cells, digest, str(outcome.exit_code), Text(outcome.reason))
    console.print()
    console.print(table)
    for sentence in summary.left_out:
        console.print(Text(sentence), soft_wrap=True)
    console.print(Text(summary.sentence), soft_wrap=True)
