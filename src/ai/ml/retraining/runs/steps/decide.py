"""Challenger against champion, on the holdout rows of the run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ai.ml.core.bundle_dir import read_manifest
from ai.ml.core.errors import BundleNotFound, BundleRefused, DataRefused
from ai.ml.core.split_config import span_of
from ai.ml.core.splits.rule import SplitRule
from ai.ml.core.tables import read_table
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.records import (
    CandidateRef,
    DataRef,
    DecisionRecord,
    problems,
)
from ai.ml.retraining.runs.steps.holdout import score_known
from ai.ml.retraining.runs.target_check import hold_changed_target
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.ledger import Entry
from ai.ml.retraining.store.store import Store

if TYPE_CHECKING:
    from ai.ml.retraining.decision.overlap import Overlap


def decide(config: RetrainConfig, candidate: CandidateRef, data: DataRef | None = None) -> DecisionRecord:
    """Score challenger and champion on the same holdout rows, and say PROMOTE, HOLD or REJECT.

    Rows that the champion or a teacher of the two learned from are counted and left out of the comparison; the limits
    are held against all of them. A night whose labels aren't those that the champion learned from is held.

    Args:
        config: of the run.
        candidate: what was trained.
        data: the run's table, whose target is held against the champion's; without it, the held-out rows are.

    Raises:
        BundleRefused: candidate or holdout rows have changed since they were made, or the champion is damaged.
    """
    changed = problems(candidate)
    if changed:
        raise BundleRefused(f"what was trained isn't there as it was made: {changed[0]}; nothing is decided")
    decision = hold_changed_target(config, candidate, _decide(config, candidate), data)
    logger.info("decided   %s: %s", decision.outcome, decision.reason)
    return decision


def _decide(config: RetrainConfig, candidate: CandidateRef) -> DecisionRecord:
    from ai.ml.retraining.decision import decision as rules
    from ai.ml.retraining.decision.comparable import too_few_rows

    policy, better_baseline = config.decision, _better_baseline(candidate)
    store = Store(config.store)
    digest = store.champion(config.name)
    holdout = read_table(candidate.holdout.path)
    challenger = score_known(Path(candidate.bundle.path), holdout, policy.slice_column)
    champion, incomparable_reason, overlap = None, None, None
    if digest == candidate.bundle.digest:
        decision = rules.decide(challenger, None, policy, better_baseline=better_baseline)
        reason = "this very bundle is the champion already"
        return DecisionRecord(outcome="PROMOTE", reason=reason, champion=digest, document=decision.to_dict())
    if digest is not None:
        try:
            champion_dir = store.resolve(f"{config.name}@{digest}")
            overlap = _overlap(config, champion_dir, Path(candidate.bundle.path), holdout)
            champion = score_known(champion_dir, holdout, policy.slice_column)
            seen = overlap.seen
            incomparable_reason = rules.incomparable(challenger, champion) or too_few_rows(challenger, seen)
            if incomparable_reason is None:
                champion = rules.unseen_rows(champion, seen)
        except DataRefused as error:
            incomparable_reason = str(error)
    aged = None if digest is None else _aged(config, store, digest)
    if aged is not None:
        policy = policy.model_copy(update={"policy": "not-worse"})
    decision = rules.decide(
        challenger,
        None if incomparable_reason else champion,
        policy,
        incomparable_reason=incomparable_reason,
        better_baseline=better_baseline,
        seen=None if overlap is None else overlap.seen,
    )
    facts = _row_facts(store.history(config.name), Path(candidate.bundle.path), holdout, overlap)
    if incomparable_reason:
        facts.pop("sketch", None)  # these rows have decided nothing
    overlap_text = "" if overlap is None or incomparable_reason else overlap.sentence
    reason = "; ".join(part for part in (decision.reason, aged, overlap_text) if part)
    document = decision.to_dict() | {"reason": reason} | facts
    return DecisionRecord(outcome=decision.outcome, reason=reason, champion=digest, document=document)


def _aged(config: RetrainConfig, store: Store, champion: str) -> str | None:
    """That the champion is older than `max_age`, in words: not-worse is enough then."""
    if config.decision.max_age is None:
        return None
    since = datetime.fromisoformat(str(store.promotion_of(config.name, champion).body["time"]))
    age = datetime.now(UTC) - since
    if age <= span_of("max_age", config.decision.max_age).astype(timedelta):
        return None
    return f"the champion is {age.days} days old, so with max_age {config.decision.max_age} what isn't worse is enough"


def _overlap(config: RetrainConfig, champion_dir: Path, candidate_dir: Path, holdout: pa.Table) -> Overlap:
    """Which of the held-out rows the champion, its teachers or the challenger's teachers learned from."""
    from ai.ml.retraining.decision.overlap import learned_from, taught_from

    store, taught_by = Store(config.store), (config.training.teacher or "").partition("@")[0]

    def teacher_dir(digest: str) -> Path:
        # A bundle keeps its teacher's digest, not of which model that was.
        for names in (lambda: [config.name, taught_by or config.name], store.models):
            for name in names():
                try:
                    return store.resolve(f"{name}@{digest}")
                except BundleNotFound:
                    continue
        raise BundleNotFound(f"no model of {store.root} has a version {digest[:12]}")

    of_champion = learned_from("the champion", champion_dir, holdout, teacher_dir)
    return of_champion | taught_from("the challenger", candidate_dir, holdout, teacher_dir)


def _row_facts(history: list[Entry], candidate_dir: Path, holdout: pa.Table, overlap: Overlap | None) -> dict[str, Any]:
    """What the ledger keeps of the rows that decided: how many, which were left out, how often they did before."""
    from ai.ml.retraining.decision.repeats import row_numbers, sketch_of, times_decided

    lineage = read_manifest(candidate_dir).lineage
    if overlap is None or "split" not in lineage:
        return {}
    numbers = row_numbers(SplitRule.from_json(lineage["split"]), holdout)[~overlap.seen]
    decisions = [entry.body.get("decision") or {} for entry in history]
    return {
        "overlap": overlap.to_json(),
        "sketch": sketch_of(numbers),
        "decided_before": times_decided(decisions, numbers),
    }


def _better_baseline(candidate: CandidateRef) -> str | None:
    """Which simpler model surely does better, in a sentence."""
    from ai.ml.retraining.decision.baselines import Baseline

    baselines = [Baseline(**record) for record in candidate.baselines]
    return next((baseline.sentence for baseline in baselines if baseline.surely_wins), None)
