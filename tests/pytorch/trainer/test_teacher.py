"""A champion's answers learned by a smaller student: whose preprocessing it has, which bundle taught it, refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from builders import mixed_table, tiny_bundle
from verdict_samples import passed_verdict

from ai.ml.core.bundle_dir import read_manifest
from ai.ml.core.errors import BundlegateError, BundleNotFound, BundleRefused, DataRefused, UsageError
from ai.ml.core.split_config import SplitConfig, SplitKind
from ai.ml.core.tables.reader import write_table
from ai.ml.core.types import ModelBundle, TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import Scorer
from ai.ml.frameworks.pytorch.models.networks import model_config_of
from ai.ml.frameworks.pytorch.serialization import load_bundle
from ai.ml.frameworks.pytorch.trainer.data.prepare import prepare_dataset
from ai.ml.frameworks.pytorch.trainer.data.student import student_of
from ai.ml.frameworks.pytorch.trainer.loop import EpochReport
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.plan import pinned
from ai.ml.retraining.runs.steps.candidate import candidate_key
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig, TrainingSettings
from ai.ml.retraining.store.store import Store

pytestmark = pytest.mark.usefixtures("warm_processes")

SETTINGS = TrainingConfig("y", training_mode="mlp_ple", epochs=3, batch_size=64)


@pytest.fixture(scope="module")
def teachers() -> dict[TaskType, ModelBundle]:
    tasks: list[TaskType] = ["classification", "regression"]
    return {task: train(mixed_table(200, task=task), SETTINGS).bundle for task in tasks}


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("mode", ["mlp_dense", "mlp_ple", "tabm"])
def test_a_student_is_smaller_and_has_its_teachers_preprocessing(
    task: TaskType, mode: str, teachers: dict[TaskType, ModelBundle]
) -> None:
    teacher = teachers[task]
    settings = student_of(dataclasses.replace(SETTINGS, training_mode=mode), teacher)
    student = train(mixed_table(200, seed=1, task=task), settings, teacher=teacher).bundle
    # But for the target's record, which is of the rows that the student learned from.
    assert student.contract is not None
    assert teacher.contract is not None
    assert dataclasses.replace(student.contract, target=teacher.contract.target) == teacher.contract
    assert student.vectorizer is teacher.vectorizer
    assert student.scaler is teacher.scaler
    config = model_config_of(student.model)
    assert config["training_mode"] == mode
    assert (config["hidden_dim"], config["num_hidden_layers"]) == (64, 1)
    assert config["dropout"] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("width", "layers", "dropout", "expected"),
    [(20, 1, 0.48, (16, 1, 0.5)), (301, 4, 0.0, (150, 3, 0.05)), (8, 2, 0.5, (16, 1, 0.5))],
)
def test_half_the_width_one_layer_less_more_dropout_within_limits(
    width: int, layers: int, dropout: float, expected: tuple[int, int, float]
) -> None:
    teacher = tiny_bundle(hidden_dim=width, num_hidden_layers=layers, dropout=dropout)
    student = student_of(SETTINGS, teacher)
    assert (student.hidden_dim, student.num_hidden_layers, student.dropout) == pytest.approx(expected)


@pytest.mark.parametrize("classes", [3, 200])
def test_a_linear_teacher_has_no_width_to_halve(classes: int) -> None:
    student = student_of(SETTINGS, tiny_bundle(training_mode="linear_glm_baseline", n_classes=classes))
    assert (student.hidden_dim, student.num_hidden_layers, student.dropout) == pytest.approx((16, 1, 0.05))


def test_a_student_that_is_larger_than_its_teacher_is_told() -> None:
    table, linear = mixed_table(200), dataclasses.replace(SETTINGS, training_mode="linear_glm_baseline", epochs=1)
    teacher = train(table, linear).bundle
    told = [
        [finding.message for finding in train(table, student_of(settings, teacher), teacher=teacher).findings]
        for settings in (dataclasses.replace(SETTINGS, epochs=1), linear)
    ]
    assert [bool([message for message in each if "linear model" in message]) for each in told] == [True, False]


def test_each_network_sees_each_row_once_per_epoch(
    teachers: dict[TaskType, ModelBundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher's answers to a row don't change, so it is asked once for all epochs."""
    from ai.ml.frameworks.pytorch.models.piecewise import PiecewiseMLP

    learning: list[int] = []
    real, asked = PiecewiseMLP.forward, Scorer.score_matrix
    questions: list[int] = []

    def forward(self: PiecewiseMLP, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            learning.append(len(x))
        return real(self, x)

    def score_matrix(self: Scorer, matrix: np.ndarray) -> Any:
        if self.bundle is teachers["classification"]:
            questions.append(len(matrix))
        return asked(self, matrix)

    monkeypatch.setattr(PiecewiseMLP, "forward", forward)
    monkeypatch.setattr(Scorer, "score_matrix", score_matrix)
    settings = dataclasses.replace(SETTINGS, epochs=2, validation_size=0.0)
    train(mixed_table(200), settings, teacher=teachers["classification"])
    assert learning == [64, 64, 32] * 2
    assert questions == [160]


def test_a_student_agrees_with_its_teacher_more_than_one_that_learned_alone(
    teachers: dict[TaskType, ModelBundle],
) -> None:
    """The labels are shuffled, so that only the teacher's answers could have taught this."""
    table = mixed_table(400, seed=2)
    wrong = np.random.default_rng(0).permutation(table["y"].to_numpy(zero_copy_only=False))
    noisy = table.set_column(table.column_names.index("y"), "y", pa.array(wrong))
    # All epochs: shuffled labels have no best one.
    settings = dataclasses.replace(SETTINGS, epochs=30, validation_size=0.0, learning_rate=0.01)
    teacher = train(mixed_table(400, seed=3), settings).bundle
    alone, taught = train(noisy, settings).bundle, train(noisy, settings, teacher=teacher).bundle
    fresh = mixed_table(400, seed=4)
    answers = [Scorer(bundle).score_table(fresh).decoded for bundle in (teacher, alone, taught)]
    agreement = [float(np.mean(answers[0] == other)) for other in answers[1:]]
    assert agreement[1] > agreement[0] + 0.1


def without(table: pa.Table, name: str) -> pa.Table:
    return table.drop_columns([name])


def one_class(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["y"], "yes"))


