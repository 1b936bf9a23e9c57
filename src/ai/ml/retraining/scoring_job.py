"""A batch prediction from its settings: what `flows/batch_predict.py` runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ai.ml.core.errors import DataRefused
from ai.ml.retraining.batch import BatchReport, predict_dataset
from ai.ml.retraining.batch_config import PredictConfig
from ai.ml.retraining.references import bundle_directory
from ai.ml.retraining.runners import ProcessRunner, run_inline


def score(config: PredictConfig, progress: Callable[[int, int], None] | None = None) -> BatchReport:
    """Score what isn't done yet; a name in the store is resolved once, so that every part gets the same bundle.

    Raises:
        As `predict_dataset`.
    """
    given = Path(config.job.bundle)
    bundle = given if given.is_file() else bundle_directory(config.job.bundle, config.store)
    run = run_inline if config.run.workers == 1 else ProcessRunner(config.run.workers)
    return predict_dataset(bundle, config.job.input, config.job.output, config.batch, run=run, progress=progress)


def require_whole(report: BatchReport) -> None:
    """Refuse a report with parts that couldn't be scored.

    Raises:
        DataRefused: the sentence names them; what was done stays, and a run after they are mended does the rest.
    """
    if report.failures:
        raise DataRefused(report.sentence)


def show_report(report: BatchReport) -> None:
    """Print what was done for a person."""
    print(report.sentence)
    print(f"bundle {report.digest}, proved before the first row: {report.proof}")
