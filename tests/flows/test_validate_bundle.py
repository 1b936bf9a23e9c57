"""The validation flow as a user runs it: a real process against a real Prefect server."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from builders import mixed_table
from bundles import sealed
from prefect_cli import ask_server, run_module

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig, TrainingSettings
from ai.ml.retraining.store.store import Store

pytestmark = pytest.mark.slow


def validate(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_module(environment, "flows.validate_bundle", *arguments)


def artifacts(url: str, key: str) -> list[str]:
    query = {"artifacts": {"key": {"any_": [key]}}}
    return [found["data"] for found in ask_server("POST", f"{url}/artifacts/filter", json=query).json()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("validate") / "whole-bundle")


def test_a_whole_bundle_passes_with_its_verdict_as_artifact(whole: Path, prefect_environment: dict[str, str]) -> None:
    done = validate(prefect_environment, "--bundle", str(whole), "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["verdict"]["outcome"], record["bundle"]) == ("PASSED", str(whole))
    (shown,) = artifacts(prefect_environment["PREFECT_API_URL"], "validate-whole-bundle-verdict")
    assert "### Bundlegate: PASSED" in shown
    assert record["verdict"]["digest"] in shown


@pytest.mark.parametrize(
    ("damage", "code", "sentence"), [("file", 6, "model_bundle.pt has"), ("digest", 6, "expected 0000")]
)
def test_a_bundle_that_isnt_what_it_should_be_fails_the_flow(
    whole: Path, tmp_path: Path, warm_environment: dict[str, str], damage: str, code: int, sentence: str
) -> None:
    bundle_dir = Path(shutil.copytree(whole, tmp_path / f"damaged-{damage}"))
    flags = ["--expect-digest", "0" * 64] if damage == "digest" else []
    if damage == "file":
        (bundle_dir / "model_bundle.pt").write_bytes(b"x")
    done = validate(warm_environment, "--bundle", str(bundle_dir), *flags)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    url = warm_environment["PREFECT_API_URL"]
    (shown,) = artifacts(url, f"validate-damaged-{damage}-verdict")
    assert "### Bundlegate: REFUSED" in shown
    query = {"flow_runs": {"name": {"any_": [f"validate-{bundle_dir}"]}}}
    (run,) = ask_server("POST", f"{url}/flow_runs/filter", json=query).json()
    assert run["state_type"] == "FAILED"


def test_a_name_in_the_store_is_the_bundle_behind_it(tmp_path: Path, warm_environment: dict[str, str]) -> None:
    write_table(mixed_table(300, seed=3), tmp_path / "table.csv")
    settings = RetrainConfig(
        name="m",
        store=str(tmp_path / "store"),
        data=DataSettings(source=str(tmp_path / "table.csv"), target="y"),
        training=TrainingSettings(epochs=3, hidden_dim=16),
    )
    candidate = steps.train_candidate(settings, steps.read_data(settings))
    verdict, decision = steps.prove_candidate(settings, candidate), steps.decide(settings, candidate)
    steps.promote(settings, candidate, verdict, decision, flow_run_id=None)
    done = validate(warm_environment, "--bundle", "m@champion", "--store", settings.store, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["bundle"] == str(Store(tmp_path / "store").resolve("m@champion").absolute())
    assert record["verdict"]["digest"] == candidate.bundle.digest
    (shown,) = artifacts(warm_environment["PREFECT_API_URL"], "validate-m-champion-verdict")
    assert candidate.bundle.digest in shown


def test_a_bundle_that_isnt_there_is_one_sentence(tmp_path: Path, warm_environment: dict[str, str]) -> None:
    done = validate(warm_environment, "--bundle", "nobody@champion", "--store", str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert "nobody" in done.stderr
    assert "Traceback" not in done.stderr
