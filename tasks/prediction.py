"""Scoring: the holdout of a retraining run, and datasets of any size."""

from __future__ import annotations

from prefect import task

from ai.ml.retraining import steps
from ai.ml.retraining.batch import BatchReport
from ai.ml.retraining.batch_config import PredictConfig
from ai.ml.retraining.checkpoints import CandidateRef, ScoredRef
from ai.ml.retraining.config import RetrainConfig
from ai.ml.retraining.log import logger
from ai.ml.retraining.scoring_job import score
from tasks.caching import KEPT, KeptNotReused
from tasks.reporting import show_batch, show_drift


@task(name="score-holdout", task_run_name="score the holdout of {config.name}", cache_policy=KeptNotReused(), **KEPT)
def score_holdout(config: RetrainConfig, candidate: CandidateRef) -> ScoredRef:
    """Write the holdout rows with the candidate's answers beside the known ones."""
    scored = steps.score_holdout(config, candidate)
    logger.info("scored    %s holdout rows to %s", f"{scored.rows:,}", scored.file.path)
    return scored


@task(name="score-parts", task_run_name="score with {config.job.bundle}", cache_policy=KeptNotReused(), **KEPT)
def score_parts(config: PredictConfig) -> BatchReport:
    """Score what isn't done; the output's own receipts say what is, whatever Prefect remembers."""
    report = score(config, lambda done, parts: logger.info("scored    %s of %s parts", f"{done:,}", f"{parts:,}"))
    logger.info("scored    %s", report.sentence)
    show_batch(config.job.output, report)
    if report.drift is not None:
        show_drift(config.job.output.rstrip("/").rpartition("/")[2], report.drift)
    return report
