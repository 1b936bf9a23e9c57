"""A model's state as read under the write lock: what was decided, and which bundle is live."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ai.ml.core.bundle_dir import bundle_digest, check_files, read_manifest
from ai.ml.core.errors import BundleRefused, Busy, GateRefused, StoreRefused
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.store.actor import identity, whoami
from ai.ml.retraining.store.anchor import anchor_file
from ai.ml.retraining.store.backend import (
    POINTER_ACTIONS,
    POINTER_NAME,
    RETIRED,
    LineTaken,
    Pointer,
    StoreBackend,
    read_pointer,
)
from ai.ml.retraining.store.checked import Facts, check, gone_back, mismatch
from ai.ml.retraining.store.ledger import Entry, Head, LedgerSnapshot


@dataclass(frozen=True)
class ModelState:
    """The state that the writer's line will follow, with what a killed writer left already mended."""

    backend: StoreBackend
    snapshot: LedgerSnapshot
    champion: str | None
    previous: str | None

    def before(self, digest: str) -> str | None:
        """Who came before a bundle that becomes the champion now: the live one, else the one that was retired."""
        before = self.champion or self.previous
        return None if before == digest else before

    def is_last(self, action: str, digest: str) -> Entry | None:
        """The last line, if it is this very decision."""
        last = self.snapshot.entries[-1] if self.snapshot.entries else None
        return last if last is not None and (last.action, last.digest) == (action, digest) else None


def champion_changes(entries: list[Entry]) -> list[Entry]:
    """The lines that move the pointer: they made a bundle the champion, or retired it."""
    return [entry for entry in entries if entry.action in POINTER_ACTIONS]


def recovered_state(backend: StoreBackend, name: str) -> ModelState:
    """Put pointer and head where the ledger says and sweep; refuse to write onto what doesn't hold together.

    Raises:
        StoreRefused: a line is damaged, edited or gone, or the pointer says what no last promotion made.
        LineTaken: another writer moved the pointer meanwhile.
    """
    # In this order: what the first two say was written before the ledger is read, so it must be in it.
    pointer, token = read_pointer(backend, name)
    head = backend.read_head()
    snapshot = backend.read_ledger()
    changes = champion_changes(snapshot.entries)
    refuse_broken_chain(backend, snapshot)
    cut = pointer is not None and pointer.sequence > len(snapshot.entries)
    if pointer is not None and not cut and pointer not in [Pointer.to(entry) for entry in changes]:
        raise StoreRefused(
            f"{backend.location}/{POINTER_NAME} says what no line of the ledger made: run `bundlegate audit "
            f"{name}`; once it is deleted, the next write puts it where the ledger says"
        )
    sentence = _mismatch(backend, name, pointer, head, snapshot)
    if sentence is not None:
        raise StoreRefused(sentence)
    refuse_gone_back(backend, snapshot)
    wanted = Pointer.to(changes[-1]) if changes else None
    if wanted is not None and pointer != wanted and not backend.replace_pointer(wanted.to_json(), token):
        raise LineTaken
    if snapshot.entries and (head is None or head.sequence < len(snapshot.entries)):
        backend.write_head(Head.of(snapshot.entries[-1]))
    backend.sweep()
    digest, previous = (wanted.digest, wanted.previous) if wanted is not None else (None, None)
    return ModelState(backend, snapshot, digest, previous)


def refuse_broken_chain(backend: StoreBackend, snapshot: LedgerSnapshot) -> None:
    """Check that every line follows from the one before.

    Raises:
        StoreRefused: one doesn't, or is damaged.
    """
    if snapshot.damage is not None:
        raise StoreRefused(snapshot.damage)
    problems = snapshot.chain_problems()
    if problems:
        raise StoreRefused(f"{problems[0]}; nothing is written to it until it is restored from a backup")


def refuse_gone_back(backend: StoreBackend, snapshot: LedgerSnapshot) -> None:
    """Check that no line is gone that this machine has seen.

    Raises:
        StoreRefused: one is.
    """
    file = anchor_file(backend.location)
    anchor = file.read()
    if anchor is None or not anchor.sequence:
        return
    seen = snapshot.entries[anchor.sequence - 1].sha256 if anchor.sequence <= len(snapshot.entries) else None
    if seen != anchor.head:
        raise StoreRefused(gone_back(file, anchor, len(snapshot.entries)))


