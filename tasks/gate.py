"""The proof. Never cached: it says something about the file that lies there now."""

from __future__ import annotations

from prefect import task

from ai.ml.retraining import steps
from ai.ml.retraining.checkpoints import CandidateRef, VerdictRef
from ai.ml.retraining.config import RetrainConfig
from ai.ml.retraining.log import at_work, logger
from tasks.caching import KEPT, KeptNotReused
from tasks.reporting import show_verdict


@task(name="prove-candidate", task_run_name="prove {candidate.bundle.digest:.12}", cache_policy=KeptNotReused(), **KEPT)
def prove_candidate(config: RetrainConfig, candidate: CandidateRef) -> VerdictRef:
    """Load the bundle in a fresh process and compare its answers bit for bit with the trained model's."""
    with at_work("proving in a fresh process"):
        verdict = steps.prove_candidate(config, candidate)
    logger.info("proved    %s: %s", verdict.outcome, verdict.reason)
    show_verdict(config.name, verdict)
    return verdict
