"""How a bundle may be named wherever one is asked for: by a path, or by a name in the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ai.ml.core.bundle_dir import BUNDLE_NAME
from ai.ml.core.errors import BundleNotFound

if TYPE_CHECKING:
    from ai.ml.retraining.store.store import Store


def bundle_directory(reference: str, store: Path | str) -> Path:
    """The bundle directory that a path or a store reference names.

    Raises:
        BundleNotFound: there is none.
    """
    path = Path(reference)
    if path.is_dir():
        return path
    if path.is_file():
        return path.parent
    if names_version(reference):
        from ai.ml.retraining.store.store import Store

        return Store(store).resolve(reference)
    raise BundleNotFound(f"no bundle at {reference}: expected a bundle directory, a {BUNDLE_NAME}, or NAME@champion")


def names_version(reference: str) -> bool:
    """Whether it is a name in the store (`NAME@…`) and no path that is there."""
    return "@" in reference and "/" not in reference and not Path(reference).exists()


def find_version(store: Store, digest: str, first: Iterable[str] = ()) -> Path:
    """The directory of a version of whichever model: a bundle keeps its teacher's digest, not that one's model.

    Args:
        store: to look in.
        digest: of the version.
        first: models that are asked before all of them are listed.

    Raises:
        BundleNotFound: no model has it.
    """
    for names in (lambda: list(first), store.models):
        for name in names():
            with contextlib.suppress(BundleNotFound):
                return store.resolve(f"{name}@{digest}")
    raise BundleNotFound(f"no model of {store.root} has a version {digest[:12]}")
