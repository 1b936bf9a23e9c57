"""A signed bundle is the one that was signed: nothing in it changed, added or removed, and by nobody else's key."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import tiny_bundle
from conftest import bundlegate
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ai.ml.core.bundle_dir import write_manifest
from ai.ml.core.errors import BundleRefused, UsageError
from ai.ml.frameworks.pytorch.serialization import save_bundle
from ai.ml.retraining.integrations.signing import check_signature, sign_bundle, signature_path

pytestmark = pytest.mark.usefixtures("warm_processes")


def write_keys(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    hidden = pem.BestAvailableEncryption(password) if password else pem.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, hidden))
    public.write_bytes(key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def bundle_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    save_bundle(tiny_bundle(), folder)
    write_manifest(folder, model={}, scoring={}, contract=None, evidence=None, lineage={})
    return folder


def _flip(folder: Path) -> None:
    path = folder / "model_bundle.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": _flip,
    "an added file": lambda folder: (folder / "new.txt").write_text("x"),
    "an added hidden file": lambda folder: (folder / ".gitignore").write_text("x"),
    "a removed file": lambda folder: (folder / "manifest.json").unlink(),
    "a renamed file": lambda folder: (folder / "manifest.json").rename(folder / "other.json"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_isnt_as_it_was_signed_is_refused(bundle_dir: Path, tmp_path: Path, name: str) -> None:
    private, public = write_keys(tmp_path, "ours")
    sign_bundle(bundle_dir, private)
    check_signature(bundle_dir, public)
    DAMAGES[name](bundle_dir)
    with pytest.raises(BundleRefused, match="isn't that of") as refusal:
        check_signature(bundle_dir, public)
    assert "\n" not in str(refusal.value)


def test_another_key_and_another_signature_are_refused(bundle_dir: Path, tmp_path: Path) -> None:
    private, _ = write_keys(tmp_path, "ours")
    _, foreign = write_keys(tmp_path, "theirs")
    with pytest.raises(BundleRefused, match="isn't signed"):
        check_signature(bundle_dir, foreign)
    signature = sign_bundle(bundle_dir, private)
    assert signature == signature_path(bundle_dir) == tmp_path / "bundle.sig"
    with pytest.raises(BundleRefused, match="isn't that of"):
        check_signature(bundle_dir, foreign)
    for content in (b"", b"{}", b"not json", signature.read_bytes()[:-20]):
        signature.write_bytes(content)
        with pytest.raises(BundleRefused, match="isn't that of"):
            check_signature(bundle_dir, foreign)


def test_a_key_that_cant_be_used_is_one_sentence(bundle_dir: Path, tmp_path: Path) -> None:
    private, _ = write_keys(tmp_path, "hidden", b"secret")
    rsa_key = rsa.generate_private_key(65537, 2048)
    (tmp_path / "rsa.pem").write_bytes(
        rsa_key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    )
    (tmp_path / "text.pem").write_text("no key")
    for key in (tmp_path / "absent.pem", tmp_path / "text.pem", tmp_path / "rsa.pem", private):
        with pytest.raises(UsageError, match="can't sign"):
            sign_bundle(bundle_dir, key)
    assert sign_bundle(bundle_dir, private, password="secret").is_file()


def test_the_console_signs_and_verifies_before_the_gate(bundle_dir: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [bundlegate(), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    private, public = write_keys(tmp_path, "ours")
    unsigned = run("verify", "bundle", "--key", str(public))
    assert (unsigned.returncode, "isn't signed" in unsigned.stderr) == (6, True)
    signed = run("sign", "bundle", "--key", str(private))
    assert signed.returncode == 0, signed.stderr
    # Signed, and then the gate has its say: this bundle has no evidence.
    assert run("verify", "bundle", "--key", str(public)).returncode == 5
    shutil.copy(bundle_dir / "manifest.json", bundle_dir / "extra.json")
    refused = run("verify", "bundle", "--key", str(public))
    assert refused.returncode == 6
    assert "Traceback" not in refused.stderr
    _flip(bundle_dir)
    assert run("sign", "bundle", "--key", str(private)).returncode == 6
