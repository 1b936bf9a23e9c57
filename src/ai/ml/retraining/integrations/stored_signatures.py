"""Signatures of a store's versions: they lie in a section of their own, on a bucket as in a folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ai.ml.core.errors import BundleRefused
from ai.ml.retraining.integrations.signing import check_signature, sign_bundle
from ai.ml.retraining.store.store import Store


def sign_version(store: Store, name: str, bundle_dir: Path, key: Path, *, password: str | None = None) -> str:
    """Sign a version and keep the signature in the store; gives back where.

    Args:
        store: of the model.
        name: the model's.
        bundle_dir: as `Store.resolve` gave it, whole; its name is its digest.
        key: private elliptic key, PEM.
        password: of the key.

    Raises:
        UsageError: as `sign_bundle`.
        StorageFailed: the disk or bucket refused.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = sign_bundle(bundle_dir, key, Path(folder) / "signature", password=password)
        return store.backend(name).keep_signature(bundle_dir.name, written.read_bytes())


def check_version_signature(store: Store, name: str, bundle_dir: Path, key: Path) -> None:
    """See that a version is signed by this key.

    Args:
        store: of the model.
        name: the model's.
        bundle_dir: as `Store.resolve` gave it.
        key: public elliptic key, PEM.

    Raises:
        BundleRefused: nobody signed it, or as `check_signature`.
        UsageError: as `check_signature`.
    """
    signature = store.backend(name).read_signature(bundle_dir.name)
    if signature is None:
        raise BundleRefused(f"{name}: version {bundle_dir.name[:12]} isn't signed: `bundlegate sign {name}@DIGEST`")
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "signature"
        kept.write_bytes(signature)
        check_signature(bundle_dir, key, kept)
