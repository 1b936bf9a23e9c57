"""The audit: is everything in the store as it was written?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from ai.ml.core.errors import BundleNotFound, BundleRefused, StoreRefused, UsageError
from ai.ml.core.files.atomic import sha256_bytes
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.store.backend import CHAMPION_ACTIONS, Pointer, StoreBackend, read_pointer
from ai.ml.retraining.store.checked import check
from ai.ml.retraining.store.ledger import Entry, Head, LedgerSnapshot
from ai.ml.retraining.store.state import champion_changes
from ai.ml.retraining.store.store import Store

MAX_RETRIES = 3
RETRY_AFTER_S = 0.3


def read_kept_head(path: Path) -> Head:
    """A head that was kept outside the store: a copy of `tip`, or JSON with a `sequence` and its line's `sha256`.

    Raises:
        UsageError: it can't be read, or is none.
    """
    try:
        return Head.from_json(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"--head {path}: {error.strerror or error}") from None
    except StoreRefused:
        raise UsageError(
            f'--head {path}: expected a copy of a model\'s `tip`: {{"sequence": N, "sha256": "…"}}'
        ) from None


def audit(store: Store, name: str, *, quick: bool = False, kept_head: Head | None = None) -> list[str]:
    """One sentence per thing that isn't as it was written: a ledger line, a verdict, a version's byte, the pointer.

    Args:
        store: where the model is.
        name: of the model.
        kept_head: of a copy outside the store; the ledger must hold that line.
        quick: only ledger, pointer and which versions are there; no verdict is read and no version hashed.

    Raises:
        BundleNotFound: there is no such model.
    """
    backend = store.backend(name)
    if not backend.exists():
        raise BundleNotFound(f"no model {name!r} in {store.root}")
    snapshot, sentences = _ledger_and_pointer(backend, name)
    if kept_head is not None:
        sentences += _head_problems(snapshot, kept_head)
    present = backend.names("versions")
    if not quick:
        sentences += _verdict_problems(backend, snapshot.entries)
    for digest in [] if quick else present:
        sentences += [f"version {digest[:12]}: {problem}" for problem in backend.problems(digest)]
    for digest in sorted(_expected(snapshot) - set(present)):
        sentences.append(f"version {digest[:12]}: it was the champion and is gone, and no `prune` removed it")
    return sentences


def _ledger_and_pointer(backend: StoreBackend, name: str) -> tuple[LedgerSnapshot, list[str]]:
    """Both without a lock: what a writer at work makes them differ by for a moment is looked at again."""
    for _ in range(MAX_RETRIES):
        snapshot, problems = _read_once(backend, name)
        if not problems:
            break
        time.sleep(RETRY_AFTER_S)
    else:
        snapshot, problems = _read_once(backend, name)
    return snapshot, problems


def _read_once(backend: StoreBackend, name: str) -> tuple[LedgerSnapshot, list[str]]:
    pointer, problems = None, list[str]()
    try:
        pointer, _ = read_pointer(backend, name)
    except StoreRefused as error:
        problems.append(str(error))
    head = 0
    try:
        record = backend.read_head()
        head = record.sequence if record is not None else 0
    except StoreRefused as error:
        problems.append(str(error))
    snapshot = backend.read_ledger()
    if snapshot.damaged:  # what the pointer says can't be held against half a ledger
        return snapshot, snapshot.problems() + problems
    lost = max(head, pointer.sequence if pointer else 0)
    if lost > len(snapshot.entries):
        problems.append(
            f"{snapshot.name} ends with line {len(snapshot.entries)}, line {lost} was written once and is gone"
        )
    elif not problems:
        problems += _pointer_problems(pointer, snapshot.entries)
    problems = snapshot.problems() + problems
    if not problems:  # what a look at each of them doesn't show: the head's line, and what this machine remembers
        try:
            check(backend, name)
        except StoreRefused as error:
            problems.append(str(error))
    return snapshot, problems


def _head_problems(snapshot: LedgerSnapshot, kept: Head) -> list[str]:
    entries = snapshot.entries
    if kept.sequence > len(entries):
        return [f"{snapshot.name} ends with line {len(entries)}, the kept head is of line {kept.sequence}: it was cut"]
    if entries[kept.sequence - 1].sha256 != kept.sha256:
        return [f"{snapshot.name}: line {kept.sequence} isn't that of the kept head: the ledger was rewritten"]
    return []


def _pointer_problems(pointer: Pointer | None, entries: list[Entry]) -> list[str]:
    changes = champion_changes(entries)
    if pointer is None:
        return ["the champion's pointer is gone"] if changes else []
    line = next((entry for entry in changes if entry.sha256 == pointer.line), None)
    if line is None or Pointer.to(line).digest != pointer.digest:
        return ["the champion's pointer names a bundle that no line of the ledger promoted: it was moved by hand"]
    if Pointer.to(line) != pointer:
        return ["the champion's pointer was edited: it doesn't say what its ledger line says"]
    if line is not changes[-1]:
        return ["the champion's pointer is older than the ledger's last promotion: the next write mends it"]
    return []


def _verdict_problems(backend: StoreBackend, entries: list[Entry]) -> Iterator[str]:
    """The verdict that a line names must be there, be that one, and allow what the line did."""
    for entry in entries:
        name = entry.body.get("verdict")
        if name is None:
            if entry.action in CHAMPION_ACTIONS:
                yield f"line {entry.sequence} made a champion without a verdict"
            continue
        document = backend.read_verdict(str(name))
        if document is None or sha256_bytes(document) != name:
            state = "is gone" if document is None else "has changed"
            yield f"the verdict of line {entry.sequence} ({str(name)[:12]}) {state}"
            continue
        try:
            verdict = Verdict.from_json(document)
        except BundleRefused as error:
            yield f"the verdict of line {entry.sequence} can't be read: {error}"
            continue
        if verdict.digest != entry.digest or (entry.action in CHAMPION_ACTIONS and not verdict.passed):
            yield f"the verdict of line {entry.sequence} doesn't allow what the line did"


def _expected(snapshot: LedgerSnapshot) -> set[str]:
    """Versions that became the champion and were not pruned since; none where the ledger can't be read to its end."""
    digests: set[str] = set()
    for entry in [] if snapshot.damaged else snapshot.entries:
        if entry.action in CHAMPION_ACTIONS:
            digests.add(entry.digest)
        elif entry.action == "pruned":
            digests -= set(entry.body.get("removed", {}).get("versions", []))
    return digests
