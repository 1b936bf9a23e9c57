"""Versions from a bucket on this machine: by digest, and hashed each time before one is believed."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ai.ml.core.bundle_dir import MANIFEST_NAME, Manifest, directory_problems
from ai.ml.core.errors import BundleNotFound, BundleRefused
from ai.ml.core.files.atomic import make_dirs, publish_dir, sha256_bytes, write_atomic
from ai.ml.core.files.user_folders import cache_folder

Download = Callable[[str, Path, int], bool]
"""Key below the version, file to write, maximum bytes; False if there is no such object or it is longer."""


def cached_version(digest: str, manifest: bytes, download: Download) -> Path:
    """The folder of a version, downloaded if the one in the cache isn't whole.

    Args:
        digest: that the manifest must have.
        manifest: as it lies in the bucket.
        download: gets one file.

    Raises:
        BundleRefused: what lies in the bucket isn't that bundle.
        BundleNotFound: an object of it is gone.
        StorageFailed: the cache can't be written to.
    """
    target = cache_folder() / "versions" / digest
    if target.is_dir():
        if not directory_problems(target, digest):
            return target
        shutil.rmtree(target, ignore_errors=True)
    if sha256_bytes(manifest) != digest:
        raise BundleRefused(f"version {digest[:12]} in the bucket has another manifest: {sha256_bytes(manifest)[:12]}")
    make_dirs(target.parent)
    copy = target.with_name(f".{digest}.{secrets.token_hex(4)}.copy")
    try:
        make_dirs(copy)
        for name, entry in Manifest.from_json(manifest).files.items():
            path = copy / _safe_name(name)
            make_dirs(path.parent)
            if not download(name, path, entry.size):
                raise BundleNotFound(f"version {digest[:12]}: {name} is gone from the bucket, or too long")
        write_atomic(copy / MANIFEST_NAME, manifest)
        problems = directory_problems(copy, digest)
        if problems:
            raise BundleRefused(f"version {digest[:12]} in the bucket is damaged: {problems[0]}")
        _publish(copy, target)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return target


def kept_ledger(location: str) -> Path:
    """Where the lines of a bucket's ledger are kept; whoever reads them knows their sha-256."""
    return cache_folder() / "ledgers" / f"{sha256_bytes(location.encode())}.jsonl"


def _publish(copy: Path, target: Path) -> None:
    try:
        publish_dir(copy, target)
    except FileExistsError:  # another process published it at the same time
        if directory_problems(target, target.name):
            raise BundleRefused(f"{target} in the cache is damaged: remove it") from None


def _safe_name(name: str) -> str:
    """A name that stays in its folder, whatever the manifest says."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
        raise BundleRefused(f"the manifest names {name!r}, which is outside the bundle")
    return name
