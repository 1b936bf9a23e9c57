"""Each check of the gate fails for its own reason, with figures; nothing but a whole proof is a pass."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
import torch
from bundles import sealed, trained
from conftest import PATIENCE_S, ROOT, bundlegate
from odd_interpreters import patched

from ai.ml.core.errors import ExitCode, NothingChecked, UsageError
from ai.ml.frameworks.pytorch.inference.scorer import Answers, Scorer, ScoringSettings
from ai.ml.frameworks.pytorch.serialization.save import payload_of
from ai.ml.retraining.evidence.answers import AnswerSet
from ai.ml.retraining.evidence.evidence import read_evidence
from ai.ml.retraining.evidence.fingerprints import describe_structure
from ai.ml.retraining.evidence.seal import stage_candidate
from ai.ml.retraining.gate import checks
from ai.ml.retraining.gate.checks import Finding
from ai.ml.retraining.gate.environments import JobRequest, current_environment, run_jobs
from ai.ml.retraining.gate.invariance import check_variants
from ai.ml.retraining.gate.proof import prove
from ai.ml.retraining.gate.render import to_junit, to_markdown
from ai.ml.retraining.gate.verdict import CheckResult, Verdict
from ai.ml.retraining.selftest.defect import Copy
from ai.ml.retraining.settings.gate import GatePolicy

pytestmark = pytest.mark.usefixtures("warm_processes")

SCHEMA = json.loads((ROOT / "docs" / "verdict.schema.json").read_bytes())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("gate") / "bundle")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Copy:
    return Copy(Path(shutil.copytree(whole, tmp_path / "bundle")))


def valid(verdict: Verdict) -> Verdict:
    """A verdict, once its JSON, JUnit and Markdown have been held against their rules."""
    document = json.loads(verdict.to_json())
    jsonschema.validate(document, SCHEMA)
    assert Verdict.from_json(verdict.to_json()) == verdict
    suites = ET.fromstring(to_junit(verdict))
    assert suites.tag == "testsuites"
    for suite in suites:
        cases = suite.findall("testcase")
        assert suite.get("tests") == str(len(cases))
        for outcome, tag in (("failures", "failure"), ("skipped", "skipped"), ("errors", "error")):
            assert suite.get(outcome) == str(sum(case.find(tag) is not None for case in cases))
        assert all(case.get("classname") and case.get("name") and case.get("time") for case in cases)
    assert suites.get("tests") == str(len(suites.findall("./testsuite/testcase")))
    assert (suites.get("failures") == "0") == verdict.passed
    assert to_markdown(verdict).startswith(f"### Bundlegate: {verdict.outcome}\n")
    return verdict


def only_failure(verdict: Verdict) -> CheckResult:
    assert [check.name for check in verdict.failures] == [verdict.failures[0].name], verdict.reason
    return verdict.failures[0]


def raw_bytes(payload: dict[str, Any]) -> bytes:
    """What plain `torch.save` makes of a payload: not our canonical form."""
    stream = io.BytesIO()
    torch.save(payload, stream)
    return stream.getvalue()


# ---- a pass ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_a_whole_bundle_passes_every_check(tmp_path: Path, task: Any, precision: Any) -> None:
    settings = ScoringSettings(precision=precision)
    # Wide: a narrow network's float32 answers may depend on a row's place, and then `fast` computes as `exact` does.
    result, holdout = trained(task, settings=settings, hidden_dim=128)
    stage_candidate(tmp_path / "bundle", result, holdout, settings=settings)
    verdict = valid(prove(tmp_path / "bundle"))
    assert verdict.outcome == "PASSED", verdict.reason
    names = ["integrity", "manifest", "metrics", "loading", "structure", "replay", "invariance", "fixpoint"]
    assert [check.name for check in verdict.checks] == names
    replay = next(check for check in verdict.checks if check.name == "replay")
    assert replay.figures["rows"] > 100
    if precision == "exact":
        assert 0 < replay.figures["rounding_margin"] <= 0.5
    assert prove(tmp_path / "bundle").to_json() == verdict.to_json()
    assert read_evidence(tmp_path / "bundle").structure == describe_structure(result.bundle), "that of the live model"


# ---- each check, for its own reason ----------------------------------------------------------------------------------


def test_integrity(copy: Copy) -> None:
    (copy.bundle_dir / "metrics.json").write_bytes(b"{}")
    failed = only_failure(valid(verdict := prove(copy.bundle_dir)))
    assert (failed.name, failed.figures["faults"], verdict.exit_code) == ("integrity", 1, ExitCode.INTEGRITY)
    assert failed.message.startswith("metrics.json has 2 bytes, the manifest says")
    assert verdict.environments == ()  # no process was started for it


def test_integrity_of_the_digest_that_was_meant(copy: Copy) -> None:
    verdict = valid(prove(copy.bundle_dir, expect_digest="0" * 64))
    assert only_failure(verdict).message.endswith(f"expected {'0' * 64}")


def test_manifest(copy: Copy) -> None:
    copy.seal(scoring={"precision": "fast", "tile_rows": 64})
    failed = only_failure(valid(prove(copy.bundle_dir)))
    assert (failed.name, failed.figures["sections_differing"]) == ("manifest", ["scoring"])


def test_metrics(copy: Copy) -> None:
    path = copy.bundle_dir / "metrics.json"
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps({**record, "test_metric_value": 0.123}), "utf-8")
    copy.seal()
    failed = only_failure(valid(prove(copy.bundle_dir)))
    assert failed.name == "metrics"
    assert "0.123" in failed.message


def test_metrics_that_the_answers_dont_give(copy: Copy) -> None:
    path = copy.bundle_dir / "metrics.json"
    record = {**json.loads(path.read_bytes()), "test_metric_value": 0.123}
    path.write_text(json.dumps(record), "utf-8")
    copy.replace_evidence(dataclasses.replace(copy.evidence(), metrics=record))
    failed = only_failure(valid(prove(copy.bundle_dir)))
    assert failed.message.startswith("the evidence gives accuracy")


def test_structure_alone_sees_what_no_answer_shows(copy: Copy) -> None:
    bundle = copy.bundle()
    bundle.scaler.n_samples_seen_ += 1
    copy.save(bundle)
    failed = only_failure(valid(prove(copy.bundle_dir)))
    assert (failed.name, failed.figures["parts_differing"]) == ("structure", 1)
    assert failed.difference is not None
    assert failed.difference["column"] == "scaler.n_samples_seen_"


def test_replay_alone_sees_an_answer_one_ulp_off(copy: Copy) -> None:
    evidence = copy.evidence()
    raw = evidence.answers.raw.copy()
    raw[7, 1] = np.nextafter(raw[7, 1], np.float32(np.inf))
    answers = AnswerSet(raw, evidence.answers.decoded, evidence.answers.stages)
    copy.replace_evidence(dataclasses.replace(evidence, answers=answers))
    verdict = valid(prove(copy.bundle_dir))
    failed = only_failure(verdict)
    assert (failed.name, failed.figures["rows_differing"], failed.figures["largest_ulp"]) == ("replay", 1, 1)
    assert failed.difference is not None
    assert (failed.difference["row"], failed.difference["ulp"], failed.difference["probe"]) == (7, 1, "holdout row")
    assert verdict.exit_code == ExitCode.REFUSED
    failure = ET.fromstring(to_junit(verdict)).find(".//failure")
    assert failure is not None
    for part in ("row: 7", "column: ", "expected: ", "got: ", "ulp: 1"):
        assert part in str(failure.get("message"))


def test_loading(copy: Copy) -> None:
    payload = payload_of(copy.bundle())
    del payload["scaler"]
    copy.replace(raw_bytes(payload))
    verdict = valid(prove(copy.bundle_dir))
    assert verdict.failures[0].name == "loading"
    assert "key scaler is missing" in verdict.failures[0].message


def test_fixpoint_alone_sees_a_file_that_isnt_what_saving_gives(copy: Copy) -> None:
    copy.replace(raw_bytes(payload_of(copy.bundle())))
    failed = only_failure(valid(prove(copy.bundle_dir)))
    assert failed.name == "fixpoint"
    assert failed.figures["foreign"] is False


def test_structure_sees_a_model_that_isnt_the_live_one_that_gave_the_evidence(tmp_path: Path) -> None:
    result, holdout = trained()
    stage_candidate(tmp_path / "bundle", result, holdout)
    next(result.bundle.model.parameters()).data[0, 0] += 1
    changed = Finding("current", {"error": None, "structure": describe_structure(result.bundle)}, None)
    failed = checks.check_structure(changed, read_evidence(tmp_path / "bundle").structure)
    assert (failed.refused, failed.figures["parts_differing"]) == (True, 1)


class BatchDependent(Scorer):
    """What the original did: a row's bits depend on the rows beside it."""

    def score_table(self, table: pa.Table | pa.RecordBatch) -> Answers:
        answers = super().score_table(table)
        nudged = np.nextafter(answers.raw, np.float32(np.inf)) if table.num_rows == 1 else answers.raw
        return dataclasses.replace(answers, raw=nudged)


