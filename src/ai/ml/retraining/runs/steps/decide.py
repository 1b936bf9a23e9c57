"""The decision: challenger against champion, on the holdout rows of the run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ai.ml.core.bundle_dir import read_manifest
from ai.ml.core.errors import BundleRefused
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
from ai.ml.retraining.runs.steps.opponent import Opponent, inputs_sentence, meet_champion
from ai.ml.retraining.runs.target_check import hold_changed_target
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.ledger import Entry
from ai.ml.retraining.store.store import Store
from ai.ml.retraining.store.veto import lifting, vetoes

if TYPE_CHECKING:
    from ai.ml.retraining.decision.overlap import Overlap


def decide(config: RetrainConfig, candidate: CandidateRef, data: DataRef | None = None) -> DecisionRecord:
    """Score challenger and champion on the same holdout rows, and decide PROMOTE, HOLD or REJECT.

    Rows that the champion or a teacher of the two learned from are counted and left out of the comparison; the limits
    are held against all of them. A night whose labels aren't those that the champion learned from is held.

    Args:
        config: of the run.
        candidate: what was trained.
        data: the run's table, whose target is held against the champion's; without it, the held-out rows are.

    Raises:
        DataRefused: the champion answers another question, and `new_target` doesn't say that this is meant.
        BundleRefused: candidate or holdout rows have changed since they were made, or the champion is damaged.
    """
    changed = problems(candidate)
    if changed:
        raise BundleRefused(f"what was trained isn't there as it was made: {changed[0]}; nothing is decided")
    decision = _decide(config, candidate)
    if decision.champion is None:
        decision = _hold_retired(config, decision)
    decision = _hold_vetoed(config, candidate, decision)
    if not decision.document.get("other_problem"):
        decision = hold_changed_target(config, candidate, decision, data)
    logger.info("decided   %s: %s", decision.outcome, decision.reason)
    return decision


def _decide(config: RetrainConfig, candidate: CandidateRef) -> DecisionRecord:
    from ai.ml.retraining.decision import decision as rules
    from ai.ml.retraining.decision.repeats import repeats_sentence

    policy, better_baseline = config.decision, _better_baseline(candidate)
    store, candidate_dir = Store(config.store), Path(candidate.bundle.path)
    digest = store.champion(config.name)
    holdout = read_table(candidate.holdout.path)
    challenger = score_known(candidate_dir, holdout, policy.slice_column)
    if digest == candidate.bundle.digest:
        decision = rules.decide(challenger, None, policy, better_baseline=better_baseline)
        reason = "table and settings are those that the champion was made of: this very bundle is the champion already"
        return DecisionRecord(outcome="PROMOTE", reason=reason, champion=digest, document=decision.to_dict())
    opponent, aged = Opponent(), None
    if digest is not None:
        opponent = meet_champion(config, store.resolve(f"{config.name}@{digest}"), candidate_dir, holdout, challenger)
        aged = _aged(config, store, digest)
    if aged is not None:
        policy = policy.model_copy(update={"policy": "not-worse"})
    if opponent.other_problem:
        policy = policy.model_copy(update={"incomparable": "promote"})
    overlap, inputs = opponent.overlap, opponent.inputs
    decision = rules.decide(
        challenger,
        opponent.answers,
        policy,
        incomparable_reason=opponent.incomparable_reason,
        better_baseline=better_baseline,
        seen=None if overlap is None else overlap.seen,
    )
    facts = _row_facts(store.history(config.name), candidate_dir, holdout, overlap)
    if opponent.incomparable_reason:
        facts.pop("sketch", None)  # these rows have decided nothing
    overlap_text = "" if overlap is None or opponent.incomparable_reason else overlap.sentence
    again = "" if opponent.incomparable_reason else repeats_sentence(facts.get("decided_before"))
    inputs_text = inputs_sentence(inputs) if decision.outcome == "PROMOTE" else ""
    reason = "; ".join(part for part in (decision.reason, aged, overlap_text, again, inputs_text) if part)
    if any(inputs.values()):
        facts["inputs"] = inputs
    if opponent.other_problem:
        facts["other_problem"] = True
    document = decision.to_dict() | {"reason": reason} | facts
    return DecisionRecord(outcome=decision.outcome, reason=reason, champion=digest, document=document)


def _hold_retired(config: RetrainConfig, decision: DecisionRecord) -> DecisionRecord:
    """Hold the promotion of a retired model: only a person can put it back into service."""
    retired = Store(config.store).retirement(config.name)
    if retired is None or decision.outcome != "PROMOTE":
        return decision
    retirement = f"{retired.digest[:12]} was retired by {retired.body['actor']}: {retired.body['reason']}"
    reason = f"{retirement}; `bundlegate promote` or `bundlegate rollback` puts a champion in service again"
    return _held(decision, reason)


def _hold_vetoed(config: RetrainConfig, candidate: CandidateRef, decision: DecisionRecord) -> DecisionRecord:
    """Hold a bundle that a rollback has left: the same data and settings make it again, bit for bit."""
    digest = candidate.bundle.digest
    line = vetoes(Store(config.store).history(config.name)).get(digest)
    if line is None or decision.outcome != "PROMOTE":
        return decision
    left = f"{digest[:12]} was rolled back by {line.body['actor']}: {line.body['reason']}"
    return _held(decision, f"{left}; {lifting(config.name, digest)}")


def _held(decision: DecisionRecord, reason: str) -> DecisionRecord:
    changed = {"outcome": "HOLD", "reason": reason}
    return decision.model_copy(update=changed | {"document": decision.document | changed})


def _aged(config: RetrainConfig, store: Store, champion: str) -> str | None:
    """A sentence if the champion is older than `max_age`: a challenger that isn't worse is enough then."""
    if config.decision.max_age is None:
        return None
    since = datetime.fromisoformat(str(store.promotion_of(config.name, champion).body["time"]))
    age = datetime.now(UTC) - since
    if age <= span_of("max_age", config.decision.max_age).astype(timedelta):
        return None
    return f"the champion is {age.days} days old, so with max_age {config.decision.max_age} what isn't worse is enough"


def _row_facts(history: list[Entry], candidate_dir: Path, holdout: pa.Table, overlap: Overlap | None) -> dict[str, Any]:
    """The ledger's facts on the deciding rows: their number, the excluded ones, and earlier decisions on them."""
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
    """A sentence on the first simpler model that is significantly better; None without one."""
    from ai.ml.retraining.decision.baselines import Baseline

    baselines = [Baseline(**record) for record in candidate.baselines]
    return next((baseline.sentence for baseline in baselines if baseline.surely_wins), None)
