"""One origin's challenger: trained on the rows that existed then, sealed, and proved."""

from __future__ import annotations

from typing import Any

from ai.ml.core.errors import BundleRefused, ExitCode
from ai.ml.retraining.backtest.origins import Origin
from ai.ml.retraining.records import CandidateRef, DataRef, Record, VerdictRef, problems

PROVED = "PROVED"
NO_METRICS: dict[str, Any] = {}


class ProvedCandidate(Record):
    """The result of an origin's run; the backtest goes on whatever the gate's verdict is."""

    data: DataRef
    candidate: CandidateRef
    verdict: VerdictRef

    @property
    def exit_code(self) -> ExitCode:
        """0 where the gate let it through, else 1."""
        return ExitCode.OK if self.verdict.outcome == "PASSED" else ExitCode.REFUSED


class OriginOutcome(Record):
    """The outcome of one origin's training."""

    model: str
    """The model's name in the backtest's own store."""
    origin: int
    label: str
    rows: int
    later_rows: int
    instant: str | None = None
    outcome: str
    """PROVED, REFUSED by the gate, or why nothing was trained: DATA, BUSY, STORAGE, …"""
    digest: str | None = None
    reason: str
    exit_code: int
    metrics: dict[str, Any] = NO_METRICS
    """Of the challenger on its own holdout rows, as it was trained."""
    findings: tuple[str, ...] = ()
    flow_run: str | None = None
    seconds: float | None = None
    proved: ProvedCandidate | None = None
    """The files behind it; None where there is nothing to decide on."""


def proved_origin(origin: Origin, result: ProvedCandidate, flow_run: str | None) -> OriginOutcome:
    """The outcome of an origin whose run ended normally.

    Raises:
        BundleRefused: its files have changed since.
    """
    changed = problems(result)
    if changed:
        raise BundleRefused(f"what {origin.model} left isn't there as it was made: {changed[0]}")
    passed = result.verdict.outcome == "PASSED"
    return _outcome(
        origin,
        outcome=PROVED if passed else "REFUSED",
        digest=result.candidate.bundle.digest,
        reason=result.verdict.reason,
        exit_code=int(result.exit_code),
        metrics=result.candidate.metrics,
        findings=result.candidate.findings,
        flow_run=flow_run,
        proved=result if passed else None,
    )


def failed_origin(origin: Origin, exit_code: int, reason: str, flow_run: str | None = None) -> OriginOutcome:
    """The outcome of an origin without a challenger: each policy's champion stays."""
    names = {int(code): code.name for code in ExitCode}
    return _outcome(
        origin,
        outcome=names.get(exit_code, f"EXIT {exit_code}"),
        reason=reason,
        exit_code=exit_code,
        flow_run=flow_run,
    )


def _outcome(origin: Origin, **facts: object) -> OriginOutcome:
    from_origin = {name: getattr(origin, name) for name in ("model", "label", "rows", "later_rows", "instant")}
    return OriginOutcome.model_validate({"origin": origin.number, **from_origin, **facts})
