"""Other environments: which there are, what becomes of their processes, and what the verdict says of each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from builders import mixed_table
from bundles import sealed
from conftest import PATIENCE_S

from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import ScoringSettings
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.evidence.seal import stage_candidate
from ai.ml.retraining.gate import environments
from ai.ml.retraining.gate.environments import (
    EnvironmentSpec,
    JobRequest,
    cpu_environments,
    current_environment,
    python_environments,
    run_jobs,
)
from ai.ml.retraining.gate.proof import prove
from ai.ml.retraining.settings.gate import GatePolicy

FIGURES = {"rows", "rows_differing", "label_flips", "largest_ulp", "first_stage", "rounding_margin"}


@pytest.mark.parametrize(
    ("best", "capabilities"),
    [("DEFAULT", {"default"}), ("AVX2", {"default", "avx2"}), ("AVX512", {"default", "avx2", "avx512"}), ("", {None})],
)
def test_the_matrix_never_asks_for_more_than_the_machine_has(best: str, capabilities: set[str | None]) -> None:
    specs = cpu_environments(best)
    assert {spec.variables.get("ATEN_CPU_CAPABILITY") for spec in specs} == capabilities
    assert {spec.variables.get("MKL_CBWR") for spec in specs} == {None, "COMPATIBLE", "AVX2"}
    assert len({spec.name for spec in specs}) == len(specs)
    assert len({tuple(sorted(spec.variables.items())) for spec in specs}) == len(specs)


def test_two_spellings_of_an_interpreter_are_one_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    (spec,) = python_environments([sys.executable, Path(sys.executable).name, sys.executable])
    assert spec.name == f"python:{sys.executable}"


def test_a_process_that_takes_too_long_is_a_failure_with_the_time(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 60\n", "utf-8")
    script.chmod(0o755)
    (outcome,) = run_jobs(EnvironmentSpec("slow", str(script)), [JobRequest(tmp_path, ())], tmp_path / "desk", 0.5)
    assert outcome.report is None
    assert outcome.failure == "the replay process gave no answer within 0.5 s, before it had looked at the bundle"


@pytest.mark.slow(4)
def test_a_bundle_that_cant_be_loaded_doesnt_take_the_others_with_it(tmp_path: Path) -> None:
    whole = sealed(tmp_path / "whole")
    (tmp_path / "empty").mkdir()
    requests = [JobRequest(tmp_path / "empty", ("replay",)), JobRequest(whole, ("replay",))]
    first, second = run_jobs(current_environment(), requests, tmp_path / "desk", PATIENCE_S)
    assert first.report is not None
    assert second.report is not None
    assert first.report["error"]["step"] == "load"
    assert second.report["error"] is None


@pytest.mark.slow
def test_fast_bits_that_differ_are_named_per_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ScoringSettings(precision="fast")
    table = mixed_table(300)
    result = train(table, TrainingConfig("y", epochs=2, hidden_dim=128), scoring=settings)
    stage_candidate(tmp_path / "bundle", result, table.take(pa.array(result.holdout_rows)), settings=settings)
    monkeypatch.setattr(environments, "_MKL_MODES", ("COMPATIBLE",))
    monkeypatch.setattr(environments.os, "cpu_count", lambda: 1)
    verdict = prove(tmp_path / "bundle", GatePolicy(cpu_matrix=True))
    replays = {check.environment: check for check in verdict.checks if check.name == "replay"}
    assert [*replays] == [environment.name for environment in verdict.environments]
    assert replays["current"].passed
    for environment in verdict.environments:
        assert {"python", "torch", "numpy", "scikit-learn"} <= {*environment.versions}
        figures = replays[environment.name].figures
        assert {*figures} == FIGURES
        differs = figures["rows_differing"] > 0
        assert replays[environment.name].passed is not differs
        assert figures["first_stage"] == ("network" if differs else None)
        assert (figures["largest_ulp"] > 0) is differs
    plain = replays.get("cpu:default/mkl:COMPATIBLE/threads:1")
    # A CPU on which float32 depends on a row's place has `fast` compute as `exact` does, and then nothing differs.
    if plain is not None and replays["current"].figures["rounding_margin"] is None:
        assert plain.figures["rows_differing"] > 0


@pytest.mark.slow(8)
def test_the_console_names_the_other_interpreter_and_its_figures(tmp_path: Path) -> None:
    sealed(tmp_path / "bundle")
    command = [str(Path(sys.executable).with_name("bundlegate")), "verify", "bundle", "--json"]
    done = subprocess.run([*command, "--python", sys.executable], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert [place["name"] for place in record["environments"]] == ["current", f"python:{sys.executable}"]
    other = next(check for check in record["checks"] if check["environment"].startswith("python:"))
    assert {*other["figures"]} == FIGURES
    assert 0 < other["figures"]["rounding_margin"] <= 0.5
