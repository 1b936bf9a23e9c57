"""Decision, promotion and quarantine. Never cached; the store's own protocol makes each of them happen once."""

from __future__ import annotations

from prefect import task
from prefect.runtime import flow_run

from ai.ml.retraining.records import (
    Approval,
    CandidateRef,
    DataRef,
    DecisionRecord,
    PromotionRecord,
    RollbackRecord,
    VerdictRef,
)
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.steps.promote import roll_back as roll_back_now
from ai.ml.retraining.settings.proof import RollbackConfig
from ai.ml.retraining.settings.retrain import RetrainConfig
from tasks.artifacts import emit_bundle_event, emit_outcome, show_decision
from tasks.caching import KEPT, PersistOnly
from tasks.retries import RETRIED, RETRIED_FOR_DISK


@task(name="decide", task_run_name="decide {config.name}", cache_policy=PersistOnly(), **KEPT, **RETRIED)
def decide(config: RetrainConfig, candidate: CandidateRef, data: DataRef | None = None) -> DecisionRecord:
    """Score challenger and champion on the same rows, and decide PROMOTE, HOLD or REJECT."""
    decision = steps.decide(config, candidate, data)
    show_decision(config.name, decision)
    return decision


@task(
    name="promote",
    task_run_name="promote {candidate.bundle.digest:.12}",
    cache_policy=PersistOnly(),
    **KEPT,
    **RETRIED_FOR_DISK,
)
def promote(
    config: RetrainConfig,
    candidate: CandidateRef,
    verdict: VerdictRef,
    decision: DecisionRecord,
    approval: Approval | None = None,
) -> PromotionRecord:
    """Put the decision into the store: publish and move the champion's pointer, or record why not."""
    run = flow_run.get_id()
    promotion = steps.promote(config, candidate, verdict, decision, approval=approval, flow_run_id=run)
    if not config.dry_run:
        emit_outcome(config.name, promotion)
    return promotion


@task(name="quarantine", task_run_name="quarantine {candidate.bundle.digest:.12}", cache_policy=PersistOnly(), **KEPT)
def quarantine(config: RetrainConfig, candidate: CandidateRef, verdict: VerdictRef) -> None:
    """Keep the refused bundle apart with its verdict, write it into the ledger, and fail the run.

    Raises:
        GateRefused: always; the message is the verdict's.
    """
    path = steps.quarantine(config, candidate, verdict, flow_run_id=flow_run.get_id())
    emit_bundle_event("bundle.refused", config.name, verdict.digest, sentence=verdict.reason, quarantine=path)
    raise steps.refusal(verdict, path)


@task(name="roll-back", task_run_name="roll back {config.name}", cache_policy=PersistOnly(), **KEPT, **RETRIED_FOR_DISK)
def roll_back(config: RollbackConfig) -> RollbackRecord:
    """Prove a former champion here and now, and make it live again."""
    done = roll_back_now(config)
    emit_bundle_event("bundle.rolled-back", config.name, done.digest, sentence=config.reason, instead_of=done.previous)
    return done
