from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ai.ml.core.bundle_dir import (
    MANIFEST_FORMAT,
    Manifest,
    bundle_digest,
    check_files,
    current_versions,
    read_manifest,
    write_manifest,
)
from ai.ml.core.errors import BundleNotFound, BundleRefused
from ai.ml.core.files.atomic import dump_json, sha256_file

PARTS: dict[str, Any] = {
    "model": {"task": "regression", "input_dim": 3},
    "scoring": {"precision": "exact", "tile_rows": 1024},
    "contract": None,
    "evidence": {"origin": "training"},
    "lineage": {"seed": 42},
}


@pytest.fixture
def bundle_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "bundle"
    (directory / "evidence").mkdir(parents=True)
    (directory / "model_bundle.pt").write_bytes(b"weights")
    (directory / "evidence" / "probes.parquet").write_bytes(b"rows")
    write_manifest(directory, **PARTS)
    return directory


def test_it_names_every_file_and_nothing_else(bundle_dir: Path) -> None:
    manifest = read_manifest(bundle_dir)
    assert set(manifest.files) == {"model_bundle.pt", "evidence/probes.parquet"}
    assert manifest.files["model_bundle.pt"].sha256 == sha256_file(bundle_dir / "model_bundle.pt")
    assert manifest.files["evidence/probes.parquet"].size == 4
    assert {key: getattr(manifest, key) for key in PARTS} == PARTS
    assert manifest.versions == current_versions()
    assert check_files(bundle_dir, manifest) == []


def test_the_digest_is_the_hash_of_the_manifest_and_the_same_for_the_same_content(bundle_dir: Path) -> None:
    digest = bundle_digest(bundle_dir)
    assert digest == sha256_file(bundle_dir / "manifest.json")
    copy = bundle_dir.with_name("copy")
    shutil.copytree(bundle_dir, copy)
    (copy / "manifest.json").unlink()
    assert write_manifest(copy, **PARTS) == digest
    assert write_manifest(copy, **PARTS) == digest  # the old manifest isn't a file of the bundle


@pytest.mark.parametrize("key", list(PARTS))
def test_each_part_changes_the_digest(bundle_dir: Path, key: str) -> None:
    digest = bundle_digest(bundle_dir)
    assert write_manifest(bundle_dir, **{**PARTS, key: {"other": 1}}) != digest


def test_every_difference_of_the_files_is_named(bundle_dir: Path, tmp_path: Path) -> None:
    manifest = read_manifest(bundle_dir)
    (bundle_dir / "model_bundle.pt").write_bytes(b"Weights")
    (bundle_dir / "evidence" / "probes.parquet").write_bytes(b"longer")
    (bundle_dir / "more").write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (bundle_dir / "linked").symlink_to(tmp_path / "elsewhere")
    problems = check_files(bundle_dir, manifest)
    assert problems[0] == "evidence/probes.parquet has 6 bytes, the manifest says 4"
    assert problems[1].startswith("model_bundle.pt has changed: sha-256 ")
    assert problems[2:] == ["linked is not in the manifest", "more is not in the manifest"]
    (bundle_dir / "model_bundle.pt").unlink()
    assert "model_bundle.pt is missing" in check_files(bundle_dir, manifest)


def test_links_and_pipes_are_never_followed(bundle_dir: Path, tmp_path: Path) -> None:
    manifest = read_manifest(bundle_dir)
    same = tmp_path / "same"
    (bundle_dir / "model_bundle.pt").rename(same)
    (bundle_dir / "model_bundle.pt").symlink_to(same)
    sentence = "model_bundle.pt is a link, not a plain file, or can't be read"
    assert check_files(bundle_dir, manifest) == [sentence]
    with pytest.raises(BundleRefused, match="is a link"):
        write_manifest(bundle_dir, **PARTS)
    (bundle_dir / "model_bundle.pt").unlink()
    os.mkfifo(bundle_dir / "model_bundle.pt")
    assert check_files(bundle_dir, manifest) == [sentence]  # and doesn't wait for a writer
    with pytest.raises(BundleRefused, match="not a plain file"):
        write_manifest(bundle_dir, **PARTS)


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match=r"no manifest\.json in"):
        read_manifest(tmp_path)
    with pytest.raises(BundleNotFound):
        bundle_digest(tmp_path / "gone")


def test_unknown_keys_survive(bundle_dir: Path) -> None:
    record = json.loads((bundle_dir / "manifest.json").read_bytes()) | {"later": [1, {"b": None}]}
    manifest = Manifest.from_json(dump_json(record))
    assert manifest.extra == {"later": [1, {"b": None}]}
    assert manifest.to_json() == dump_json(record)


def test_a_newer_format_is_refused_by_number(bundle_dir: Path) -> None:
    record = json.loads((bundle_dir / "manifest.json").read_bytes()) | {"format": MANIFEST_FORMAT + 1}
    with pytest.raises(BundleRefused, match=f"has format {MANIFEST_FORMAT + 1}, this bundlegate reads up to"):
        Manifest.from_json(dump_json(record))


@pytest.mark.parametrize("key", ["format", "files", "versions", "model", "scoring", "contract", "evidence", "lineage"])
def test_a_key_that_is_missing_or_of_another_type_is_refused(bundle_dir: Path, key: str) -> None:
    record = json.loads((bundle_dir / "manifest.json").read_bytes())
    with pytest.raises(BundleRefused, match=r"manifest\.json is damaged"):
        Manifest.from_json(dump_json({**record, key: "text"}))
    del record[key]
    with pytest.raises(BundleRefused, match=f"damaged: '{key}' is missing"):
        Manifest.from_json(dump_json(record))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format": true}', b'{"format": 0}', b'{"format": 1e0}'],
)
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(BundleRefused, match=r"manifest\.json is damaged"):
        Manifest.from_json(content)


@pytest.mark.parametrize(
    "entry",
    [None, 1, {}, {"sha256": "ab", "size": 1}, {"sha256": "a" * 64, "size": True}, {"sha256": "a" * 64, "size": -1}],
)
def test_an_entry_without_hash_or_size_is_refused(bundle_dir: Path, entry: Any) -> None:
    record = json.loads((bundle_dir / "manifest.json").read_bytes())
    record["files"]["model_bundle.pt"] = entry
    with pytest.raises(BundleRefused, match="damaged"):
        Manifest.from_json(dump_json(record))


def test_versions_name_what_can_change_an_answer() -> None:
    import torch  # noqa: F401 - the CPU capability is known only with it

    assert set(current_versions()) == {
        "python", "torch", "numpy", "scikit-learn", "pyarrow", "bundlegate", "platform", "machine", "cpu_capability",
    }  # fmt: skip