def one_yes(table: pa.Table) -> pa.Table:
    others = table.filter(pc.equal(table["y"], "no"))
    return pa.concat_tables([others, one_class(table).slice(0, 1)])


def test_wishes_that_the_teachers_contract_overrules_are_told(teachers: dict[TaskType, ModelBundle]) -> None:
    table, teacher = mixed_table(200), teachers["classification"]
    wishes = dataclasses.replace(SETTINGS, category_columns=("age", "city"), number_columns=("income",), epochs=1)
    told = [finding.message for finding in train(table, wishes, teacher=teacher).findings]
    assert "the teacher's contract says what the columns are: category_columns 'age' doesn't count" in told


@pytest.mark.parametrize(
    ("table", "changes", "sentence"),
    [
        (mixed_table(200, task="regression"), {"task": "regression"}, "the teacher does classification, the student"),
        (mixed_table(200), {"target_column": "plan"}, "the teacher predicts 'y', the student 'plan'"),
        (mixed_table(200), {"exclude_columns": ("city",)}, "the teacher reads column 'city'"),
        (without(mixed_table(200), "city"), {}, "city"),
        (mixed_table(200, task="regression"), {}, "the teacher doesn't know the class"),
        (one_class(mixed_table(200)), {}, "target 'y' is 'yes' in all"),
        (mixed_table(200), {"exclude_columns": ("cty",)}, "exclude_columns names 'cty', .* did you mean 'city'"),
        (mixed_table(200), {"exclude_columns": ("y",)}, "the target 'y' can't be excluded"),
        (one_yes(mixed_table(200)), {}, "a class needs at least 2 rows, these have one: 'yes'"),
        (mixed_table(200).slice(0, 0), {}, "0 rows can't be split with test_size=0.2: both parts need a row"),
        (mixed_table(200), {"training_mode": "tree_teacher_distillation"}, "has a teacher of its own"),
    ],
)
def test_a_teacher_that_does_not_fit_is_one_sentence(
    table: pa.Table, changes: dict[str, Any], sentence: str, teachers: dict[TaskType, ModelBundle]
) -> None:
    with pytest.raises((UsageError, DataRefused), match=sentence) as refusal:
        train(table, dataclasses.replace(SETTINGS, **changes), teacher=teachers["classification"])
    assert "\n" not in str(refusal.value)


def test_a_teacher_without_a_contract_is_refused() -> None:
    with pytest.raises(UsageError, match="no input contract"):
        train(mixed_table(200), SETTINGS, teacher=tiny_bundle())


class Stopped(Exception):
    pass


