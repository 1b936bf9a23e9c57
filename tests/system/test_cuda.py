"""What a GPU trains and answers: proved on the CPU, by the same gate, and the same bits in `exact`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import mixed_table
from bundles import weights
from prefect_cli import run_module

from ai.ml.core.tables.reader import write_table
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import Scorer, ScoringSettings
from ai.ml.frameworks.pytorch.models.networks import TRAINING_MODES
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.evidence.seal import stage_candidate
from ai.ml.retraining.gate.proof import prove

pytestmark = pytest.mark.gpu


def config(mode: str = "mlp_ple") -> TrainingConfig:
    return TrainingConfig("y", mode, epochs=4, hidden_dim=32, device="cuda")


@pytest.mark.parametrize("mode", TRAINING_MODES)
def test_what_cuda_trains_comes_back_on_the_cpu_and_passes_the_gate_there(mode: str, tmp_path: Path) -> None:
    table = mixed_table(200)
    result = train(table, config(mode))
    assert {tensor.device.type for tensor in result.bundle.model.state_dict().values()} == {"cpu"}
    assert weights(train(table, config(mode))) == weights(result)
    stage_candidate(tmp_path / "bundle", result, table.take(pa.array(result.holdout_rows)))
    verdict = prove(tmp_path / "bundle")
    assert verdict.outcome == "PASSED", verdict.reason


def test_a_student_on_cuda_learns_from_a_teacher_of_the_cpu(tmp_path: Path) -> None:
    table = mixed_table(200)
    teacher = train(table, dataclasses.replace(config(), device="cpu")).bundle
    student = train(table, config(), teacher=teacher)
    assert weights(train(table, config(), teacher=teacher)) == weights(student)
    stage_candidate(tmp_path / "bundle", student, table.take(pa.array(student.holdout_rows)))
    assert prove(tmp_path / "bundle").outcome == "PASSED"


@pytest.mark.parametrize("mode", ["mlp_dense", "mlp_ple", "tabm"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_cuda_answers_bit_for_bit_as_the_cpu_in_exact(mode: str, task: str) -> None:
    table = mixed_table(2_000, task=task)  # pyright: ignore[reportArgumentType]
    bundle = train(table, config(mode)).bundle
    settings = ScoringSettings("exact")
    on_cpu, on_cuda = Scorer(bundle, settings, "cpu"), Scorer(bundle, settings, "cuda")
    assert on_cpu.score_table(table).raw.tobytes() == on_cuda.score_table(table).raw.tobytes()


@pytest.mark.parametrize("mode", ["mlp_ple", "tabm"])
def test_the_flow_trains_on_cuda_promotes_and_scores_on_either(
    mode: str, tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    table = mixed_table(300, seed=3)
    write_table(table, tmp_path / "table.csv")
    store = str(tmp_path / "store")
    arguments = ["--name", "m", "--target", "y", "--store", store, "--epochs", "12", "--training-mode", mode]
    data = ["--data", str(tmp_path / "table.csv"), "--device", "cuda", "--json"]
    run = run_module(prefect_environment, "flows.retrain", *arguments, *data)
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    assert summary["verdict"]["outcome"] == "PASSED"
    assert summary["promotion"]["outcome"] == "PROMOTED"
    answers: list[pa.Table] = []
    for device in ("cpu", "cuda"):
        out = tmp_path / f"{device}.parquet"
        scoring = ["m@champion", str(tmp_path / "table.csv"), str(out), "--store", store, "--device", device, "--proba"]
        scored = run_module(prefect_environment, "ai.ml.retraining.commands.cli", "predict", *scoring)
        assert scored.returncode == 0, scored.stderr
        answers.append(pq.read_table(out).replace_schema_metadata(None))
    assert answers[0].equals(answers[1])


@pytest.mark.parametrize("mode", ["mlp_dense", "tabm"])
def test_sums_on_a_gpu_come_in_one_order(mode: str) -> None:
    table = mixed_table(3_000, seed=9)
    settings = dataclasses.replace(config(mode), hidden_dim=128)
    assert len({weights(train(table, settings)) for _ in range(3)}) == 1
