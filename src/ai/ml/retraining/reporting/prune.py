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
    """Remove the reports of bundles that are no longer stored; call it after `Store.prune`.

    Kept are the reports of versions and of bundles in quarantine, the `keep` latest of other candidates (held or
    rejected ones, of which only the report is left), and those that the ledger doesn't know yet (of a run in progress).

    Returns:
        The folders that were removed.

    Raises:
        StorageFailed: the disk refused.
    """
    folders = all_reports(store, name)
    if not folders.is_dir():
        return []
    backend = store.backend(name)
    stored = {folder_name[:64] for folder_name in (*backend.names("versions"), *backend.names("quarantine"))}
    last, pruned = _last_entries(store.history(name))
    reports = [folder for folder in folders.iterdir() if DIGEST_PATTERN.fullmatch(folder.name)]
    removed = [folder for folder in reports if folder.name in pruned - stored]
    unpromoted = [folder for folder in reports if folder.name in last and folder.name not in pruned | stored]
    removed += sorted(unpromoted, key=lambda folder: -last[folder.name])[keep:]
    for folder in removed:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise storage_failed(f"removing {folder}", error, "run the command again when it works") from error
    return removed


def _last_entries(entries: list[Entry]) -> tuple[dict[str, int], set[str]]:
    """Number of the last line on each digest, and the digests whose last line has the action `pruned`."""
    last: dict[str, int] = {}
    pruned: set[str] = set()
    for entry in entries:
        if entry.action == "pruned":
            pruned |= {
                folder_name[:64]
                for folder_names in entry.body.get("removed", {}).values()
                for folder_name in folder_names
            }
        else:
            last[entry.digest] = entry.sequence
            pruned.discard(entry.digest)
    return last, pruned