def test_another_teacher_in_the_middle_begins_anew(
    teachers: dict[TaskType, ModelBundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai.ml.frameworks.pytorch.trainer.checkpoint.EpochCheckpoint.due", lambda self: True)
    path, table, first = tmp_path / "state.epochs", mixed_table(200, seed=5), teachers["classification"]
    second = train(mixed_table(200, seed=6), SETTINGS).bundle

    def stop(report: EpochReport) -> None:
        if report.epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(table, SETTINGS, progress=stop, checkpoint=path, teacher=first)
    seen: list[int] = []
    other = train(table, SETTINGS, progress=lambda report: seen.append(report.epoch), checkpoint=path, teacher=second)
    assert seen[0] == 1
    assert any("of another training" in finding.message for finding in other.findings)


def run_config(folder: Path, name: str, seed: int, teacher: str | None = None) -> RetrainConfig:
    source = folder / "table.csv"
    if not source.exists():
        write_table(mixed_table(200), source)
    training = TrainingSettings(epochs=2, random_seed=seed, teacher=teacher)
    data = DataSettings(source=str(source), target="y")
    return RetrainConfig(name=name, store=str(folder / "store"), data=data, training=training)


def promoted(config: RetrainConfig) -> str:
    """A champion, as if the gate had passed it."""
    candidate = steps.train_candidate(config, steps.read_data(config))
    digest = candidate.bundle.digest
    Store(config.store).promote(config.name, Path(candidate.bundle.path), passed_verdict(digest), decision={})
    return digest


def test_what_lies_in_a_teachers_place_teaches_only_if_it_is_the_teacher(tmp_path: Path) -> None:
    digest = promoted(run_config(tmp_path, "big", seed=1))
    config = pinned(run_config(tmp_path, "small", seed=3, teacher="big@champion"))
    data = steps.read_data(config)
    manifest = tmp_path / "store" / "big" / "versions" / digest / "manifest.json"
    content = manifest.read_bytes()
    manifest.chmod(0o600)
    manifest.write_bytes(content + b" ")
    with pytest.raises(BundleRefused, match=f"version {digest[:12]} in .* was exchanged: it holds"):
        steps.train_candidate(config, data)
    manifest.write_bytes(content)
    metrics = manifest.with_name("metrics.json")
    metrics.chmod(0o600)
    metrics.write_bytes(b"{}")
    with pytest.raises(BundleRefused, match=r"can't teach: metrics.json has"):
        steps.train_candidate(config, data)


@pytest.mark.slow
def test_a_promotion_in_the_middle_changes_nothing_and_the_student_passes_the_gate(tmp_path: Path) -> None:
    first = promoted(run_config(tmp_path, "big", seed=1))
    config = run_config(tmp_path, "small", seed=3, teacher="big@champion")
    fixed = pinned(config)
    assert fixed.training.teacher == f"big@{first}"
    assert pinned(fixed) == fixed
    data = steps.read_data(config)
    key = candidate_key(fixed, data)
    assert candidate_key(config, data) == key

    second = promoted(run_config(tmp_path, "big", seed=2))
    assert second != first
    assert candidate_key(fixed, data) == key
    assert candidate_key(config, data) != key
    student = steps.train_candidate(fixed, data)
    lineage = read_manifest(Path(student.bundle.path)).lineage
    assert lineage["teacher"] == first
    assert lineage["training"]["teacher"] == f"big@{first}"
    bundle = load_bundle(Path(student.bundle.path) / "model_bundle.pt")
    assert model_config_of(bundle.model)["hidden_dim"] == 64
    verdict = steps.prove_candidate(fixed, student)
    assert verdict.outcome == "PASSED", verdict.reason


@pytest.mark.parametrize(
    ("teacher", "sentence", "kind"),
    [
        ("nobody@champion", "nothing was promoted under that name", BundleNotFound),
        ("nobody@xyz", "expected champion, previous, or at least", UsageError),
    ],
)
def test_a_teacher_that_is_not_there_is_one_sentence(
    tmp_path: Path, teacher: str, sentence: str, kind: type[BundlegateError]
) -> None:
    Store(tmp_path / "store")
    with pytest.raises(kind, match=sentence):
        pinned(run_config(tmp_path, "small", seed=0, teacher=teacher))


@pytest.mark.parametrize("kind", ["random", "hash"])
def test_a_table_without_a_column_of_the_teacher_is_one_sentence_however_it_is_split(
    kind: SplitKind, teachers: dict[TaskType, ModelBundle]
) -> None:
    table, settings = mixed_table(100), dataclasses.replace(SETTINGS, split=SplitConfig(kind))
    with pytest.raises(DataRefused, match="columns are missing: 'age'; came: 'income'"):
        train(table.drop_columns(["age"]), settings, teacher=teachers["classification"])
    spelled = table.rename_columns([f" {name}" if name == "age" else name for name in table.column_names])
    mine, same = (prepare_dataset(each, settings, teachers["classification"])[0] for each in (spelled, table))
    assert mine.holdout_rows.tolist() == same.holdout_rows.tolist()
