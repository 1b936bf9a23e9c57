"""Scoring: the holdout of a retraining run."""

from __future__ import annotations

from prefect import task

from ai.ml.retraining import steps
from ai.ml.retraining.checkpoints import CandidateRef, ScoredRef
from ai.ml.retraining.config import RetrainConfig
from ai.ml.retraining.log import logger
from tasks.caching import KEPT, KeptNotReused


@task(name="score-holdout", task_run_name="score the holdout of {config.name}", cache_policy=KeptNotReused(), **KEPT)
def score_holdout(config: RetrainConfig, candidate: CandidateRef) -> ScoredRef:
    """Write the holdout rows with the candidate's answers beside the known ones."""
    scored = steps.score_holdout(config, candidate)
    logger.info("scored    %s holdout rows to %s", f"{scored.rows:,}", scored.file.path)
    return scored
