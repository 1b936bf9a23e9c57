"""Training: six modes, their losses, refusals, and the same bits every time."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from builders import mixed_table
from conftest import SUPPORT
from sklearn.model_selection import train_test_split
from soak import Effort, Total

from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.types import TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import Scorer, predict_rows
from ai.ml.frameworks.pytorch.models.networks import (
    MLP,
    TRAINING_MODES,
    LinearBaseline,
    TabResNet,
    compute_class_weights,
    model_training_mode,
)
from ai.ml.frameworks.pytorch.trainer.loop import EpochReport
from ai.ml.frameworks.pytorch.trainer.losses import (
    LABEL_SMOOTHING,
    early_stopping_loss,
    fit_teacher,
    hard_loss,
    soft_loss,
)
from ai.ml.frameworks.pytorch.trainer.mlp_gradients import DenseGradients
from ai.ml.frameworks.pytorch.trainer.random_split import split_validation
from ai.ml.frameworks.pytorch.trainer.training import TrainingResult, choose_device, train

pytestmark = pytest.mark.usefixtures("warm_processes")

CLASSIFIERS_ONLY = ("calibrated_classifier", "imbalance_aware")


def config(**changes: Any) -> TrainingConfig:
    return dataclasses.replace(TrainingConfig("y", epochs=3, hidden_dim=16, num_hidden_layers=1), **changes)


def weights(result: TrainingResult) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in result.bundle.model.state_dict().values())


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("mode", TRAINING_MODES)
def test_every_mode_trains_a_bundle_that_scores(mode: str, task: TaskType) -> None:
    table = mixed_table(160, seed=1, task=task)
    if task == "regression" and mode in CLASSIFIERS_ONLY:
        with pytest.raises(UsageError, match=f"{mode}.*regression") as refusal:
            train(table, config(training_mode=mode))
        assert isinstance(refusal.value, ValueError)
        return
    result = train(table, config(training_mode=mode))
    bundle = result.bundle
    assert not bundle.model.training
    assert bundle.task == task
    assert bundle.contract is not None
    assert (bundle.label_encoder is None) == (bundle.target_scaler is not None) == (task == "regression")
    assert bundle.output_dim == (1 if task == "regression" else 2)
    assert bundle.class_names == (None if task == "regression" else ["no", "yes"])
    assert result.metrics.test_metric_name == ("rmse" if task == "regression" else "accuracy")
    assert all(np.isfinite([result.metrics.train_loss, result.metrics.test_loss, result.metrics.test_metric_value]))
    assert len(result.history) == 3
    assert [report.epoch for report in result.history] == [1, 2, 3]
    assert len(predict_rows(bundle, table.slice(0, 3).to_pylist())) == 3


@pytest.mark.parametrize(
    ("mode", "kind"), [("tabresnet", TabResNet), ("linear_glm_baseline", LinearBaseline), ("imbalance_aware", None)]
)
def test_a_mode_builds_its_architecture(mode: str, kind: type | None) -> None:
    model = train(mixed_table(120), config(training_mode=mode)).bundle.model
    assert kind is None or isinstance(model, kind)
    assert model_training_mode(model) == (mode if kind else "mlp_dense")


def test_it_learns() -> None:
    table = mixed_table(800, seed=2)
    result = train(table, TrainingConfig("y", epochs=60, batch_size=32))
    assert result.metrics.test_metric_value > 0.85
    regression = train(mixed_table(800, seed=2, task="regression"), TrainingConfig("y", epochs=150, batch_size=32))
    target = mixed_table(800, seed=2, task="regression")["y"].to_numpy()
    assert regression.metrics.test_metric_value < 0.6 * target.std()


def test_the_split_is_scikit_learns_and_nothing_is_fitted_on_the_holdout() -> None:
    table = mixed_table(200, seed=3)
    result = train(table, config(random_seed=7))
    train_rows, holdout = train_test_split(
        np.arange(200), test_size=0.2, random_state=7, stratify=table["y"].to_pylist()
    )
    assert result.train_rows.tolist() == list(train_rows)
    assert result.holdout_rows.tolist() == list(holdout)
    changed = table.to_pylist()
    for row in result.holdout_rows:
        changed[row]["age"] = 1e6
        changed[row]["income"] = -1e6
    other = train(pa.Table.from_pylist(changed, table.schema), config(random_seed=7))
    assert weights(other) == weights(result)
    assert other.bundle.scaler.mean_.tobytes() == result.bundle.scaler.mean_.tobytes()


def test_metrics_are_the_scorers() -> None:
    table = mixed_table(200, seed=4)
    result = train(table, config())
    holdout = table.take(pa.array(result.holdout_rows))
    decoded = Scorer(result.bundle).score_table(holdout).decoded
    assert result.metrics.test_metric_value == np.mean(decoded == np.array(holdout["y"].to_pylist()))


@pytest.mark.parametrize("mode", ["mlp_dense", "tree_teacher_distillation", "tabresnet", "mlp_ple", "tabm"])
def test_two_runs_give_the_same_bits_and_leave_the_process_as_it_was(mode: str) -> None:
    table = mixed_table(150, seed=5)
    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = train(table, config(training_mode=mode))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    torch.manual_seed(2)
    np.random.seed(3)
    assert weights(train(table, config(training_mode=mode))) == weights(first)
    assert weights(train(table, config(training_mode=mode, random_seed=1))) != weights(first)


def test_early_stopping_restores_the_best_weights() -> None:
    table = mixed_table(300, seed=6)
    result = train(table, TrainingConfig("y", epochs=400, patience=5, learning_rate=0.01))
    assert len(result.history) < 400
    best = max(report.epoch for report in result.history if report.best)
    assert result.history[-1].epoch == best + 5
    only = train(table, TrainingConfig("y", epochs=best, patience=5, learning_rate=0.01))
    assert weights(only) == weights(result)


def test_too_few_rows_for_validation_are_said() -> None:
    result = train(mixed_table(24, seed=1), config())
    assert all(report.validation_loss is None for report in result.history)
    assert any("without early stopping" in finding.message for finding in result.findings)


def test_dates_are_expanded_and_the_date_itself_leaves() -> None:
    names = train(mixed_table(120), config()).bundle.vectorizer.feature_names_
    assert "signup_year" in names
    assert not any(name == "signup" or name.startswith("signup=") for name in names)


def test_excluded_columns_are_not_seen() -> None:
    names = train(mixed_table(120), config(exclude_columns=("city", "signup"))).bundle.vectorizer.feature_names_
    assert not any(name.startswith(("city", "signup")) for name in names)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"training_mode": "mlp"}, "known are .*mlp_dense"),
        ({"task": "ranking"}, "task must be"),
        ({"test_size": 1.0}, "test_size must be above 0 and below 1, got 1.0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, or None, got 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"num_threads": 0}, "num_threads must be from 1 to 1,024, or None, got 0"),
        ({"num_threads": 100_000}, "num_threads must be from 1 to 1,024, or None, got 100000"),
        ({"budget_seconds": float("inf")}, "budget_seconds must be above 0, or None, got inf"),
        ({"exclude_columns": ("y",)}, "y"),
        ({"device": "cuda:7"}, "no CUDA device"),
    ],
)
def test_settings_that_are_off_are_refused_before_anything_starts(changes: dict[str, Any], sentence: str) -> None:
    if "cuda" in str(changes) and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UsageError, match=sentence):
        train(mixed_table(60), config(**changes))


def test_a_single_training_row_per_batch_is_no_update() -> None:
    table = pa.table({"x": [1.0, 2.0, 3.0, 4.0], "y": ["a", "b", "a", "b"]})
    with pytest.raises(DataRefused, match=r"batch of at least 2 rows|leave 1 to train on|can't be split"):
        train(table, config(test_size=0.75))


def test_a_loss_that_diverges_is_said() -> None:
    with pytest.raises(DataRefused, match=r"training loss is .*lower the learning rate"):
        train(mixed_table(200, task="regression"), config(training_mode="linear_glm_baseline", learning_rate=1e30))


def test_class_weights_make_every_class_count_the_same() -> None:
    y = torch.tensor([0, 0, 0, 1])
    assert compute_class_weights(y, 3, "cpu").tolist() == pytest.approx([4 / 9, 4 / 3, 4 / 3])


def test_losses_are_the_ones_of_their_modes() -> None:
    logits, y = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 0, 0, 1])
    log_p = torch.log_softmax(logits, 1)
    plain = -log_p[torch.arange(6), y]
    assert float(hard_loss("mlp_dense", "classification", y, 2)(logits, y)) == pytest.approx(float(plain.mean()))
    w = compute_class_weights(y, 2, "cpu")[y]
    weighted = float((w * plain).sum() / w.sum())
    assert float(hard_loss("imbalance_aware", "classification", y, 2)(logits, y)) == pytest.approx(weighted)
    smooth = (1 - LABEL_SMOOTHING) * plain - LABEL_SMOOTHING * log_p.mean(1)
    calibrated = hard_loss("calibrated_classifier", "classification", y, 2)(logits, y)
    assert float(calibrated) == pytest.approx(float(smooth.mean()))
    teacher = torch.softmax(torch.randn(6, 2, generator=torch.Generator().manual_seed(1)), 1)
    soft = torch.softmax(teacher.log() / 2, 1)
    kl = (soft * (soft.log() - torch.log_softmax(logits / 2, 1))).sum(1).mean() * 4
    assert float(soft_loss("classification")(logits, teacher)) == pytest.approx(float(kl), rel=1e-5)


def test_the_teacher_answers_for_classes_that_its_rows_lack() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    answers = fit_teacher("classification", x, np.array([0, 2] * 20), 3, seed=0)
    assert answers.shape == (40, 3)
    assert answers.dtype == np.float32
    assert (answers[:, 1] == 0).all()


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_teacher_in_a_hurry_grows_the_first_trees_of_the_same_forest(task: TaskType) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
    whole = fit_teacher(task, x, y, 2, seed=5)
    assert (fit_teacher(task, x, y, 2, seed=5, seconds=1e9) == whole).all()
    hurried = fit_teacher(task, x, y, 2, seed=5, seconds=0.0)
    assert hurried.shape == whole.shape
    # One tree: each answer is that of one leaf, whose rows of 60 are few.
    assert len(np.unique(hurried)) < len(np.unique(whole))


@pytest.mark.parametrize("setting", [{"class_weights": True}, {"label_smoothing": 0.1}])
def test_a_setting_of_classes_is_refused_for_values(setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is for classification; the target is a regression"):
        train(mixed_table(100, task="regression"), config(**setting))


def test_the_only_row_of_a_class_is_learned_from_and_the_others_are_judged_by() -> None:
    y = np.array([0] * 500 + [1] * 498 + [2] + [3])
    fitting, validation = split_validation("classification", y, 0.1, 0) or ((), ())
    assert sorted([*fitting, *validation]) == list(range(1000))
    assert {998, 999} <= set(fitting)
    assert len(validation) == 100
    assert np.bincount(y[validation]).tolist() == [50, 50]
    crowd = np.repeat(np.arange(150), 2)
    assert split_validation("classification", crowd, 0.1, 0) is not None, "more classes than validation rows"


@pytest.mark.parametrize(("task", "least"), [("classification", 20), ("regression", 50)])
def test_small_tables_are_judged_by_ten_rows_and_tiny_ones_by_none(task: TaskType, least: int) -> None:
    for rows, held in ((least - 1, None), (least, 10), (60, 10), (91, 10), (120, 12)):
        parts = split_validation(task, np.arange(rows) % 2, 0.1, 0)
        assert (parts and len(parts[1])) == held
        assert parts is None or sorted([*parts[0], *parts[1]]) == list(range(rows))
    assert split_validation("classification", np.arange(40), 0.5, 0) is None, "each class has one row, to learn from"
    assert split_validation(task, np.arange(40) % 2, 0.0, 0) is None, "none is wanted"


def test_distillation_does_one_forward_pass_per_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the layers that are written out or, elsewhere, through torch's."""
    calls: list[int] = []
    update, forward = DenseGradients.update, MLP.forward
    monkeypatch.setattr(
        DenseGradients, "update", lambda self, x, answers: (calls.append(len(x)), update(self, x, answers))[1]
    )
    monkeypatch.setattr(
        MLP, "forward", lambda self, x: (calls.append(len(x)) if self.training else None, forward(self, x))[1]
    )
    train(mixed_table(200), config(training_mode="tree_teacher_distillation", epochs=2, validation_size=0.0))
    assert calls == [64, 64, 32] * 2


