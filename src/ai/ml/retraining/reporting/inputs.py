"""The inputs of a report, and the measurements that card and page share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ai.ml.core.contract.drift import DriftReport, measure_drift
from ai.ml.core.errors import BundlegateError
from ai.ml.retraining.decision.decision import incomparable
from ai.ml.retraining.decision.evaluation import EvaluatedBundle
from ai.ml.retraining.decision.predictions import Predictions
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.reporting.importance import (
    DependenceCurve,
    Importance,
    partial_dependence,
    permutation_importance,
)
from ai.ml.retraining.reporting.metrics import Measure, SliceMeasure, measure_all, measure_slices, slice_columns
from ai.ml.retraining.settings.retrain import ReportSettings

OWNER_FIELDS = ("owner", "intended_use", "out_of_scope")


@dataclass(frozen=True)
class Material:
    """The inputs of a report on a candidate or a version."""

    name: str
    subject: EvaluatedBundle
    rows: pa.Table
    """Raw rows with their truth that the model wasn't trained on."""
    rows_from: str
    """Their origin, as a phrase."""
    history: Sequence[Mapping[str, Any]] = ()
    """One record per epoch; empty where it wasn't kept."""
    verdict: Verdict | None = None
    outcome: str = ""
    """PROMOTE, HOLD, REJECT; empty before a decision."""
    reason: str = ""
    decision: Mapping[str, Any] | None = None
    """The decision's document."""
    champion: EvaluatedBundle | None = None
    """The model that this one is compared with."""
    findings: Sequence[str] = ()
    """The training's findings."""
    baselines: Sequence[Mapping[str, Any]] = ()
    """Simpler models on the same split, as `CandidateRef.baselines` has them."""
    trials: Sequence[Mapping[str, Any]] = ()
    """Of a search, as `CandidateRef.trials` has them."""
    address: str = ""
    """The bundle's name in commands: `NAME@DIGEST` where the store has it as a version, else its folder."""
    store: str | None = None
    """The model's store; None if it is in none."""
    settings: ReportSettings = field(default_factory=ReportSettings)
    slice_column: str | None = None

    def remarks(self) -> dict[str, Any]:
        """The fields that `recalled` restores, as JSON values."""
        return {
            **{name: getattr(self.settings, name) for name in OWNER_FIELDS},
            "slice_column": self.slice_column,
            "findings": list(self.findings),
            "baselines": [dict(item) for item in self.baselines],
            "trials": [dict(item) for item in self.trials],
        }

    def recalled(self, remarks: Mapping[str, Any], *, same_rows: bool) -> Material:
        """A copy with the remarks of an earlier report; settings given for this one override them.

        Args:
            remarks: what `remarks` returned.
            same_rows: whether it is about the same rows; the baselines' figures hold for their own rows only.
        """
        owner_fields = {name: remarks.get(name) for name in OWNER_FIELDS if getattr(self.settings, name) is None}
        return replace(
            self,
            settings=self.settings.model_copy(update=owner_fields),
            slice_column=remarks.get("slice_column"),
            findings=remarks.get("findings", ()),
            baselines=remarks.get("baselines", ()) if same_rows else (),
            trials=remarks.get("trials", ()),
        )


@dataclass(frozen=True)
class Study:
    """The measurements that a report shows."""

    table: pa.Table
    """The rows, or a sample of them."""
    rows: int
    """Before sampling."""
    scored: Predictions
    other: Predictions | None
    incomparable_reason: str | None
    """Why the champion couldn't be compared."""
    measures: list[Measure]
    slices: list[SliceMeasure]
    importance: list[Importance]
    importance_rows: int
    curves: list[DependenceCurve]
    uncurved: list[str]
    """Important columns that can't have a curve."""
    drift: DriftReport | None
    champion_drift: DriftReport | None
    """Of the same rows against the champion's training."""

    @property
    def sampled(self) -> str:
        """A sentence where rows were left out, else empty."""
        if self.table.num_rows == self.rows:
            return ""
        return f"Measured on {self.table.num_rows:,} rows drawn at random from {self.rows:,}."


def study(material: Material) -> Study | None:
    """Measure everything; None where the gate refused the file, whose answers then mean nothing.

    Raises:
        DataRefused: the rows don't meet the model's contract, or have no truth.
    """
    if material.verdict is not None and material.verdict.outcome == "REFUSED":
        return None
    subject, settings = material.subject, material.settings
    table = _sample(material.rows, settings.max_rows)
    scored = subject.predictions(table)
    other, incomparable_reason = _score_champion(material.champion, scored, table)
    columns = slice_columns(subject.contract, table, material.slice_column)
    importance, importance_rows = permutation_importance(subject, table)
    top = [item.column for item in importance[: settings.curves]]
    curves, uncurved = partial_dependence(subject, table, top)
    return Study(
        table,
        material.rows.num_rows,
        scored,
        other,
        incomparable_reason,
        measure_all(scored, other),
        measure_slices(table, columns, scored, other),
        importance,
        importance_rows,
        curves,
        uncurved,
        measure_drift(subject.contract, [table]),
        None if material.champion is None else _drift(material.champion, table),
    )


def _sample(table: pa.Table, max_rows: int) -> pa.Table:
    if table.num_rows <= max_rows:
        return table
    return table.take(pa.array(np.sort(np.random.default_rng(0).permutation(table.num_rows)[:max_rows])))


def _score_champion(
    champion: EvaluatedBundle | None, scored: Predictions, table: pa.Table
) -> tuple[Predictions | None, str | None]:
    if champion is None:
        return None, None
    try:
        other = champion.predictions(table)
    except BundlegateError as error:
        return None, str(error)
    incomparable_reason = incomparable(scored, other)
    return (None, incomparable_reason) if incomparable_reason else (other, None)


def _drift(champion: EvaluatedBundle, table: pa.Table) -> DriftReport | None:
    try:
        return measure_drift(champion.contract, [table])
    except BundlegateError:
        return None
