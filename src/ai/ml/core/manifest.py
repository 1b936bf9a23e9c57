"""The manifest of a bundle directory: what every file must hold, and everything that is known without loading one.

The sha-256 of `manifest.json` is the bundle's **digest**. So the manifest holds nothing volatile: no time, no host, no
flow run.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ai.ml.core.errors import BundleNotFound, BundleRefused
from ai.ml.core.files import dump_json, sha256_bytes, sha256_file, write_atomic

MANIFEST_FORMAT = 1
"""Raise it when a key changes its meaning or leaves, keep `Manifest.from_json` reading every lower number, and add a
real directory of the old format to the tests. A new key needs no new number: readers keep unknown keys in `extra`."""

MANIFEST_NAME = "manifest.json"
MANIFEST_MAX_BYTES = 64 << 20

_PACKAGES = ("bundlegate", "torch", "numpy", "scikit-learn", "pyarrow")
_KEYS = ("format", "files", "versions", "model", "scoring", "contract", "evidence", "lineage")


@dataclass(frozen=True)
class FileEntry:
    """What a file must hold."""

    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Manifest:
    """`manifest.json` as an object."""

    format: int
    files: dict[str, FileEntry]
    """By POSIX path relative to the directory."""
    versions: dict[str, str]
    """Of Python, the libraries, the platform and the CPU capability that trained the bundle."""
    model: dict[str, Any]
    scoring: dict[str, Any]
    contract: dict[str, Any] | None
    evidence: dict[str, Any] | None
    lineage: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    """Keys of a later writer, kept as they came."""

    def to_json(self) -> bytes:
        """The bytes whose sha-256 is the digest."""
        files = {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in self.files.items()}
        own = {key: getattr(self, key) for key in _KEYS} | {"files": files}
        return dump_json({**self.extra, **own})

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read any format up to `MANIFEST_FORMAT`.

        Raises:
            BundleRefused: not JSON, a key is missing or of another type, or the format is newer.
        """
        try:
            record = json.loads(data)
            number = record["format"]
            if not isinstance(number, int) or isinstance(number, bool):
                raise TypeError("format is not a number")
            if number > MANIFEST_FORMAT:
                raise BundleRefused(
                    f"{MANIFEST_NAME} has format {number}, this bundlegate reads up to {MANIFEST_FORMAT}: upgrade it"
                )
            files = {str(name): _entry(entry) for name, entry in record["files"].items()}
            for key in ("versions", "model", "scoring", "lineage"):
                if not isinstance(record[key], dict):
                    raise TypeError(f"{key} is not an object")
            for key in ("contract", "evidence"):
                if not isinstance(record[key], dict | None):
                    raise TypeError(f"{key} is neither an object nor null")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, BundleRefused):
                raise
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise BundleRefused(f"{MANIFEST_NAME} is damaged: {reason}") from None
        rest = {key: value for key, value in record.items() if key not in _KEYS}
        return cls(**{key: record[key] for key in _KEYS} | {"files": files}, extra=rest)


def current_versions() -> dict[str, str]:
    """Versions of everything here that can change a bit of an answer; the CPU capability once torch is imported."""
    versions = {
        "python": platform.python_version(),
        "platform": platform.system().lower(),
        "machine": platform.machine(),
    }
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    torch = sys.modules.get("torch")
    if torch is not None:
        versions["cpu_capability"] = str(torch.backends.cpu.get_cpu_capability())
    return versions


def write_manifest(
    bundle_dir: Path,
    *,
    model: dict[str, Any],
    scoring: dict[str, Any],
    contract: dict[str, Any] | None,
    evidence: dict[str, Any] | None,
    lineage: dict[str, Any],
) -> str:
    """Hash every file below `bundle_dir` and write the manifest over them; returns the digest.

    Raises:
        StorageFailed: the disk refused; an earlier manifest is as it was.
    """
    files = {
        name: FileEntry(sha256_file(bundle_dir / name), (bundle_dir / name).stat().st_size)
        for name in _names(bundle_dir)
    }
    manifest = Manifest(
        MANIFEST_FORMAT, files, current_versions(), model, scoring, contract, evidence, lineage
    ).to_json()
    write_atomic(bundle_dir / MANIFEST_NAME, manifest)
    return sha256_bytes(manifest)


def read_manifest(bundle_dir: Path) -> Manifest:
    """The manifest of a bundle directory.

    Raises:
        BundleNotFound: there is none.
        BundleRefused: it is damaged, or of a newer format.
    """
    return Manifest.from_json(_manifest_bytes(bundle_dir))


def bundle_digest(bundle_dir: Path) -> str:
    """The sha-256 that names the bundle.

    Raises:
        BundleNotFound: there is no manifest.
    """
    return sha256_bytes(_manifest_bytes(bundle_dir))


def check_files(bundle_dir: Path, manifest: Manifest) -> list[str]:
    """One sentence per file that is missing, changed, or not in the manifest; links are never followed."""
    problems: list[str] = []
    present = set(_names(bundle_dir))
    for name, entry in sorted(manifest.files.items()):
        path = bundle_dir / name
        if name not in present:
            problems.append(f"{name} is missing")
        elif path.is_symlink() or not path.is_file():
            problems.append(f"{name} is a link or not a plain file")
        elif path.stat().st_size != entry.size:
            problems.append(f"{name} has {path.stat().st_size} bytes, the manifest says {entry.size}")
        elif (found := sha256_file(path)) != entry.sha256:
            problems.append(f"{name} has changed: sha-256 {found[:12]}…, the manifest says {entry.sha256[:12]}…")
    problems += [f"{name} is not in the manifest" for name in sorted(present - set(manifest.files))]
    return problems


def _manifest_bytes(bundle_dir: Path) -> bytes:
    path = bundle_dir / MANIFEST_NAME
    if path.is_symlink() or not path.is_file():
        raise BundleNotFound(f"no {MANIFEST_NAME} in {bundle_dir}: not a sealed bundle directory")
    if path.stat().st_size > MANIFEST_MAX_BYTES:
        raise BundleRefused(f"{path} has {path.stat().st_size:,} bytes, more than {MANIFEST_MAX_BYTES:,}")
    return path.read_bytes()


def _names(bundle_dir: Path) -> Iterator[str]:
    """POSIX names of everything below that isn't a plain directory, the manifest itself left out."""
    for folder, folders, names in os.walk(bundle_dir):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*names, *links]):
            relative = Path(folder, name).relative_to(bundle_dir).as_posix()
            if relative != MANIFEST_NAME:
                yield relative


def _entry(record: Any) -> FileEntry:
    entry = FileEntry(record["sha256"], record["size"])
    if not isinstance(entry.sha256, str) or not isinstance(entry.size, int):
        raise TypeError("an entry of files is neither a hash nor a size")
    return entry
