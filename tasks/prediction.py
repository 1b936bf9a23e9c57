"""Scoring: the holdout of a retraining run, and datasets of any size."""

from __future__ import annotations

from prefect import task

from ai.ml.retraining.batch.job import BatchReport
from ai.ml.retraining.batch.runners import Runner
from ai.ml.retraining.batch.scoring_job import score
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.records import CandidateRef, ScoredRef
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.predict import PredictConfig
from ai.ml.retraining.settings.retrain import RetrainConfig
from tasks.artifacts import emit_lineage
from tasks.batch_artifacts import BatchProgress, output_name, show_batch
from tasks.caching import KEPT, PersistOnly


@task(name="score-holdout", task_run_name="score the holdout of {config.name}", cache_policy=PersistOnly(), **KEPT)
def score_holdout(config: RetrainConfig, candidate: CandidateRef) -> ScoredRef:
    """Write the holdout rows with the candidate's answers beside the known ones."""
    return steps.score_holdout(config, candidate)


@task(name="score-parts", task_run_name="score the parts", cache_policy=PersistOnly(), **KEPT)
def score_parts(config: PredictConfig, run: Runner | None = None) -> BatchReport:
    """Score the parts that aren't done by the output's own receipts, whatever results Prefect has cached."""
    progress = BatchProgress()
    report = score(config, progress.show, run)
    logger.info("scored    %s", report.sentence)
    show_batch(config, report)
    made, of = (
        text.rpartition("/")[2].partition("@")[0] for text in (output_name(config), config.job.bundle.rstrip("/"))
    )
    emit_lineage(f"predictions/{made}", f"model/{of}", bundle=config.job.bundle)
    return report