def test_invariance(whole: Path) -> None:
    bundle, evidence = Copy(whole).bundle(), read_evidence(whole)
    found = check_variants(BatchDependent(bundle, ScoringSettings(), "cpu"), evidence, evidence.answers)
    failed = checks.check_invariance(Finding("current", {"error": None, "invariance": found}, None))
    assert failed.refused
    assert failed.figures["variants_differing"] == ["one row at a time", "batches of 3"]  # whose last one has one row
    assert failed.difference is not None
    assert failed.difference["ulp"] == 1
    good = check_variants(Scorer(bundle, ScoringSettings(), "cpu"), evidence, evidence.answers)
    assert checks.check_invariance(Finding("current", {"error": None, "invariance": good}, None)).passed
    assert not checks.check_invariance(Finding("current", {"error": None, "invariance": []}, None)).passed


# ---- other environments ----------------------------------------------------------------------------------------------


REPLAY = "ai.ml.retraining.gate.replay"


def test_another_interpreter_that_agrees_and_one_that_scales_otherwise(whole: Path, tmp_path: Path) -> None:
    patch = (
        "from ai.ml.frameworks.pytorch.inference.scorer import Scorer\nscaled = Scorer.scaled\n"
        "Scorer.scaled = lambda self, matrix: scaled(self, matrix) * (1 + 1e-6)"
    )
    other = patched(tmp_path, patch)
    verdict = valid(prove(whole, GatePolicy(pythons=(sys.executable, str(other)))))
    names = [f"python:{sys.executable}", f"python:{other}"]
    assert [environment.name for environment in verdict.environments] == ["current", *names]
    assert all(environment.versions["scikit-learn"] for environment in verdict.environments)
    assert [check.passed for check in verdict.checks if check.environment == names[0]] == [True]
    failed = only_failure(verdict)
    assert (failed.environment, failed.figures["first_stage"]) == (names[1], "scaler")
    assert failed.figures["rows_differing"] > 0
    assert failed.figures["largest_ulp"] > 0
    assert failed.figures["label_flips"] >= 0
    assert failed.figures["rounding_margin"] is not None