class Stopped(Exception):
    pass


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("mode", ["mlp_dense", "tree_teacher_distillation", "mlp_ple", "tabm"])
def test_a_stopped_training_goes_on_to_the_same_bits(
    mode: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai.ml.frameworks.pytorch.trainer.checkpoint.EpochCheckpoint.due", lambda self: True)
    settings = config(training_mode=mode, epochs=8, dropout=0.2, device=device)
    table = mixed_table(200, seed=8)
    whole = train(table, settings)
    path = tmp_path / "state.epochs"

    def stop(report: EpochReport) -> None:
        if report.epoch == 5:
            raise Stopped

    with pytest.raises(Stopped):
        train(table, settings, progress=stop, checkpoint=path)
    seen: list[int] = []
    resumed = train(table, settings, progress=lambda report: seen.append(report.epoch), checkpoint=path)
    assert seen[0] == 5, "the checkpoint was not used"
    assert weights(resumed) == weights(whole)
    assert resumed.metrics == whole.metrics

    other = train(table, dataclasses.replace(settings, learning_rate=0.01), checkpoint=path)
    assert any("of another training" in finding.message for finding in other.findings)
    path.write_bytes(path.read_bytes()[:-1])
    damaged = train(table, settings, checkpoint=path)
    assert any("is damaged" in finding.message for finding in damaged.findings)
    assert weights(damaged) == weights(whole)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["mlp_dense", "mlp_ple", "tabm"])
