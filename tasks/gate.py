"""The proof as a task. Never cached: it holds for the file as it is now."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from ai.ml.core.errors import NothingChecked, Unproved
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.records import CandidateRef, VerdictRef
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.validation import ValidationRecord, validate
from ai.ml.retraining.settings.proof import ValidateConfig
from ai.ml.retraining.settings.retrain import RetrainConfig
from tasks.artifacts import emit_bundle_event, show_verdict
from tasks.caching import KEPT, PersistOnly
from tasks.retries import RETRIED


@task(
    name="prove-candidate",
    task_run_name="prove {candidate.bundle.digest:.12}",
    cache_policy=PersistOnly(),
    **KEPT,
    **RETRIED,
)
def prove_candidate(config: RetrainConfig, candidate: CandidateRef) -> VerdictRef:
    """Load the bundle in a fresh process and compare its answers bit for bit with the trained model's."""
    try:
        verdict = steps.prove_candidate(config, candidate)
    except (Unproved, NothingChecked) as nothing:
        emit_bundle_event("bundle.unproved", config.name, candidate.bundle.digest, sentence=str(nothing))
        raise
    show_verdict(config.name, Verdict.from_json(Path(verdict.file.path).read_bytes()))
    return verdict


@task(name="prove-bundle", task_run_name="prove {config.bundle}", cache_policy=PersistOnly(), **KEPT)
def prove_bundle(config: ValidateConfig) -> ValidationRecord:
    """Run the gate on the bundle that the settings name, and show its verdict, whatever it is."""
    record = validate(config)
    show_verdict(f"validate-{Path(config.bundle).name}", record.document)
    return record
