"""What a rollback says about the bundle that it left: no night brings it back, and the next rollback goes further."""

from __future__ import annotations

from collections.abc import Sequence

from ai.ml.core.errors import UsageError
from ai.ml.retraining.store.backend import CHAMPION_ACTIONS
from ai.ml.retraining.store.ledger import Entry


def vetoes(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Digests that a rollback left, each with the ledger's line of it.

    A later line that makes the bundle the champion lifts the veto: a person's promotion, or a rollback to it.
    """
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.action in CHAMPION_ACTIONS:
            found.pop(entry.digest, None)
        left = entry.body.get("champion_before") if entry.action == "rolled-back" else None
        if left:
            found[left] = entry
    return found


def further_back(name: str, entries: Sequence[Entry], champion: str) -> str:
    """The digest that a rollback from `champion` brings back: the one before it that no rollback has left.

    Raises:
        UsageError: there is none.
    """
    vetoed = vetoes(entries)
    for entry in reversed(entries):
        if entry.action in CHAMPION_ACTIONS and entry.digest != champion and entry.digest not in vetoed:
            return entry.digest
    if not vetoed:
        raise UsageError(f"{name}: there was no champion before {champion[:12]}: nothing to go back to")
    left = ", ".join(digest[:12] for digest in vetoed)
    raise UsageError(
        f"{name}: there was no champion before {champion[:12]} but what rollbacks have left ({left}): nothing to go "
        "back to; --to DIGEST takes one of them all the same"
    )


def lifting(name: str, digest: str) -> str:
    """How a veto is lifted, in a few words."""
    return f"`bundlegate rollback {name} --to {digest[:12]}` or `bundlegate promote` lifts that"
