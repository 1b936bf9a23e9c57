"""The self-test: every defect is caught or shown to do nothing, and a gate that has become blind is found out."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import mixed_table, tiny_bundle
from bundles import sealed
from conftest import bundlegate

from ai.ml.core.errors import ExitCode, NothingChecked
from ai.ml.core.types import TaskType
from ai.ml.frameworks.pytorch.serialization.save import save_bundle
from ai.ml.retraining.evidence.seal import make_evidence
from ai.ml.retraining.gate import checks
from ai.ml.retraining.gate.verdict import CheckResult
from ai.ml.retraining.selftest import run as selftest_module
from ai.ml.retraining.selftest.run import CATALOGUE, SelftestReport, selftest

pytestmark = pytest.mark.usefixtures("warm_processes")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("c") / "bundle")


@pytest.fixture(scope="module")
def classifier_report(classifier: Path) -> SelftestReport:
    return selftest(classifier)


def test_at_least_forty_defects_are_all_refused(classifier_report: SelftestReport) -> None:
    assert not classifier_report.passed
    assert classifier_report.exit_code == ExitCode.OK
    caught = [result for result in classifier_report.results if result.fate == "caught"]
    assert len(caught) >= 75
    assert all(result.checks and result.message for result in caught)
    assert sum(result.difference is not None for result in caught) >= 60
    # The family that hashes can't see is the larger one, and the answers alone give most of it away.
    unseen = [result for result in caught if result.family != "files"]
    assert len(unseen) >= 50
    assert sum("replay" in result.checks and "loading" not in result.checks for result in unseen) >= 30


def test_undamaged_copies_pass(classifier_report: SelftestReport) -> None:
    controls = [result for result in classifier_report.results if result.family == "control"]
    assert len(controls) == 4
    assert [result.fate for result in controls] == ["passed"] * 4


def test_a_gate_that_refuses_everything_is_found_out(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = checks.check_fixpoint

    def refuse(*arguments: Any) -> CheckResult:
        return dataclasses.replace(checked(*arguments), passed=False)

    # Only for the copies: the bundle itself must pass first.
    proved = selftest_module.prove
    monkeypatch.setattr(selftest_module, "prove", lambda *given: (proved(*given), arm())[0])

    def arm() -> None:
        monkeypatch.setattr(checks, "check_fixpoint", refuse)

    names = {"nothing: a plain copy", "a weight off by one ulp"}
    report = selftest(classifier, [defect for defect in CATALOGUE if defect.name in names])
    assert report.exit_code == ExitCode.REFUSED
    assert "THE GATE REFUSED UNDAMAGED COPIES: nothing: a plain copy" in report.sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "training_mode"),
    [
        ("regression", "tabresnet"),
        ("regression", "linear_glm_baseline"),
        ("classification", "tabresnet"),
        ("regression", "mlp_ple"),
        ("classification", "tabm"),
    ],
)
def test_other_tasks_and_architectures(tmp_path: Path, task: TaskType, training_mode: str) -> None:
    report = selftest(sealed(tmp_path / "bundle", task, training_mode))
    assert not report.passed, report.sentence
    idle = {result.name: result.message for result in report.results if result.fate == "not applicable"}
    assert ("the target scaler lost" in idle) == (task == "classification")
    assert ("the label encoder lost" in idle) == (task == "regression")
    assert ("batch-norm statistics lost" in idle) == (training_mode != "tabresnet")
    assert all(idle.values())


def test_a_defect_that_changes_no_byte_is_listed_with_the_proof(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    bundle.feature_medians = np.full(bundle.input_dim, 0.5)
    save_bundle(bundle, tmp_path / "bundle")
    make_evidence(tmp_path / "bundle", mixed_table(30).select(["age", "income", "city", "plan"]))
    names = {"medians rounded to float32", "medians rolled by one", "medians set to 0"}
    report = selftest(tmp_path / "bundle", [defect for defect in CATALOGUE if defect.name in names])
    fates = {result.name: result for result in report.results}
    for name in ("medians rounded to float32", "medians rolled by one"):
        assert fates[name].fate == "no change"
        assert "sha-256" in fates[name].message
    assert fates["medians set to 0"].fate == "caught"


@pytest.mark.slow(4)
def test_a_gate_that_no_longer_looks_is_found_out(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(check: Any) -> Any:
        def pass_all(*arguments: Any, **options: Any) -> CheckResult:
            return dataclasses.replace(check(*arguments, **options), passed=True, applies=True)

        return pass_all

    monkeypatch.setattr(checks, "check_structure", blind(checks.check_structure))
    monkeypatch.setattr(checks, "check_replay", blind(checks.check_replay))
    report = selftest(classifier, [defect for defect in CATALOGUE if defect.family in ("saver", "files")])
    assert report.exit_code == ExitCode.REFUSED
    names = {result.name for result in report.passed}
    assert {"a weight off by one ulp", "medians lost", "two vocabulary entries swapped"} <= names
    assert "the bundle file cut off" not in names
    assert "THE GATE LET THROUGH: a weight off by one ulp" in report.sentence


def test_only_a_bundle_that_passes_can_be_tried(classifier: Path, tmp_path: Path) -> None:
    save_bundle(tiny_bundle(), tmp_path / "bundle")
    with pytest.raises(NothingChecked, match="must pass the gate before"):
        selftest(tmp_path / "bundle")


@pytest.mark.slow(20)
@pytest.mark.processor_seconds(40)
@pytest.mark.usefixtures("cold_processes")
def test_the_console_shows_each_defect_and_writes_json(classifier: Path, tmp_path: Path) -> None:
    command = [bundlegate(), "selftest", str(classifier), "--json", "result.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "result.json").read_bytes())
    assert len(record["results"]) == len(CATALOGUE)
    assert record["sentence"] in " ".join(done.stdout.split())
