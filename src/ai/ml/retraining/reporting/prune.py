"""Reports that nobody needs any more: of versions that were pruned, and of old candidates that never became one."""

from __future__ import annotations

import shutil
from pathlib import Path

from ai.ml.core.errors import storage_failed
from ai.ml.retraining.reporting.files import all_reports
from ai.ml.retraining.store.backend import DIGEST_PATTERN
from ai.ml.retraining.store.ledger import Entry
from ai.ml.retraining.store.store import Store


def prune_reports(store: Store, name: str, keep: int) -> list[Path]:
    """Remove what describes a bundle that is gone; call it after `Store.prune`.

    Stays: what describes a version or a bundle in quarantine, the `keep` latest of the other candidates (held or
    rejected: their report is all that is left of them), and what the ledger doesn't know yet (a run is at it).

    Returns:
        The folders that were removed.

    Raises:
        StorageFailed: the disk refused.
    """
    folders = all_reports(store, name)
    if not folders.is_dir():
        return []
    backend = store.backend(name)
    stored = {place[:64] for place in (*backend.names("versions"), *backend.names("quarantine"))}
    last, pruned = _last_words(store.history(name))
    found = [folder for folder in folders.iterdir() if DIGEST_PATTERN.fullmatch(folder.name)]
    gone = [folder for folder in found if folder.name in pruned - stored]
    others = [folder for folder in found if folder.name in last and folder.name not in pruned | stored]
    gone += sorted(others, key=lambda folder: -last[folder.name])[keep:]
    for folder in gone:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise storage_failed(f"removing {folder}", error, "run the command again when it works") from error
    return gone


def _last_words(entries: list[Entry]) -> tuple[dict[str, int], set[str]]:
    """Number of the last line on each digest, and the digests whose last line says that they were pruned."""
    last: dict[str, int] = {}
    pruned: set[str] = set()
    for entry in entries:
        if entry.action == "pruned":
            pruned |= {place[:64] for places in entry.body.get("removed", {}).values() for place in places}
        else:
            last[entry.digest] = entry.sequence
            pruned.discard(entry.digest)
    return last, pruned
