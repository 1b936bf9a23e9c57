"""The manifest of a bundle directory: the hashes of its files, and what is known of the bundle without loading it.

The sha-256 of `manifest.json` is the bundle's **digest**. So the manifest holds nothing volatile: no time, no host, no
flow run.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ai.ml.core.environment_faults import raise_if_environment_fault, raise_unlisted
from ai.ml.core.errors import BundleNotFound, BundleRefused, storage_failed
from ai.ml.core.files.atomic import dump_json, open_plain, sha256_bytes, write_atomic
from ai.ml.core.input_contract import InputContract

MANIFEST_FORMAT = 1
"""Raise it when a key changes its meaning or leaves, keep `Manifest.from_json` reading every lower number, and add a
real directory of the old format to the tests. A new key needs no new number: readers keep unknown keys in `extra`."""

MANIFEST_NAME = "manifest.json"
BUNDLE_NAME = "model_bundle.pt"
"""The saved model in a bundle directory."""
METRICS_NAME = "metrics.json"
MANIFEST_MAX_BYTES = 64 << 20

_PACKAGES = ("bundlegate", "torch", "numpy", "scikit-learn", "pyarrow")
_KINDS: dict[str, Any] = {
    "files": dict,
    "versions": dict,
    "model": dict,
    "scoring": dict,
    "contract": dict | None,
    "evidence": dict | None,
    "lineage": dict,
}
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileEntry:
    """A file's size and hash, as the manifest has them."""

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
    """Keys of a later writer, kept unchanged."""

    def to_json(self) -> bytes:
        """The bytes whose sha-256 is the digest."""
        files = {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in self.files.items()}
        own = {key: getattr(self, key) for key in _KINDS} | {"format": self.format, "files": files}
        return dump_json({**self.extra, **own})

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read any format up to `MANIFEST_FORMAT`.

        Raises:
            BundleRefused: not JSON, a key is missing or of another type, or the format is newer.
        """
        try:
            record = json.loads(data)
            _check_format(record["format"])
            for key, kind in _KINDS.items():
                if not isinstance(record[key], kind):
                    raise TypeError(f"{key} is a {type(record[key]).__name__}")
            files = {str(name): _entry(entry) for name, entry in record["files"].items()}
        except BundleRefused:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)[:200]
            raise BundleRefused(f"{MANIFEST_NAME} is damaged: {reason}") from None
        own: dict[str, Any] = {key: record[key] for key in _KINDS} | {"format": record["format"], "files": files}
        return cls(**own, extra={key: value for key, value in record.items() if key not in own})


def read_contract(bundle_dir: Path) -> InputContract | None:
    """The input contract in a bundle's manifest; None where it has none.

    Raises:
        BundleNotFound: there is no manifest.
        BundleRefused: the manifest or the contract in it can't be read.
    """
    contract = read_manifest(bundle_dir).contract
    return None if contract is None else InputContract.from_json(contract)


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
        BundleRefused: there is a link or another thing in it that isn't a plain file.
        StorageFailed: the disk refused; an earlier manifest is as it was.
    """
    try:
        files = {name: _measure(bundle_dir / name) for name in _names(bundle_dir)}
    except ValueError as error:
        raise BundleRefused(f"the bundle can't be sealed: {error}") from None
    except OSError as error:
        raise storage_failed(f"hashing {bundle_dir}", error, "no manifest was written") from error
    manifest = Manifest(MANIFEST_FORMAT, files, current_versions(), model, scoring, contract, evidence, lineage)
    content = manifest.to_json()
    write_atomic(bundle_dir / MANIFEST_NAME, content)
    return sha256_bytes(content)


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
    """One sentence per file that is missing, changed, or not in the manifest; links are never followed.

    Raises:
        StorageFailed: the disk failed, which says nothing of the file.
    """
    present = set(_names(bundle_dir))
    problems = [
        problem
        for name, entry in sorted(manifest.files.items())
        if (problem := _difference(bundle_dir / name, name, entry) if name in present else f"{name} is missing")
    ]
    return problems + [f"{name} is not in the manifest" for name in sorted(present - set(manifest.files))]


def directory_problems(path: Path, digest: str) -> list[str]:
    """The differences of a bundle directory from the one with this digest; every file is hashed."""
    try:
        found = bundle_digest(path)
        if found != digest:
            return [f"its manifest has the digest {found[:12]}, not {digest[:12]}"]
        return check_files(path, read_manifest(path))
    except BundleRefused as error:
        return [str(error)]


def _difference(path: Path, name: str, expected: FileEntry) -> str | None:
    try:
        with open_plain(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != expected.size:
                return f"{name} has {size} bytes, the manifest says {expected.size}"
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise_if_environment_fault(path, error)
        return f"{name} is a link, not a plain file, or can't be read"
    if found != expected.sha256:
        return f"{name} has changed: sha-256 {found[:12]}…, the manifest says {expected.sha256[:12]}…"
    return None


def _measure(path: Path) -> FileEntry:
    if path.is_symlink():
        raise ValueError(f"{path} is a link")
    with open_plain(path) as stream:
        return FileEntry(hashlib.file_digest(stream, "sha256").hexdigest(), os.fstat(stream.fileno()).st_size)


def _manifest_bytes(bundle_dir: Path) -> bytes:
    path = bundle_dir / MANIFEST_NAME
    try:
        with open_plain(path) as stream:
            content = stream.read(MANIFEST_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise BundleNotFound(f"no {MANIFEST_NAME} in {bundle_dir}: not a sealed bundle directory") from None
    except (OSError, ValueError) as error:
        raise_if_environment_fault(path, error)
        raise BundleRefused(f"{path} is a link, not a plain file, or can't be read: {error}") from None
    if len(content) > MANIFEST_MAX_BYTES:
        raise BundleRefused(f"{path} has more than {MANIFEST_MAX_BYTES:,} bytes")
    return content


def _names(bundle_dir: Path) -> Iterator[str]:
    """POSIX names of everything below that isn't a plain directory, the manifest itself left out."""
    for folder, folders, names in os.walk(bundle_dir, onerror=raise_unlisted):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*names, *links]):
            relative = Path(folder, name).relative_to(bundle_dir).as_posix()
            if relative != MANIFEST_NAME:
                yield relative


def _check_format(number: Any) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise TypeError("format is not a number")
    if number > MANIFEST_FORMAT:
        raise BundleRefused(
            f"{MANIFEST_NAME} has format {number}, this bundlegate reads up to {MANIFEST_FORMAT}: upgrade it"
        )


def _entry(record: Any) -> FileEntry:
    sha256, size = record["sha256"], record["size"]
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise TypeError("an entry of files has no sha-256")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise TypeError("an entry of files has no size")
    return FileEntry(sha256, size)
