"""A ledger that is believed: its chain, the head beside it, the pointer and what this machine remembers agree.

Everything that is shown or served goes through `check`. Readers take no lock, so what a writer at work makes these
differ by for a moment is looked at again. Two states that a killed writer leaves are no forgery: the last line made a
champion but the pointer (and the head) are still those before it, and there is no head behind the very first line.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ai.ml.core.errors import StoreRefused
from ai.ml.retraining.store.anchor import Anchor, AnchorFile, anchor_file, tags_sha256
from ai.ml.retraining.store.backend import (
    HEAD_NAME,
    POINTER_ACTIONS,
    POINTER_NAME,
    LedgerBytes,
    Pointer,
    StoreBackend,
    read_pointer,
)
from ai.ml.retraining.store.ledger import GENESIS, Entry, Head, broken_link, damaged_line, is_torn, read_line

LOOKS = 4
LOOK_AGAIN_S = 0.2


@dataclass(frozen=True)
class CheckedLedger:
    """Lines whose chain holds, and the pointer that they made."""

    data: bytes
    """The lines, one after another."""
    sequence: int
    """Number of the last one."""
    head: str
    """Its sha-256."""
    change: Entry | None
    """The line that made the pointer what it is."""
    pointer: Pointer | None

    @cached_property
    def entries(self) -> list[Entry]:
        """Every line, oldest first."""
        return [entry for line in self.data.splitlines(keepends=True) if (entry := read_line(line)) is not None]

    def about(self, digest: str) -> list[Entry]:
        """The lines on one bundle, oldest first; those that don't hold its digest aren't parsed."""
        named = digest.encode()
        lines = (line for line in self.data.splitlines(keepends=True) if named in line)
        return [entry for line in lines if (entry := read_line(line)) is not None and entry.digest == digest]


@dataclass(frozen=True)
class Facts:
    """What pointer and head are held against."""

    sequence: int
    """Number of the last line."""
    changes: tuple[Entry, ...]
    """The last two lines that moved the pointer; fewer if there are fewer."""
    at_head: str | None
    """sha-256 of the line that the head names; None where that isn't known."""


class _Mismatch(Exception):
    """The sentence for what doesn't fit, perhaps only because a writer is at work."""


def check(backend: StoreBackend, name: str) -> CheckedLedger:
    """Read ledger, head and pointer, and hold them against each other and against what this machine remembers.

    Args:
        backend: of the model.
        name: the model's.

    Raises:
        StoreRefused: a line was edited, removed, moved or is damaged, the head is gone, the pointer is not what the
            last promotion made, or all of it is older than what was seen here once.
        StorageFailed: the disk or bucket refused.
    """
    sentence = ""
    for look in range(LOOKS):
        time.sleep(LOOK_AGAIN_S if look else 0.0)
        try:
            return _look(backend, name)
        except _Mismatch as found:
            sentence = str(found)
    raise StoreRefused(sentence)


def durable_lines(pointer: Pointer | None, head: Head | None) -> int:
    """How many lines are known to have been on the disk: pointer and head follow a line only then."""
    return max(head.sequence if head else 0, pointer.sequence if pointer else 0)


def lost_lines(location: str, pointer: Pointer | None, head: Head | None, facts: Facts) -> str | None:
    """The sentence for a ledger that lacks a line that pointer or head name, which only a backup brings back."""
    written = durable_lines(pointer, head)
    if written > facts.sequence:
        return (
            f"{location}: the ledger ends with line {facts.sequence}, but line {written} was written once: it was cut; "
            "restore it from a backup"
        )
    if head is not None and facts.at_head not in (None, head.sha256):
        return (
            f"{location}: line {head.sequence} of the ledger isn't the one that {HEAD_NAME} names: the ledger was "
            "rewritten; restore it from a backup"
        )
    return None


def mismatch(location: str, name: str, pointer: Pointer | None, head: Head | None, facts: Facts) -> str | None:
    """What of pointer and head doesn't follow from the ledger, and what to do, in a sentence; None if all does."""
    place, last = f"{location}/{POINTER_NAME}", facts.sequence
    lost = lost_lines(location, pointer, head, facts)
    if lost is not None:
        return lost
    if head is None and last > 1:
        return (
            f"{location}/{HEAD_NAME} is gone, which says how many lines the ledger has: it may have been cut; restore "
            f"it from a backup, or see `bundlegate audit {name} --mend REASON`"
        )
    made = tuple(Pointer.to(entry) for entry in facts.changes)
    if pointer == (made[-1] if made else None):
        return None
    change = facts.changes[-1] if made else None
    before = made[-2] if len(made) > 1 else None
    unfinished = change is not None and change.sequence == last and (head.sequence if head else 0) < last
    if unfinished and pointer == before:
        return None
    if change is None:
        said = "it names a bundle, but no line of the ledger made a champion"
    elif pointer is None:
        said = f"it is gone, but line {change.sequence} of the ledger made one"
    else:
        said = f"it is not what line {change.sequence} of the ledger, the last that changed the champion, made it"
    if change is None:
        return f"{place} was moved by hand: {said}; restore the ledger from a backup, or delete the pointer"
    mending = f"`bundlegate audit {name} --mend REASON` puts it where the ledger says"
    return f"{place} was moved by hand: {said}; once you know who did it, {mending}"


