"""Limits before work: evidence of a size or a shape that none has is refused, and nothing is written through a link."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import mixed_table
from bundles import sealed

from ai.ml.core.bundle_dir import check_files, read_manifest
from ai.ml.core.errors import BundleRefused, StorageFailed
from ai.ml.retraining.evidence.evidence import read_evidence, write_evidence
from ai.ml.retraining.evidence.probe_rows import read_probe_rows
from ai.ml.retraining.evidence.seal import make_evidence
from ai.ml.retraining.gate.proof import precheck
from ai.ml.retraining.store.backend import plain_files

MANY = 3_000_000


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return sealed(tmp_path / "bundle")


def parquet(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path, compression="zstd")
    return path


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


BOMBS: dict[str, tuple[Callable[[], pa.Table], str]] = {
    "rows": (lambda: pa.table({"a": pa.repeat("x" * 8, MANY)}), "3,000,000 rows, more than"),
    "cells": (
        lambda: pa.table({f"c{number}": pa.repeat(1, 1 << 20) for number in range(40)}),
        "41,943,040 cells, more than",
    ),
    "cells in one row": (lambda: pa.table({"a": [[0] * (1 << 25), [1] * 8]}), "cells, more than"),
    "text": (lambda: pa.table({"a": pa.repeat("x" * 1_000_000, 1000)}), "1,000,000,000 bytes of text"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_some_kilobytes_stand_for_is_known_before_it_is_made(tmp_path: Path, name: str) -> None:
    make, sentence = BOMBS[name]
    path = parquet(tmp_path / "probes.parquet", make())
    assert path.stat().st_size < 2_000_000
    before = peak_mib()
    with pytest.raises(BundleRefused, match=sentence):
        read_probe_rows(path)
    assert peak_mib() - before < 200


def test_rows_within_the_limits_are_read_as_they_were(tmp_path: Path) -> None:
    table = mixed_table(100).append_column("large", pa.array(["x"] * 100, pa.large_string()))
    table = table.append_column("coded", pa.array(["x", "y"] * 50).dictionary_encode())
    found = read_probe_rows(parquet(tmp_path / "probes.parquet", table))
    assert found.schema.equals(table.schema)
    assert found.equals(table)
    found.validate(full=True)


def of_kind(key: str, value: object) -> Callable[[dict[str, object]], bytes]:
    return lambda record: json.dumps({**record, key: value}).encode()


DOCUMENTS: dict[str, Callable[[dict[str, object]], bytes]] = {
    "deep": lambda _: b"[" * 200_000 + b"]" * 200_000,
    "a list": lambda _: b"[]",
    "a list for the structure": of_kind("structure", []),
    "a number for the sections": of_kind("sections", 3),
    "a text for the metrics": of_kind("metrics", "good"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_record_of_another_kind_is_a_refusal(bundle: Path, name: str) -> None:
    path = bundle / "evidence" / "record.json"
    path.write_bytes(DOCUMENTS[name](json.loads(path.read_bytes())))
    with pytest.raises(BundleRefused, match=r"the evidence of bundle can't be read"):
        read_evidence(bundle)


@pytest.mark.parametrize("content", [b"[" * 200_000 + b"]" * 200_000, b"[]", b'{"base": [1], "probes": [1]}'])
def test_probes_of_another_kind_are_a_refusal(bundle: Path, content: bytes) -> None:
    (bundle / "evidence" / "generated.json").write_bytes(content)
    with pytest.raises(BundleRefused, match=r"the evidence of bundle can't be read"):
        read_evidence(bundle)


def test_evidence_is_never_written_through_a_link(bundle: Path, tmp_path: Path) -> None:
    evidence = read_evidence(bundle)
    (bundle / "evidence").rename(tmp_path / "outside")
    before = {path: path.read_bytes() for path in (tmp_path / "outside").iterdir()}
    (bundle / "evidence").symlink_to(tmp_path / "outside")
    with pytest.raises(BundleRefused, match="is a link or no folder: nothing was written"):
        write_evidence(bundle, evidence)
    with pytest.raises(BundleRefused, match="is a link or no folder"):
        make_evidence(bundle, mixed_table(20), replace=True)
    assert {path: path.read_bytes() for path in (tmp_path / "outside").iterdir()} == before


def test_a_folder_that_cant_be_listed_is_not_empty(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files say nothing of the bundle: it isn't damaged, and isn't quarantined."""
    real = os.scandir

    def broken(path: str | Path = ".") -> object:
        if str(path).endswith("evidence"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return real(path)

    manifest = read_manifest(bundle)
    monkeypatch.setattr(os, "scandir", broken)
    for look in (lambda: check_files(bundle, manifest), lambda: precheck(bundle), lambda: list(plain_files(bundle))):
        with pytest.raises(StorageFailed, match=r"listing .*evidence failed: Too many open files"):
            look()