def test_killed_at_random_moments_it_ends_with_the_same_bits(
    mode: str, tmp_path: Path, effort: Effort, total: Total
) -> None:
    kills = effort(ci=6, soak=60)
    script = SUPPORT / "training_kills.py"
    run = subprocess.run([sys.executable, str(script), mode, str(kills), str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["kills"] == kills
    assert told["resumed"] >= kills // 2
    total("kills of a training", kills)
    assert told["ended"] == [told["whole"]] * len(told["ended"]) != []


DIGESTS = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from sealed_bundles import sealed
from ai.ml.core.bundle_dir import bundle_digest
for mode in ("mlp_dense", "mlp_ple", "tabm"):
    print(bundle_digest(sealed(Path(sys.argv[1]) / mode, training_mode=mode)))
"""


@pytest.mark.slow
def test_two_processes_seal_the_same_digests(tmp_path: Path) -> None:
    found: list[str] = []
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", DIGESTS.format(tests=str(SUPPORT)), str(tmp_path / seed)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert run.returncode == 0, run.stderr
        found.append(run.stdout)
    assert found[0] == found[1]
    assert len(set(found[0].split())) == 3


def test_auto_takes_cuda_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_callers_shortcuts_for_products_change_no_bit() -> None:
    plain = weights(train(mixed_table(100), config(hidden_dim=64)))
    products = torch.backends.mkldnn.matmul
    before, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        with torch.autocast("cpu"):
            assert weights(train(mixed_table(100), config(hidden_dim=64))) == plain
        assert products.fp32_precision == "bf16"
    finally:
        products.fp32_precision = before


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("mode", ["mlp_dense", "mlp_ple", "tabm"])
def test_mixed_precision_learns_as_float32_does_with_other_bits(mode: str, device: str) -> None:
    table, settings = mixed_table(300, seed=5), config(training_mode=mode, epochs=15, device=device)
    plain = train(table, settings)
    mixed = train(table, dataclasses.replace(settings, mixed_precision=True))
    assert weights(mixed) != weights(plain)
    assert {tensor.dtype for tensor in mixed.bundle.model.parameters()} == {torch.float32}
    first, last = plain.history[0].train_loss, plain.history[-1].train_loss
    assert last < 0.95 * first
    assert mixed.history[-1].train_loss == pytest.approx(last, abs=0.1 * (first - last))
    assert weights(train(table, dataclasses.replace(settings, mixed_precision=True))) == weights(mixed)


@pytest.mark.parametrize("name", ["age", "y"])
def test_values_whose_squares_overflow_are_refused_by_name(name: str) -> None:
    table = mixed_table(100, task="regression")
    place = table.column_names.index(name)
    enormous = pa.array(np.linspace(-1e200, 1e200, 100))
    with pytest.raises(DataRefused, match=f"column '{name}' has values up to 1e.200"):
        train(table.set_column(place, name, enormous), config())


def test_no_single_validation_row_decides_when_training_stops() -> None:
    y = torch.zeros(100, 1)
    worse, better = torch.full((100, 1), 0.5), torch.full((100, 1), 0.3)
    worse[0], better[0] = 20.0, 21.0
    watched = early_stopping_loss("regression", torch.nn.functional.mse_loss)
    assert torch.nn.functional.mse_loss(worse, y) < torch.nn.functional.mse_loss(better, y)
    assert watched(better, y) < watched(worse, y)
    assert watched(better[1:], y[1:]).item() == pytest.approx(0.09)
    assert early_stopping_loss("classification", torch.nn.functional.cross_entropy) is torch.nn.functional.cross_entropy
