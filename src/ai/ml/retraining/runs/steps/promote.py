"""The store's changes at the end of a run: a promotion, a quarantine, or a rollback to a former champion."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ai.ml.core.errors import BundleRefused, GateRefused
from ai.ml.core.files.atomic import sha256_bytes
from ai.ml.core.tables.locations import source_name
from ai.ml.retraining.console.interruption import lasting_change
from ai.ml.retraining.console.progress import logger, working
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.records import (
    Approval,
    CandidateRef,
    DecisionRecord,
    PromotionRecord,
    RollbackRecord,
    VerdictRef,
)
from ai.ml.retraining.settings.proof import RollbackConfig
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.store import Store

OUTCOMES: dict[str, Literal["PROMOTED", "HELD", "REJECTED"]] = {
    "PROMOTE": "PROMOTED",
    "HOLD": "HELD",
    "REJECT": "REJECTED",
}
"""The outcome of a run by its decision."""


def promote(
    config: RetrainConfig,
    candidate: CandidateRef,
    verdict: VerdictRef,
    decision: DecisionRecord,
    *,
    approval: Approval | None = None,
    flow_run_id: str | None = None,
) -> PromotionRecord:
    """Put the decision into the store: publish and move the champion's pointer, or record why not.

    Args:
        config: of the run.
        candidate: what was trained.
        verdict: of the gate.
        decision: what was decided.
        approval: a person's, if one was asked.
        flow_run_id: the ledger keeps it.

    Raises:
        GateRefused: the verdict didn't pass, or is about another bundle.
        Busy: somebody else promoted a champion since the decision.
    """
    note = _note(config, flow_run_id) | {"metrics": candidate.metrics}
    if candidate.target:
        note["target"] = candidate.target
    if approval is not None:
        note["approval"] = approval.model_dump()
    if config.dry_run:
        promotion = _dry_run_record(config, candidate, decision)
        logger.info("champion  %s", promotion.sentence)
        return promotion
    with lasting_change("promotion", config.name) as settle:
        promotion = _record_decision(config, candidate, _verdict(verdict), decision, note)
        settle(promotion.sentence)
    logger.info("champion  %s", promotion.sentence)
    return promotion


def _dry_run_record(config: RetrainConfig, candidate: CandidateRef, decision: DecisionRecord) -> PromotionRecord:
    """The record of a dry run: the outcome that it would have, and the present champion."""
    store, digest = Store(config.store), candidate.bundle.digest
    champion = store.champion(config.name)
    path = "" if champion is None else store.backend(config.name).address("versions", champion)
    would = f"{digest[:12]} would become the champion"
    if decision.outcome != "PROMOTE":
        would = "there would be no champion" if champion is None else f"the champion {champion[:12]} would stay"
    outcome = OUTCOMES[decision.outcome]
    sentence = f"{config.name}: {would} (a dry run: no version, ledger line or report was written)"
    return PromotionRecord(outcome=outcome, digest=digest, path=path, sentence=sentence)


def _record_decision(
    config: RetrainConfig, candidate: CandidateRef, verdict: Verdict, decision: DecisionRecord, note: dict[str, Any]
) -> PromotionRecord:
    store, name, digest = Store(config.store), config.name, candidate.bundle.digest
    if decision.outcome != "PROMOTE":
        action = "held" if decision.outcome == "HOLD" else "rejected"
        store.record(name, action, verdict, note=note, decision=decision.document)
        champion = store.champion(name)
        path = "" if champion is None else store.backend(name).address("versions", champion)
        sentence = f"{name}: the champion stays {champion[:12]}" if champion else f"{name}: there is no champion"
        return PromotionRecord(outcome=OUTCOMES[decision.outcome], digest=digest, path=path, sentence=sentence)
    promotion = store.promote(
        name,
        Path(candidate.bundle.path),
        verdict,
        decision=decision.document,
        note=note,
        expected_champion=decision.champion,
    )
    sentence = f"{name}: {digest[:12]} is the champion" + (" already" if promotion.already else "")
    return PromotionRecord(outcome="PROMOTED", digest=digest, path=promotion.path, sentence=sentence)


def quarantine(
    config: RetrainConfig, candidate: CandidateRef, verdict: VerdictRef, *, flow_run_id: str | None = None
) -> str:
    """Keep a refused bundle apart with its verdict, and write the refusal into the ledger.

    The candidate in the work folder goes: a damaged checkpoint must not be found again.

    Returns:
        Where the bundle is now; `refusal` is what ends the run.

    Raises:
        GateRefused: in a dry run, which leaves the bundle where it is.
    """
    folder = Path(candidate.bundle.path)
    if config.dry_run:
        raise GateRefused(f"{verdict.reason}; this is a dry run: the bundle stays at {folder}")
    note = _note(config, flow_run_id)
    path = Store(config.store).quarantine(config.name, folder, _verdict(verdict), note=note)
    shutil.rmtree(folder.parent, ignore_errors=True)
    return path


def refusal(verdict: VerdictRef, path: str) -> GateRefused:
    """The error that ends the run of a candidate in quarantine at `path`."""
    return GateRefused(f"{verdict.reason}; the bundle is in quarantine at {path}")


def roll_back(config: RollbackConfig) -> RollbackRecord:
    """Prove a former champion here and now, and make it live again.

    Raises:
        BundleNotFound: nothing was promoted under that name.
        UsageError: it was never the champion, or is it already.
        GateRefused: it no longer answers here as it did.
        Unproved: the machine had no time, memory or room to prove it; nothing moved.
        Busy: another champion was promoted while this one was proved.
    """
    from ai.ml.retraining.gate.proof import prove
    from ai.ml.retraining.settings.gate import GatePolicy

    proving = partial(prove, policy=GatePolicy(timeout_seconds=config.timeout_seconds))
    with (
        lasting_change("rollback", config.name) as settle,
        working("proving the former champion in a fresh process"),
    ):
        done = Store(config.store).rollback(config.name, config.to, reason=config.reason, prove=proving)
        settle(sentence := done.rolled_back(config.name))
    logger.info("champion  %s", sentence)
    return RollbackRecord(digest=done.digest, previous=done.previous, sentence=sentence)


def _note(config: RetrainConfig, flow_run_id: str | None) -> dict[str, Any]:
    """The ledger entry's note on its run; none of it decides a bundle's bits."""
    note: dict[str, Any] = {"flow_run": flow_run_id, "data": source_name(config.data.source)}
    return note | {"labels": dict(config.labels)} if config.labels else note


def _verdict(reference: VerdictRef) -> Verdict:
    document = Path(reference.file.path).read_bytes()
    if sha256_bytes(document) != reference.file.sha256:
        raise BundleRefused(f"{reference.file.path} isn't the verdict of this run: nothing is promoted")
    return Verdict.from_json(document)
