"""Which versions and refused bundles may go, and how they go without taking what somebody needs.

The ledger's `pruned` line comes first, so that whoever promotes one of these bundles either wrote a line before it
(then the pruner looks again and keeps it) or has read it. On a bucket the removal itself may still be going on then:
for `REMOVAL_S` such a bundle can't be promoted, and after half of that the pruner stops.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import zip_longest

from ai.ml.core.errors import Busy, UsageError
from ai.ml.retraining.store.backend import Section
from ai.ml.retraining.store.ledger import Entry
from ai.ml.retraining.store.state import ModelState, champion_changes

REMOVAL_S = 600.0
"""Where no lock keeps writers apart: what a `pruned` line names may be on its way out for so long, and then no more."""


def prunable(state: ModelState, keep: int, keep_quarantine: int, grace_s: float) -> list[tuple[Section, str]]:
    """What `Store.prune` removes, section by section.

    Raises:
        UsageError: a number is too small.
    """
    minima = (("--keep", keep, 1), ("--keep-quarantine", keep_quarantine, 0), ("--grace", grace_s, 0))
    for flag, value, minimum in minima:
        if not value >= minimum:
            raise UsageError(f"{flag} must be at least {minimum}, got {value:g}")
    changes = champion_changes(state.snapshot.entries)
    newest = list(dict.fromkeys(entry.digest for entry in reversed(changes)))
    kept = {*newest[:keep], state.champion, state.previous, *_recently_live(changes, grace_s)}
    removable: list[tuple[Section, str]] = [
        ("versions", name) for name in state.backend.names("versions") if name not in kept
    ]
    refused = state.backend.names("quarantine")
    order = {entry.digest: entry.sequence for entry in state.snapshot.entries if entry.action == "refused"}
    refused.sort(key=lambda name: order.get(name, 0))
    return removable + [("quarantine", name) for name in refused[: max(len(refused) - keep_quarantine, 0)]]


def remove_pruned(state: ModelState, removable: list[tuple[Section, str]]) -> list[str]:
    """Remove what the ledger's last line names; returns where it was. What it has no time for, the next prune takes."""
    until = time.monotonic() + REMOVAL_S / 2
    removed: list[str] = []
    for section, name in removable:
        if not state.backend.exclusive and time.monotonic() > until:
            break
        state.backend.remove(section, name)
        removed.append(state.backend.address(section, name))
    return removed


def refuse_during_removal(name: str, state: ModelState, digest: str) -> None:
    """Don't promote what another process may still be removing.

    Raises:
        Busy: it was pruned a moment ago, in a backend without locks.
    """
    if state.backend.exclusive:
        return
    for entry in state.snapshot.entries:
        named = entry.action == "pruned" and digest in entry.body.get("removed", {}).get("versions", [])
        if named and _age_s(entry) < REMOVAL_S:
            raise Busy(
                f"{name}: {entry.body['actor']} is pruning version {digest[:12]}, it can be promoted again "
                f"{REMOVAL_S / 60:.0f} minutes after {entry.body['time']}"
            )


def _age_s(entry: Entry) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(entry.body["time"])).total_seconds()


def _recently_live(changes: list[Entry], grace_s: float) -> set[str]:
    """Champions of the last `grace_s` seconds: each until the line that replaced it."""
    live: set[str] = set()
    for entry, following in zip_longest(changes, changes[1:]):
        if following is None or _age_s(following) < grace_s:
            live.add(entry.digest)
    return live
