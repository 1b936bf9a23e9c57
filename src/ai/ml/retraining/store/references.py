"""How a bundle may be named wherever one is asked for: by a path, or by a name in the store."""

from __future__ import annotations

from pathlib import Path

from ai.ml.core.bundle_dir import BUNDLE_NAME
from ai.ml.core.errors import BundleNotFound


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
    if "@" in reference and "/" not in reference:
        from ai.ml.retraining.store.store import Store

        return Store(store).resolve(reference)
    raise BundleNotFound(f"no bundle at {reference}: expected a bundle directory, a {BUNDLE_NAME}, or NAME@champion")
