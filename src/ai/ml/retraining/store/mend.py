"""A person's word that a store is right again: pointer and head are written anew from a ledger whose chain holds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

from ai.ml.core.errors import BundleNotFound, Busy, StoreRefused
from ai.ml.retraining.store.backend import POINTER_NAME, LineTaken, Pointer, StoreBackend
from ai.ml.retraining.store.checked import check, lost_lines
from ai.ml.retraining.store.ledger import Entry
from ai.ml.retraining.store.state import (
    champion_changes,
    facts_of,
    line_body,
    refuse_broken_chain,
    refuse_gone_back,
)
from ai.ml.retraining.store.store import Store

Result = TypeVar("Result")

MENDED = "mended"
"""The ledger's word for it."""


def mend(store: Store, name: str, *, reason: str) -> Entry | None:
    """Put pointer and head where the ledger says, and write into the ledger who did it, and why.

    Returns:
        The ledger's line; None where nothing was wrong.

    Raises:
        BundleNotFound: there is no such model.
        StoreRefused: the ledger itself doesn't hold together, or was cut: only a backup helps.
        Busy: another writer was faster.
    """
    backend = store.backend(name)
    if not backend.exists():
        raise BundleNotFound(f"no model {name!r} in {store.root}")
    with contextlib.suppress(StoreRefused):
        check(backend, name)
        return None
    with backend.writing():
        try:
            return _mend(backend, name, reason)
        except LineTaken:
            raise Busy(f"{name}: another writer was faster; try again") from None


def _mend(backend: StoreBackend, name: str, reason: str) -> Entry:
    place = f"{backend.location}/{POINTER_NAME}"
    data, token = backend.read_pointer()
    head = _if_readable(backend.read_head)
    snapshot = backend.read_ledger()
    refuse_broken_chain(backend, snapshot)
    pointer = None if data is None else _if_readable(lambda: Pointer.from_json(data, place, name))
    lost = lost_lines(backend.location, pointer, head, facts_of(snapshot, head))
    if lost is not None:
        raise StoreRefused(lost)
    refuse_gone_back(backend, snapshot)
    changes = champion_changes(snapshot.entries)
    if not changes and data is not None:
        raise StoreRefused(f"{place} says that there is a champion, but no line of the ledger made one: delete it")
    wanted = Pointer.to(changes[-1]) if changes else None
    if wanted is not None and data != wanted.to_json() and not backend.replace_pointer(wanted.to_json(), token):
        raise LineTaken
    found = {"reason": reason, "pointer_before": None if pointer is None else pointer.digest}
    return backend.append(snapshot, line_body(MENDED, (wanted and wanted.digest) or "", None, found), point=False)


def _if_readable(read: Callable[[], Result]) -> Result | None:
    try:
        return read()
    except StoreRefused:
        return None