def test_an_environment_whose_process_dies_isnt_a_pass(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingChecked, match="exit status 9"):
        prove(whole, GatePolicy(pythons=(patched(tmp_path, "import os; os._exit(9)"),)))


def test_an_interpreter_without_bundlegate_is_a_users_mistake(whole: Path) -> None:
    bare = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    with pytest.raises(UsageError, match="can't import bundlegate: install it there"):
        prove(whole, GatePolicy(pythons=(str(bare),)))
    with pytest.raises(UsageError, match="expected a Python interpreter"):
        prove(whole, GatePolicy(pythons=("/nonexistent/python",)))


@pytest.mark.processor_seconds(110)
@pytest.mark.slow
def test_the_cpu_matrix_gives_the_same_bits_in_exact(whole: Path) -> None:
    verdict = valid(prove(whole, GatePolicy(cpu_matrix=True)))
    assert verdict.passed, verdict.reason
    assert len(verdict.environments) >= 4
    settings = [environment.settings for environment in verdict.environments if environment.name.startswith("cpu:")]
    assert {record["OMP_NUM_THREADS"] for record in settings} >= {"1"}
    assert "COMPATIBLE" in {record.get("MKL_CBWR") for record in settings}


@pytest.mark.slow(4)
@pytest.mark.usefixtures("cold_processes")
def test_the_replay_process_gets_the_directory_and_nothing_else(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "numpy", "sitecustomize", "usercustomize", "ai"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working directory')", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "torch.py"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (outcome,) = run_jobs(current_environment(), [JobRequest(whole, ("replay",))], tmp_path / "desk", PATIENCE_S)
    assert outcome.report is not None, outcome.failure
    assert outcome.report["error"] is None
    assert "prefect" not in outcome.report["replay"]["heavy_imports"]
    assert outcome.report["environment"]["settings"] == {}  # none of the caller's settings reached it


@pytest.mark.usefixtures("cold_processes")
def test_the_replay_process_needs_neither_prefect_nor_pandas(whole: Path) -> None:
    """Both made impossible to import: scikit-learn takes pandas where it is, so that its presence says nothing."""
    code = (
        "import runpy, sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('pandas', 'prefect'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
        f"sys.argv = ['replay', {str(whole)!r}]\nrunpy.run_module({REPLAY!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["error"] is None


# ---- never a pass ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda copy: None, 0),
        (lambda copy: (copy.bundle_dir / "model_bundle.pt").write_bytes(b"x"), 6),
        (lambda copy: copy.seal(model={}), 1),
        (lambda copy: [path.unlink() for path in (copy.bundle_dir / "evidence").iterdir()] and copy.seal(), 1),
    ],
    ids=["whole", "damaged", "refused", "evidence emptied"],
)
def test_no_output_flag_changes_the_exit_code(copy: Copy, damage: Callable[[Copy], Any], code: int) -> None:
    damage(copy)
    for flags in ((), ("--json",), ("--junit", "x.xml", "--markdown", "x.md")):
        done = subprocess.run(
            [bundlegate(), "verify", "bundle", *flags], cwd=copy.bundle_dir.parent, capture_output=True, text=True
        )
        assert done.returncode == code, (flags, done.stderr)


def test_zero_probes_are_exit_5(copy: Copy) -> None:
    evidence = copy.evidence()
    nothing = AnswerSet(evidence.answers.raw[:0], evidence.answers.decoded[:0], evidence.answers.stages)
    probes = dataclasses.replace(evidence.generated, probes=())
    copy.replace_evidence(
        dataclasses.replace(evidence, holdout=evidence.holdout.slice(0, 0), generated=probes, answers=nothing)
    )
    verdict = valid(prove(copy.bundle_dir))
    assert (verdict.outcome, verdict.exit_code) == ("NOTHING_CHECKED", ExitCode.NOTHING_CHECKED)


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["text", "json"])
def test_a_reader_that_goes_away_doesnt_turn_a_refusal_into_a_pass(copy: Copy, flags: tuple[str, ...]) -> None:
    (copy.bundle_dir / "metrics.json").write_bytes(b"{}")
    command = [bundlegate(), "verify", str(copy.bundle_dir), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(PATIENCE_S) == ExitCode.INTEGRITY, said
    assert said == ""
