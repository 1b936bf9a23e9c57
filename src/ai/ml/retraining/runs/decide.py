"""Challenger against champion, on the holdout rows of the run."""

from __future__ import annotations

from pathlib import Path

from ai.ml.core.errors import BundleRefused, DataRefused
from ai.ml.core.tables import read_table
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.records import (
    CandidateRef,
    DecisionRecord,
    problems,
)
from ai.ml.retraining.runs.holdout import score_known
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.store import Store


def decide(config: RetrainConfig, candidate: CandidateRef) -> DecisionRecord:
    """Score challenger and champion on the same holdout rows, and say PROMOTE, HOLD or REJECT.

    The champion is scored on rows that it may have been trained on, which can only favour it.

    Raises:
        BundleRefused: candidate or holdout rows have changed since they were made, or the champion is damaged.
    """
    changed = problems(candidate)
    if changed:
        raise BundleRefused(f"what was trained isn't there as it was made: {changed[0]}; nothing is decided")
    decision = _decide(config, candidate)
    logger.info("decided   %s: %s", decision.outcome, decision.reason)
    return decision


def _decide(config: RetrainConfig, candidate: CandidateRef) -> DecisionRecord:
    from ai.ml.retraining.decision import decision as rules

    policy, better_baseline = config.decision, _better_baseline(candidate)
    store = Store(config.store)
    digest = store.champion(config.name)
    holdout = read_table(candidate.holdout.path)
    challenger = score_known(Path(candidate.bundle.path), holdout, policy.slice_column)
    champion, incomparable_reason = None, None
    if digest == candidate.bundle.digest:
        decision = rules.decide(challenger, None, policy, better_baseline=better_baseline)
        reason = "this very bundle is the champion already"
        return DecisionRecord(outcome="PROMOTE", reason=reason, champion=digest, document=decision.to_dict())
    if digest is not None:
        try:
            champion = score_known(store.resolve(f"{config.name}@{digest}"), holdout, policy.slice_column)
            incomparable_reason = rules.incomparable(challenger, champion)
        except DataRefused as error:
            incomparable_reason = str(error)
    decision = rules.decide(
        challenger,
        None if incomparable_reason else champion,
        policy,
        incomparable_reason=incomparable_reason,
        better_baseline=better_baseline,
    )
    return DecisionRecord(
        outcome=decision.outcome, reason=decision.reason, champion=digest, document=decision.to_dict()
    )


def _better_baseline(candidate: CandidateRef) -> str | None:
    """Which simpler model surely does better, in a sentence."""
    from ai.ml.retraining.decision.baselines import Baseline

    baselines = [Baseline(**record) for record in candidate.baselines]
    return next((baseline.sentence for baseline in baselines if baseline.surely_wins), None)
