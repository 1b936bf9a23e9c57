"""Drift of the rows of a batch job from the bundle's training table, measured before the first row is scored."""

from __future__ import annotations

from collections.abc import Sequence

from ai.ml.core.contract.casting import Conformer
from ai.ml.core.contract.drift import DriftMeter
from ai.ml.core.errors import DataRefused
from ai.ml.core.input_contract import InputContract
from ai.ml.core.tables.locations import source_name
from ai.ml.core.tables.reader import ReadOptions
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.pinned import prove_pinned
from ai.ml.retraining.batch.receipts import Failure
from ai.ml.retraining.batch.runners import ScoringTask
from ai.ml.retraining.batch.score_part import part_batches, reading_for
from ai.ml.retraining.records import DriftRecord


def scoring_drift(task: ScoringTask, parts: Sequence[Part]) -> tuple[DriftRecord | None, dict[str, Failure]]:
    """Read all parts of a batch job once and hold them against the bundle's contract.

    Returns:
        The drift, None if the settings don't ask; and by name the parts that can't be read or don't meet the contract:
        they aren't in the figures, and must not be scored in this run.

    Raises:
        DataRefused: the bundle has no contract, no part can be read, or the settings say to refuse and the rows have
            drifted.
    """
    settings = task.settings
    if settings.drift == "off":
        return None, {}
    proven = prove_pinned(task.pin, settings.device)
    if proven.bundle.contract is None:
        raise DataRefused(f"{task.pin.path} has no input contract to measure drift from: leave --drift out")
    meter = DriftMeter(proven.bundle.contract)
    failures: dict[str, Failure] = {}
    for part in parts:
        try:
            meter.merge(_measured(proven.bundle.contract, part, reading_for(settings, proven.bundle.contract)))
        except DataRefused as error:
            failures[part.name] = Failure(part=part.name, source=source_name(part.source), message=str(error))
    if len(failures) == len(parts):
        first = failures[parts[0].name]
        more = f"none of {len(parts)} parts can be read; {first.source}: " if len(parts) > 1 else ""
        raise DataRefused(f"{more}{first.message}")
    report = meter.report()
    if settings.drift == "refuse":
        try:
            report.refuse_from(settings.drift_severity)
        except DataRefused as error:
            raise DataRefused(f"{error}{_left_out(failures, len(parts))}") from None
    return DriftRecord.of(report, against=task.pin.digest), failures


def _left_out(failures: dict[str, Failure], of: int) -> str:
    """A sentence on unread parts for the refusal, since they may be the cause of the drift."""
    if not failures:
        return ""
    first = next(iter(failures.values()))
    return f"; {len(failures)} of {of} parts couldn't be read and aren't in it: {first.source}: {first.message}"


def _measured(contract: InputContract, part: Part, read: ReadOptions) -> DriftMeter:
    """A whole part: one that breaks off in its middle is in no figure."""
    meter, conformer = DriftMeter(contract), Conformer(contract)
    for batch in part_batches(part, read):
        meter.add(conformer.table(batch))
    return meter
