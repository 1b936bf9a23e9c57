"""A batch prediction from its settings, for `bundlegate predict` and `flows/batch_predict.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ai.ml.core.errors import DataRefused
from ai.ml.retraining.batch.job import BatchReport, open_job, run_job
from ai.ml.retraining.batch.pinned import pin_bundle
from ai.ml.retraining.batch.runners import ProcessRunner, Runner, run_inline
from ai.ml.retraining.settings.predict import PredictConfig
from ai.ml.retraining.store.references import bundle_directory


def score(
    config: PredictConfig, progress: Callable[[int, int], None] | None = None, run: Runner | None = None
) -> BatchReport:
    """Score what isn't done yet.

    A name in the store is resolved and its digest pinned once, here: a promotion meanwhile changes nothing, and no part
    gets another bundle.

    Args:
        config: the whole job.
        progress: called with the parts done and their number in all.
        run: who scores; processes of this machine if None.

    Raises:
        As `predict_dataset`.
    """
    given = Path(config.job.bundle)
    bundle = given if given.is_file() else bundle_directory(config.job.bundle, config.store)
    if run is None:
        run = run_inline if config.run.workers == 1 else ProcessRunner(config.run.workers)
    job = open_job(pin_bundle(bundle), config.job.input, config.job.output, config.batch, table=config.job.table)
    return run_job(job, run, task_bytes=config.run.task_bytes, progress=progress)


def require_complete(report: BatchReport) -> None:
    """Refuse a report with parts that couldn't be scored.

    Raises:
        DataRefused: the sentence names them; what was done stays, and a run after they are mended does the rest.
    """
    if report.failures:
        raise DataRefused(report.sentence)


def show_report(report: BatchReport) -> None:
    """Print the report to stdout."""
    print(report.sentence)
    print(f"bundle {report.digest}, proved before the first row: {report.proof}")
