"""What a batch prediction shows in Prefect's UI: progress while it runs; counts, drift, rows and timings at its end."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext

from ai.ml.core.errors import BundlegateError
from ai.ml.core.tables.locations import is_database, source_name
from ai.ml.retraining.batch.job import BatchReport
from ai.ml.retraining.batch.parts import plan_parts
from ai.ml.retraining.batch.pinned import BundlePin
from ai.ml.retraining.batch.sample import BatchSample, sample_batch
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.settings.predict import PredictConfig
from tasks.artifacts import drift_rows, publish_markdown, publish_table, show_drift

SHOWN_EVERY_S = 5.0
"""A thousand parts in a minute need no thousand calls of the API."""


class BatchProgress:
    """A bar in the UI and a line in the log, at most one every few seconds."""

    def __init__(self) -> None:
        self._artifact: UUID | None = None
        self._shown = 0.0

    def show(self, done: int, parts: int) -> None:
        """Parts done, of how many."""
        if done < parts and time.monotonic() - self._shown < SHOWN_EVERY_S:
            return
        self._shown = time.monotonic()
        logger.info("scored    %s of %s parts", f"{done:,}", f"{parts:,}")
        if FlowRunContext.get() is None:
            return
        percent = 100.0 * done / parts
        if self._artifact is None:
            created: Any = create_progress_artifact(percent, description="parts scored")
            self._artifact = created
        else:
            update_progress_artifact(self._artifact, progress=percent)


def output_name(config: PredictConfig) -> str:
    """The last part of the output's address, without credentials; the key of artifacts and assets."""
    return source_name(config.job.output).rstrip("/").rpartition("/")[2]


def show_batch(config: PredictConfig, report: BatchReport) -> None:
    """Tables of figures, counts, drift and a few answered rows."""
    name = output_name(config)
    publish_table(name, "scored", _figures(report), report.sentence)
    if report.counts is not None:
        counts = [{"column": column, **found} for column, found in report.counts["columns"].items()]
        publish_table(name, "counts", counts, "cells that the contract counts")
    if report.drift is not None:
        show_drift(name, report.drift)
    sample = _sample(config, report)
    if sample is None:
        return
    if report.drift is None and sample.drift is not None:
        moved = drift_rows(map(vars, sample.drift.columns))
        publish_table(name, "drift", moved, f"{sample.drift.severity}, measured on {sample.rows:,} rows")
    publish_markdown(name, "rows", _markdown(sample.answered) or "no rows", "the first answered rows")


def _figures(report: BatchReport) -> list[dict[str, Any]]:
    facts = report.model_dump(mode="json", exclude={"failures", "counts", "answers", "drift"})
    scored = report.rows if not report.kept else 0
    facts |= {"failures": len(report.failures), **{f"label {name}": n for name, n in report.answers.labels.items()}}
    if scored and report.seconds:
        facts["rows per second"] = round(scored / report.seconds)
    facts["seconds"] = round(report.seconds, 2)
    return [{"fact": name, "value": value} for name, value in facts.items()]


def _sample(config: PredictConfig, report: BatchReport) -> BatchSample | None:
    """None where looking again isn't free (a query runs once), or where the input is gone by now."""
    if FlowRunContext.get() is None or is_database(config.job.input):
        return None
    try:
        parts = plan_parts(config.job.input)
        return sample_batch(BundlePin(report.bundle, report.digest), parts, config.batch)
    except BundlegateError as error:
        # All rows are scored: an error in an artifact doesn't fail the run.
        logger.warning("no sample is shown: %s", error)
        return None


def _markdown(rows: list[dict[str, Any]]) -> str:
    """Rows as a table; cells can't break out of it."""
    if not rows:
        return ""
    names = list(rows[0])
    lines = ["| " + " | ".join(map(_cell, names)) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_cell(row.get(name, "")) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: Any) -> str:
    plain = " ".join(str(text).split())[:80]
    for mark in "\\`*_{}[]<>()#+!|~":
        plain = plain.replace(mark, f"\\{mark}")
    return plain
