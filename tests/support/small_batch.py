"""Batches of four rows: a part to score, and scoring it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from builders import tiny_rows

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.batch.job import BatchReport, BatchSettings, predict_dataset

ROWS = pa.Table.from_pylist(tiny_rows(12))


def part(path: str, key: pa.Array | None = None) -> Path:
    """Four rows, with a column `key` that can be kept."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_table(ROWS.slice(0, 4).append_column("key", pa.array(range(4)) if key is None else key), file)
    return file


def score(bundle: Path, source: str, output: str, **settings: object) -> BatchReport:
    """Score `source` into `output` with these batch settings."""
    return predict_dataset(bundle, source, output, BatchSettings.model_validate(settings))
