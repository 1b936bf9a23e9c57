"""Answers to the holdout rows: for the decision, and for a person to look at."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables import read_table, write_table
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.records import (
    CandidateRef,
    FileRef,
    ScoredRef,
)
from ai.ml.retraining.settings.retrain import RetrainConfig

if TYPE_CHECKING:
    from ai.ml.retraining.decision.predictions import Predictions


def score_known(bundle_dir: Path, table: pa.Table, slice_column: str | None = None) -> Predictions:
    """A bundle's answers to rows whose truth is in the table, as `Predictions` for the decision.

    Raises:
        DataRefused: the rows don't meet the bundle's contract, or there is no such slice column.
    """
    import numpy as np

    from ai.ml.retraining.decision.evaluation import EvaluatedBundle

    evaluated = EvaluatedBundle(bundle_dir)
    if slice_column is not None and slice_column not in table.column_names:
        raise DataRefused(f"slice column {slice_column!r} is not in the table")
    slices = None if slice_column is None else np.array([str(value) for value in table[slice_column].to_pylist()])
    return dataclasses.replace(evaluated.predictions(table), slices=slices)


def score_holdout(config: RetrainConfig, candidate: CandidateRef) -> ScoredRef:
    """The holdout rows with the candidate's answers beside the known ones, for a person to look at."""
    from ai.ml.frameworks.pytorch.inference.opened import OpenedBundle

    folder = Path(candidate.bundle.path)
    opened = OpenedBundle(folder)
    bundle = opened.bundle
    table = read_table(candidate.holdout.path)
    answers = opened.scorer.score_table(table)
    decoded = answers.decoded.astype(str) if bundle.task == "classification" else answers.decoded
    scored = table.append_column(f"{bundle.target_column}_predicted", pa.array(decoded))
    path = folder.parent / "holdout-scored.parquet"
    write_table(scored, path)
    file = FileRef.of(path)
    logger.info("scored    %s holdout rows to %s", f"{scored.num_rows:,}", file.path)
    return ScoredRef(file=file, rows=scored.num_rows)
