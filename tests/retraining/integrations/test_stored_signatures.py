"""A signed version of a store: the signature has a place of its own, and binds the digest that is proved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import sealed_tiny
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec
from store_samples import BucketPlace, FolderPlace, Place, make_place, promoted

from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.store.audit import audit


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return make_place(request, tmp_path, monkeypatch)


def keys(folder: Path, name: str) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo))
    return str(private), str(public)


def proved_after_the_signature(capsys: pytest.CaptureFixture[str], *words: str) -> bool:
    """The tiny bundles have no evidence, which the gate says once the signature held."""
    code, said = main(["verify", *words]), capsys.readouterr()
    return code == 1 and "REFUSED  evidence" in said.out and not said.err


def test_signing_the_champion_leaves_the_store_whole(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = promoted(place.store, tmp_path, 1), promoted(place.store, tmp_path, 2)
    at = ["--store", place.url if isinstance(place, BucketPlace) else str(place.root)]
    private, public = keys(tmp_path, "ours")
    _, foreign = keys(tmp_path, "foreign")
    assert main(["verify", "m@champion", "--key", public, *at]) == 6
    assert f"version {second[:12]} isn't signed" in capsys.readouterr().err
    for _ in range(2):
        assert main(["sign", "m@champion", "--key", private, *at]) == 0
    assert f"m/signatures/{second}.sig signs" in capsys.readouterr().out
    assert main(["sign", "m@previous", "--key", private, *at]) == 0
    assert audit(place.store, "m") == []
    assert place.store.backend("m").names("versions") == [first, second]
    assert place.store.resolve(f"m@{second[:8]}").name == second
    assert place.store.prune("m", 1, grace_s=0) == []
    assert proved_after_the_signature(capsys, "m@champion", "--key", public, *at)
    assert main(["verify", "m@champion", "--key", public, "--json", *at]) == 1
    assert second in json.dumps(json.loads(capsys.readouterr().out)["policy"]), "the digest that was signed is proved"
    assert main(["verify", "m@champion", "--key", foreign, *at]) == 6
    place.write(f"m/signatures/{second}.sig", place.read(f"m/signatures/{first}.sig"))
    assert main(["verify", "m@champion", "--key", public, *at]) == 6
    assert "isn't that of" in capsys.readouterr().err


def test_a_signature_that_an_earlier_release_wrote_beside_the_version_still_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = FolderPlace(tmp_path / "store")
    digest = promoted(place.store, tmp_path, 1)
    private, public = keys(tmp_path, "ours")
    version = place.root / "m" / "versions" / digest
    assert main(["sign", str(version), "--key", private]) == 0
    assert version.with_name(f"{digest}.sig").is_file()
    capsys.readouterr()
    assert proved_after_the_signature(capsys, "m@champion", "--key", public, "--store", str(place.root))
    assert audit(place.store, "m") == []
    assert place.store.resolve(f"m@{digest}") == version


def test_a_bundle_folder_is_signed_beside_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, _ = sealed_tiny(tmp_path / "b")
    private, public = keys(tmp_path, "ours")
    assert main(["sign", str(bundle), "--key", private]) == 0
    assert (tmp_path / "b.sig").is_file()
    capsys.readouterr()
    assert proved_after_the_signature(capsys, str(bundle), "--key", public)