def _mismatch(
    backend: StoreBackend, name: str, pointer: Pointer | None, head: Head | None, snapshot: LedgerSnapshot
) -> str | None:
    """As `mismatch`; but a writer puts a pointer that isn't there where the ledger says."""
    facts = facts_of(snapshot, head)
    if pointer is None and facts.changes:
        pointer = Pointer.to(facts.changes[-1])
    return mismatch(backend.location, name, pointer, head, facts)


def facts_of(snapshot: LedgerSnapshot, head: Head | None) -> Facts:
    """What pointer and head are held against, from a ledger whose chain holds."""
    entries = snapshot.entries
    at_head = entries[head.sequence - 1].sha256 if head and head.sequence <= len(entries) else None
    return Facts(len(entries), tuple(champion_changes(entries)[-2:]), at_head)


def refuse_damaged(backend: StoreBackend, digest: str) -> None:
    """Hash every file of a version.

    Raises:
        BundleRefused: one isn't what the digest says.
    """
    problems = backend.problems(digest)
    if problems:
        raise BundleRefused(f"version {digest[:12]} is in the store but damaged: {problems[0]}")


def refuse_overtaken(name: str, state: ModelState, expected: Any) -> None:
    """The champion must still be the one that the decision was made against.

    Raises:
        Busy: it is another; the sentence says who made it so.
    """
    if expected is ... or expected == state.champion:
        return
    changes = champion_changes(state.snapshot.entries)
    if not changes:
        raise Busy(f"{name}: the champion {str(expected)[:12]} is gone: decide again")
    body = changes[-1].body
    if changes[-1].action == RETIRED:
        raise Busy(f"{name}: {body['actor']} retired the champion at {body['time']}, after this decision was made")
    run = f" in flow run {body['note']['flow_run']}" if body.get("note", {}).get("flow_run") else ""
    raise Busy(
        f"{name}: {body.get('process', body['actor'])}{run} made {body['digest'][:12]} the champion at {body['time']}, "
        "after this decision was made: decide again"
    )


def last_promotion(entries: list[Entry], name: str, digest: str) -> Entry:
    """The last line that made a bundle the champion.

    Raises:
        StoreRefused: there is none.
    """
    for entry in reversed(champion_changes(entries)):
        if entry.digest == digest and entry.action != RETIRED:
            return entry
    raise StoreRefused(f"{name}: no line of the ledger made {digest[:12]} the champion; run `bundlegate audit {name}`")


def as_it_is(backend: StoreBackend, name: str) -> ModelState:
    """The state for who only looks: nothing is mended, and nobody is waited for."""
    snapshot = LedgerSnapshot(backend.location, check(backend, name).entries)
    changes = champion_changes(snapshot.entries)
    pointer = Pointer.to(changes[-1]) if changes else None
    return ModelState(backend, snapshot, pointer and pointer.digest, pointer and pointer.previous)


def line_body(action: str, digest: str, note: dict[str, Any] | None, more: dict[str, Any]) -> dict[str, Any]:
    """A ledger line's body: what, when, who, on which bundle, and what goes with the action."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    who = {"actor": whoami(), "process": identity()}
    return {"action": action, "time": now, **who, "digest": digest, "note": note or {}, **more}


def check_verdict(verdict: Verdict, bundle_dir: Path) -> None:
    """Refuse to act on a verdict that didn't pass, that is about another bundle, or whose bundle has changed since.

    Raises:
        GateRefused: the first two.
        BundleRefused: the last.
    """
    if not verdict.passed:
        raise GateRefused(f"the verdict on {verdict.digest[:12]} is {verdict.outcome}: {verdict.reason}")
    digest = bundle_digest(bundle_dir)
    if digest != verdict.digest:
        raise GateRefused(f"the verdict is about {verdict.digest[:12]}, the bundle at {bundle_dir} is {digest[:12]}")
    problems = check_files(bundle_dir, read_manifest(bundle_dir))
    if problems:
        raise BundleRefused(f"{bundle_dir} has changed since its verdict: {problems[0]}")