def gone_back(file: AnchorFile, anchor: Anchor, sequence: int) -> str:
    """The sentence for a ledger that isn't a continuation of what this machine has seen."""
    seen = f"this machine has seen it with {anchor.sequence} lines, the last with sha-256 {anchor.head[:12]}"
    what = f"now it has {sequence}" if sequence < anchor.sequence else "now those are others"
    return (
        f"{file.store}: the ledger went back: {seen}, and {what}; it was cut, rewritten, or restored from an older "
        f"backup. If that is meant, or the store was made anew, delete {file.path}"
    )


def _look(backend: StoreBackend, name: str) -> CheckedLedger:
    # In this order: what the first two say was written before the ledger is read, so it must be in it.
    pointer, _ = read_pointer(backend, name)
    head = backend.read_head()
    file = anchor_file(backend.location)
    anchor = file.read()
    ledger = backend.ledger_bytes(anchor)
    walk = _Walk(ledger, durable_lines(pointer, head), head)
    continues = anchor is None or walk.begin_at(anchor)
    walk.go()
    sentence = mismatch(backend.location, name, pointer, head, walk.facts)
    if anchor is not None and not continues:
        sentence = sentence or gone_back(file, anchor, walk.sequence)
    if sentence is not None:
        raise _Mismatch(sentence)
    if walk.remembered_change > (pointer.sequence if pointer else 0):
        raise _Mismatch(
            f"{backend.location}/{POINTER_NAME} went back: this machine has seen it as line {walk.remembered_change} "
            f"of the ledger made it; run `bundlegate audit {name} --mend REASON`, which puts it where the ledger says"
        )
    if walk.seen is not None and walk.seen != anchor:
        file.keep_anchor(walk.seen)
        backend.keep_lines(ledger.data[: walk.seen.size])
    change = next(
        (entry for _, entry in reversed(walk.changes) if pointer and entry.sequence == pointer.sequence), None
    )
    return CheckedLedger(ledger.data[: walk.position], walk.sequence, walk.previous, change, pointer)


class _Walk:
    """Goes along the lines and stops at the first that doesn't follow from the one before."""

    def __init__(self, ledger: LedgerBytes, durable: int, head: Head | None) -> None:
        self.ledger, self.head = ledger, head
        self.durable = durable
        """How many lines are known to be on the disk: head and pointer follow a line only then."""
        self.sequence, self.previous, self.position = 0, GENESIS, 0
        self.changes: list[tuple[tuple[int, int], Entry]] = []
        self.seen: Anchor | None = None
        self.at_head: str | None = None
        self.remembered_change = 0
        """Number of the last line that moved the pointer before this look, as far as this machine knows."""
        self._content: Any = hashlib.sha256()

    @property
    def facts(self) -> Facts:
        return Facts(self.sequence, tuple(entry for _, entry in self.changes), self.at_head)

    def begin_at(self, anchor: Anchor) -> bool:
        """Skip what was checked before, if it is still byte for byte that; False if it isn't."""
        content = hashlib.sha256(memoryview(self.ledger.data)[: anchor.size])
        if len(self.ledger.data) < anchor.size or content.hexdigest() != anchor.content:
            return False
        for at, length in anchor.changes:
            entry = read_line(self.ledger.data[at : at + length])
            if entry is None:
                raise StoreRefused(f"what this machine remembers of {self.ledger.name} is damaged")
            self.changes.append(((at, length), entry))
            self.remembered_change = entry.sequence
        self._content = content
        self.sequence, self.previous, self.position = anchor.sequence, anchor.head, anchor.size
        self.seen = anchor
        if self.head is not None and self.head.sequence == self.sequence:
            self.at_head = self.previous
        return True

    def go(self) -> None:
        """Check the rest of the lines.

        Raises:
            StoreRefused: one is damaged.
            _Mismatch: one doesn't follow.
        """
        data, name = self.ledger.data, self.ledger.name
        for line in data[self.position :].splitlines(keepends=True):
            entry = read_line(line)
            if entry is None:
                break
            if (entry.sequence, entry.previous) != (self.sequence + 1, self.previous):
                sentence = broken_link(name, self.sequence + 1)
                raise _Mismatch(f"{sentence}; nothing of it is believed until it is restored from a backup")
            self._take(entry, line)
        rest = data[self.position :]
        if not is_torn(rest):
            later = max(rest.count(b"\n") - 1, 0)
            raise StoreRefused(damaged_line(name, self.sequence + 1, later, "nothing of it is believed"))

    def _take(self, entry: Entry, line: bytes) -> None:
        if entry.action in POINTER_ACTIONS:
            self.changes = [*self.changes[-1:], ((self.position, len(line)), entry)]
        self.sequence, self.previous, self.position = entry.sequence, entry.sha256, self.position + len(line)
        self._content.update(line)
        if self.head is not None and self.sequence == self.head.sequence:
            self.at_head = self.previous
        if self.sequence == self.durable:
            self.seen = self._anchor()

    def _anchor(self) -> Anchor:
        places = tuple(place for place, _ in self.changes)
        tags = "" if self.ledger.tags is None else tags_sha256(self.ledger.tags[: self.sequence])
        return Anchor(self.sequence, self.previous, self.position, self._content.hexdigest(), places, tags)
