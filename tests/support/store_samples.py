"""Sealed bundles and verdicts for the tests of the store, and stores whose content a test can damage."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from builders import sealed_tiny
from verdict_samples import passed_verdict, refused_verdict

from ai.ml.core.bundle_dir import bundle_digest
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.store.store import Store

DECISION = {"reason": "better"}


def verdict_on(digest: str, *, passed: bool = True) -> Verdict:
    return passed_verdict(digest) if passed else refused_verdict(digest)


def proving(path: Path) -> Verdict:
    """In the place of the gate: passes."""
    return verdict_on(bundle_digest(path))


def promoted(store: Store, folder: Path, seed: int, name: str = "m") -> str:
    bundle, digest = sealed_tiny(folder / f"bundle{seed}", seed)
    store.promote(name, bundle, verdict_on(digest), decision=DECISION)
    return digest


@dataclass
class FolderPlace:
    """A store in a folder."""

    root: Path

    @property
    def store(self) -> Store:
        return Store(self.root, lock_timeout_s=10)

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(data)

    def delete(self, key: str) -> None:
        path = self.root / key
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def keys(self, prefix: str) -> list[str]:
        found = (Path(folder, name) for folder, _, names in os.walk(self.root / prefix) for name in names)
        return sorted(str(path.relative_to(self.root)) for path in found)

    def lines(self) -> list[bytes]:
        return self.read("m/ledger.jsonl").splitlines(keepends=True)

    def set_lines(self, lines: list[bytes]) -> None:
        self.write("m/ledger.jsonl", b"".join(lines))


@dataclass
class BucketPlace:
    """A store in a bucket of the server on loopback."""

    url: str
    client: Any

    @property
    def store(self) -> Store:
        return Store(self.url, lock_timeout_s=10)

    def read(self, key: str) -> bytes:
        import obstore

        return bytes(obstore.get(self.client, key).bytes())

    def write(self, key: str, data: bytes) -> None:
        import obstore

        obstore.put(self.client, key, data)

    def delete(self, key: str) -> None:
        import obstore

        obstore.delete(self.client, [*self.keys(key), key])

    def keys(self, prefix: str) -> list[str]:
        import obstore

        return sorted(entry["path"] for batch in obstore.list(self.client, prefix) for entry in batch)

    def lines(self) -> list[bytes]:
        return [self.read(key) for key in self.keys("m/ledger")]

    def set_lines(self, lines: list[bytes]) -> None:
        for key in self.keys("m/ledger"):
            self.delete(key)
        for number, line in enumerate(lines, start=1):
            self.write(f"m/ledger/{number:09d}.json", line)


Place = FolderPlace | BucketPlace


def make_place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A store in a `folder` or a `bucket` on a real S3 server, as the fixture's parameter says."""
    if request.param == "folder":
        return FolderPlace(tmp_path / "store")
    from obstore.store import S3Store

    environment: dict[str, str] = request.getfixturevalue("s3_bucket")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BUNDLEGATE_CACHE", str(tmp_path / "cache"))
    prefix = uuid.uuid4().hex
    bucket = environment["BUCKET"]
    config: Any = {"endpoint": environment["AWS_ENDPOINT_URL"]}
    client = S3Store(bucket, prefix=prefix, config=config, client_options={"allow_http": True})
    return BucketPlace(f"s3://{bucket}/{prefix}", client)
