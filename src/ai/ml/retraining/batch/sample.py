"""A sample of rows from all parts of a dataset, with answers and their drift from the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ai.ml.core.contract.casting import Conformer
from ai.ml.core.contract.drift import DriftMeter, DriftReport
from ai.ml.core.errors import DataRefused
from ai.ml.retraining.batch.columns import AnswerColumns
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.pinned import BundlePin, prove_pinned
from ai.ml.retraining.batch.score_part import part_batches, reading_for
from ai.ml.retraining.settings.predict import BatchSettings

SAMPLED_PARTS = 8
SAMPLED_ROWS = 1_024
"""Of each part, its first ones."""
SHOWN_ROWS = 20


@dataclass(frozen=True)
class BatchSample:
    """A sample of a batch's rows with its answers and drift."""

    rows: int
    answered: list[dict[str, Any]]
    """Input cells and answers of a few rows, as texts."""
    drift: DriftReport | None
    """None for a bundle without a contract."""


def sample_batch(pin: BundlePin, parts: tuple[Part, ...], settings: BatchSettings) -> BatchSample:
    """Read the first rows of parts spread over the whole dataset; parts that can't be read are passed over."""
    proven = prove_pinned(pin, settings.device)
    contract = proven.bundle.contract
    meter = None if contract is None else DriftMeter(contract)
    columns = AnswerColumns.plan(proven.bundle, (), proba=settings.proba)
    answered: list[dict[str, Any]] = []
    rows = 0
    step = max(1, len(parts) // SAMPLED_PARTS)
    chosen = parts[::step][:SAMPLED_PARTS]
    for part in chosen:
        try:
            batch = next(part_batches(part, reading_for(settings, contract), SAMPLED_ROWS))
            scorer = proven.scorer()
            few = batch.slice(0, max(1, SHOWN_ROWS // len(chosen)))
            answers = columns.table(few, scorer, scorer.score_table(few))
            if meter is not None and contract is not None:
                meter.add(Conformer(contract).table(batch))
        except DataRefused:
            continue
        rows += batch.num_rows
        answered += _shown(few, answers)
    return BatchSample(rows, answered, None if meter is None else meter.report())


def _shown(batch: pa.RecordBatch, answers: pa.Table) -> list[dict[str, Any]]:
    # The answers stand first, and an input column of such a name doesn't hide them.
    cells = zip(batch.to_pylist(), answers.to_pylist(), strict=True)
    return [{name: str(value) for name, value in {**answer, **row, **answer}.items()} for row, answer in cells]
