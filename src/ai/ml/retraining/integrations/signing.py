"""Signatures with a local key, by OpenSSF's `model-signing` (extra `sign`): nothing is fetched, nothing is published.

A signature covers the names and contents of all files of a bundle directory. It lies beside the directory, not in it:
signing leaves the directory's content, and so its digest, as it was.

Keys are elliptic ones in PEM, as OpenSSL makes them::

    openssl ecparam -name prime256v1 -genkey -noout -out signing.pem
    openssl ec -in signing.pem -pubout -out signing.pub
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from ai.ml.core.errors import BundleRefused, UsageError
from ai.ml.core.files.atomic import write_atomic


def signature_path(bundle_dir: Path) -> Path:
    """Default path of a bundle's signature: `DIRECTORY.sig`."""
    directory = bundle_dir.absolute()
    return directory.with_name(f"{directory.name}.sig")


def sign_bundle(bundle_dir: Path, key: Path, signature: Path | None = None, *, password: str | None = None) -> Path:
    """Sign every file of a bundle directory; returns the signature's path.

    Args:
        bundle_dir: bundle directory.
        key: private elliptic key, PEM.
        signature: where to write; `DIRECTORY.sig` by default.
        password: of the key.

    Raises:
        UsageError: the key can't be used, or the extra `sign` isn't installed.
        StorageFailed: the disk refused.
    """
    signing = _library("signing")
    target = signature_path(bundle_dir) if signature is None else signature
    try:
        # The library's annotation says text, but it passes the password on to a function of bytes.
        secret = None if password is None else password.encode()
        config = signing.Config().use_elliptic_key_signer(private_key=key, password=secret)
    except (OSError, ValueError, TypeError, AttributeError) as error:  # an RSA key has no curve
        raise UsageError(f"{key} can't sign: {_reason(error)}; expected a private elliptic key in PEM") from None
    config.set_hashing_config(_hash_every_file())
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "signature"
        config.sign(bundle_dir, written)
        write_atomic(target, written.read_bytes())
    return target


def check_signature(bundle_dir: Path, key: Path, signature: Path | None = None) -> None:
    """Verify the signature with this key against all files; a further file is refused too.

    Args:
        bundle_dir: bundle directory.
        key: public elliptic key, PEM.
        signature: `DIRECTORY.sig` by default.

    Raises:
        BundleRefused: the signature doesn't match; a file was changed, added or removed, or another key signed.
        UsageError: the key or the signature can't be read, or the extra `sign` isn't installed.
    """
    verifying = _library("verifying")
    source = signature_path(bundle_dir) if signature is None else signature
    if not source.is_file():
        raise BundleRefused(f"{bundle_dir} isn't signed: there is no {source}")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except (OSError, ValueError, TypeError, AttributeError) as error:  # an RSA key has no curve
        raise UsageError(f"{key} can't verify: {_reason(error)}; expected a public elliptic key in PEM") from None
    config.set_hashing_config(_hash_every_file())
    _guarded(lambda: config.verify(bundle_dir, source), bundle_dir, source)


def _guarded(verify: Callable[[], Any], bundle_dir: Path, source: Path) -> None:
    try:
        verify()
    except Exception as error:  # the library raises what its parsers raise: whatever it is, the signature doesn't hold
        raise BundleRefused(
            f"the signature {source} isn't that of {bundle_dir} by this key: {_reason(error) or type(error).__name__}"
        ) from None


def _hash_every_file() -> Any:
    return _library("hashing").Config().set_ignored_paths(paths=[], ignore_git_paths=False)


def _library(module: str) -> Any:
    try:
        return import_module(f"model_signing.{module}")
    except ImportError:
        raise UsageError("signatures need the extra `sign`: pip install 'bundlegate[sign]'") from None


def _reason(error: Exception) -> str:
    return str(error).strip().replace("\n", "; ")[:200]
