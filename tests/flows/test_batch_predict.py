"""The batch flow as a user runs it: a real process against a real Prefect server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from batch_scenes import dataset, tree
from bundles import sealed_bundle
from prefect_cli import ask_server, run_module

from ai.ml.retraining.batch.job import predict_dataset

pytestmark = pytest.mark.slow


def predict(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_module(environment, "flows.batch_predict", *map(str, arguments))


def artifacts(environment: dict[str, str]) -> set[str]:
    """Keys of what the runs show in the UI; a progress bar has none."""
    url = f"{environment['PREFECT_API_URL']}/artifacts/filter"
    found = ask_server("POST", url, json={"sort": "CREATED_DESC"}).json()
    assert "progress" in {artifact["type"] for artifact in found}
    return {artifact["key"] for artifact in found}


def test_a_folder_is_scored_resumed_and_the_same_as_in_python(
    tmp_path: Path, prefect_environment: dict[str, str], warm_environment: dict[str, str]
) -> None:
    bundle, source = sealed_bundle(tmp_path), dataset(tmp_path / "in")
    predict_dataset(bundle, str(source), str(tmp_path / "expected"))
    arguments = ("--bundle", bundle, "--input", source, "--output", tmp_path / "out")
    first = predict(prefect_environment, *arguments, "--workers", "2", "--json")
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert (report["parts"], report["kept"], report["failures"]) == (6, 0, [])
    assert report["proof"].endswith("rows of evidence, bit for bit")
    assert tree(tmp_path / "out") == tree(tmp_path / "expected")

    assert artifacts(warm_environment) >= {"out-scored", "out-counts", "out-drift", "out-rows"}

    (tmp_path / "out" / "plan=pro" / "part-2.parquet").write_bytes(b"damaged")
    again = predict(warm_environment, *arguments)
    assert again.returncode == 0, again.stderr
    assert "(5 of 6 parts were done before)" in again.stdout
    assert tree(tmp_path / "out") == tree(tmp_path / "expected")


def test_a_part_that_cant_be_scored_fails_the_flow_and_the_others_stay(
    tmp_path: Path, warm_environment: dict[str, str]
) -> None:
    bundle, source = sealed_bundle(tmp_path), dataset(tmp_path / "in", 3)
    (source / "plan=basic" / "part-0.parquet").write_bytes(b"PAR1 not really")
    done = predict(warm_environment, "--bundle", bundle, "--input", source, "--output", tmp_path / "out")
    assert done.returncode == 4, done.stderr
    assert "1 of 3 parts could not be scored" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "plan=plus" / "part-1.parquet").is_file()
    assert not (tmp_path / "out" / "_SUCCESS").exists()


def test_a_damaged_bundle_scores_nothing(tmp_path: Path, warm_environment: dict[str, str]) -> None:
    bundle, source = sealed_bundle(tmp_path), dataset(tmp_path / "in", 2)
    content = bytearray((bundle / "model_bundle.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "model_bundle.pt").write_bytes(content)
    done = predict(warm_environment, "--bundle", bundle, "--input", source, "--output", tmp_path / "out")
    assert done.returncode == 6, done.stderr
    assert "model_bundle.pt has changed" in done.stderr
    assert not (tmp_path / "out").exists()
