"""Promotes a held candidate by a person's decision. The gate's verdict can't be overruled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai.ml.core.bundle_dir import BUNDLE_NAME, bundle_digest
from ai.ml.core.errors import BundleNotFound, BundleRefused, UsageError
from ai.ml.retraining.console.interruption import lasting_change
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.store.ledger import Entry
from ai.ml.retraining.store.location import work_folder
from ai.ml.retraining.store.store import MIN_PREFIX, Store

_NOT_HELD = {
    "refused": "the gate refused it, and nobody overrules that",
    "rejected": "it is below a limit of the decision: change the limit and run it again",
    "promoted": "it was promoted",
    "rolled-back": "it was the champion: use `bundlegate rollback`",
}


@dataclass(frozen=True)
class Overruling:
    """A held candidate that a person promotes, with its verdict and the champion that it replaces."""

    name: str
    """The model's."""
    held: Entry
    """The ledger's entry of the HOLD."""
    bundle_dir: Path
    verdict: Verdict
    champion: str | None
    """Digest of the champion that it would replace."""

    @property
    def sentence(self) -> str:
        """What the overruling would do, in a sentence."""
        against = "the first champion" if self.champion is None else f"the champion in place of {self.champion[:12]}"
        decision: dict[str, Any] = self.held.body.get("decision") or {}
        compared = decision.get("champion_digest")
        over = f"over the HOLD of line {self.held.sequence}"
        if compared not in (None, self.champion):
            over += f" (compared with {str(compared)[:12]}, which isn't the champion now)"
        return f"{self.name}: {self.held.digest[:12]} becomes {against}, {over}: {decision.get('reason', '')}"


def plan_overruling(store: Store, name: str, candidate: str) -> Overruling:
    """Find a held candidate with its verdict; nothing is written.

    Args:
        store: of the model.
        name: the model's.
        candidate: its digest, or the beginning of it.

    Raises:
        UsageError: the prefix is too short or ambiguous, or the last word on that bundle is no HOLD.
        BundleNotFound: the ledger doesn't know it, or it is no longer in the work folder.
        BundleRefused: its verdict is gone.
    """
    if len(candidate) < MIN_PREFIX:
        raise UsageError(f"--candidate {candidate!r}: at least {MIN_PREFIX} characters of a digest are needed")
    entries = [
        entry for entry in store.history(name) if entry.digest.startswith(candidate) and entry.action != "pruned"
    ]
    digests = {entry.digest for entry in entries}
    if len(digests) > 1:
        raise UsageError(f"--candidate {candidate!r}: {len(digests)} bundles begin like that; give more of the digest")
    if not entries:
        raise BundleNotFound(f"{name}: no decision on a bundle {candidate}…")
    held = entries[-1]
    if held.action != "held":
        raise UsageError(f"{name}: {held.digest[:12]} isn't held: {_NOT_HELD.get(held.action, held.action)}")
    document = store.backend(name).read_verdict(str(held.body.get("verdict", "")))
    if document is None:
        raise BundleRefused(f"{name}: the verdict on {held.digest[:12]} is gone from the store: nothing is promoted")
    bundle_dir = _find(work_folder(store.root, name), held.digest)
    return Overruling(name, held, bundle_dir, Verdict.from_json(document), store.champion(name))


def overrule(store: Store, plan: Overruling, reason: str) -> str:
    """Promote it, and record the overruled HOLD with the reason; returns a sentence.

    Raises:
        GateRefused: its verdict isn't one that passed.
        BundleRefused: the candidate has changed since.
        Busy: another champion was promoted since the plan was made.
    """
    before: dict[str, Any] = plan.held.body.get("decision") or {}
    reason_text = f"a HOLD was overruled: {reason}"
    decision = before | {"outcome": "PROMOTE", "reason": reason_text, "would_be": before.get("reason", "")}
    # Its rows have decided once, in the line of the HOLD.
    decision.pop("sketch", None)
    note = dict(plan.held.body.get("note") or {}) | {"overruled": {"line": plan.held.sequence, "reason": reason}}
    with lasting_change("promotion", plan.name) as settle:
        promotion = store.promote(
            plan.name, plan.bundle_dir, plan.verdict, decision=decision, note=note, expected_champion=plan.champion
        )
        champion = f"{plan.name}: {promotion.digest[:12]} is the champion"
        settle(sentence := f"{champion}; the HOLD of line {plan.held.sequence} is overruled")
    return sentence


def _find(work: Path, digest: str) -> Path:
    for bundle in sorted(work.glob(f"*/bundle/{BUNDLE_NAME}")):
        try:
            if bundle_digest(bundle.parent) == digest:
                return bundle.parent
        except BundleRefused:
            continue
    raise BundleNotFound(f"{digest[:12]} is no longer in {work}: run the retraining again, then overrule its HOLD")
