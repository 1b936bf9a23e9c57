"""Training: what each mode builds and learns, its metrics, and what it is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from builders import mixed_table
from bundles import config, weights
from sklearn.model_selection import train_test_split

from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.types import TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import Scorer, predict_rows
from ai.ml.frameworks.pytorch.models.networks import (
    TRAINING_MODES,
    LinearBaseline,
    TabResNet,
    model_training_mode,
)
from ai.ml.frameworks.pytorch.trainer.training import train

pytestmark = pytest.mark.usefixtures("warm_processes")

CLASSIFIERS_ONLY = ("calibrated_classifier", "imbalance_aware")


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


@pytest.mark.parametrize("kind", [pa.string_view(), pa.dictionary(pa.uint32(), pa.string())], ids=str)
def test_a_table_in_polars_types_trains_as_any_other(kind: pa.DataType) -> None:
    table = mixed_table(120)
    place, city = table.column_names.index("city"), table["city"]
    typed = city.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else city.cast(kind)
    config = TrainingConfig("y", training_mode="mlp_dense", epochs=1, hidden_dim=4)
    plain, other = (train(each, config) for each in (table, table.set_column(place, "city", typed)))
    assert other.bundle.contract == plain.bundle.contract
    assert other.metrics == plain.metrics


def test_excluded_columns_are_not_seen() -> None:
    names = train(mixed_table(120), config(exclude_columns=("city", "signup"))).bundle.vectorizer.feature_names_
    assert not any(name.startswith(("city", "signup")) for name in names)


def test_a_single_training_row_per_batch_is_no_update() -> None:
    table = pa.table({"x": [1.0, 2.0, 3.0, 4.0], "y": ["a", "b", "a", "b"]})
    with pytest.raises(DataRefused, match=r"batch of at least 2 rows|leave 1 to train on|can't be split"):
        train(table, config(test_size=0.75))


def test_a_loss_that_diverges_is_said() -> None:
    with pytest.raises(DataRefused, match=r"training loss is .*lower the learning rate"):
        train(mixed_table(200, task="regression"), config(training_mode="linear_glm_baseline", learning_rate=1e30))


@pytest.mark.parametrize("name", ["age", "y"])
def test_values_whose_squares_overflow_are_refused_by_name(name: str) -> None:
    table = mixed_table(100, task="regression")
    place = table.column_names.index(name)
    enormous = pa.array(np.linspace(-1e200, 1e200, 100))
    with pytest.raises(DataRefused, match=f"column '{name}' has values up to 1e.200"):
        train(table.set_column(place, name, enormous), config())
