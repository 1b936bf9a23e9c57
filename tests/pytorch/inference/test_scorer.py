"""The one scoring path: its contract, and that it leaves the bundle alone."""

from __future__ import annotations

import copy

import numpy as np
import pyarrow as pa
import pytest
import torch
from builders import tiny_bundle, tiny_rows
from sklearn.preprocessing import LabelEncoder, StandardScaler

from ai.ml.core.errors import BundleRefused, DataRefused, UsageError
from ai.ml.core.types import TaskType
from ai.ml.frameworks.pytorch.features.cells import dictionary_codes
from ai.ml.frameworks.pytorch.inference.precision import full_precision
from ai.ml.frameworks.pytorch.inference.scorer import (
    Precision,
    Scorer,
    ScoringSettings,
    predict_rows,
    rounding_margin,
    stage_outputs,
)
from ai.ml.frameworks.pytorch.models.networks import build_model


def test_no_rows_give_an_empty_list() -> None:
    assert predict_rows(tiny_bundle(), []) == []


def test_classification_gives_labels_and_rows_stay_as_they_are() -> None:
    bundle, rows = tiny_bundle(), tiny_rows(5)
    before = copy.deepcopy(rows)
    labels = predict_rows(bundle, rows)
    assert rows == before
    assert len(labels) == 5
    assert all(type(label) is str and label in (bundle.class_names or []) for label in labels)


def test_without_a_label_encoder_it_gives_indices() -> None:
    bundle = tiny_bundle()
    labels = predict_rows(bundle, tiny_rows(20))
    bundle.label_encoder = None
    indices = predict_rows(bundle, tiny_rows(20))
    assert [(bundle.class_names or [])[index] for index in indices] == labels


def test_regression_gives_values_in_the_targets_units() -> None:
    bundle = tiny_bundle("regression")
    values = predict_rows(bundle, tiny_rows(6))
    scaler = bundle.target_scaler
    assert scaler is not None
    bundle.target_scaler = None
    raw = predict_rows(bundle, tiny_rows(6))
    assert all(type(value) is float for value in values)
    np.testing.assert_array_equal(values, scaler.inverse_transform(np.array(raw)[:, None])[:, 0])


def test_it_agrees_with_scikit_learn_and_torch_used_by_hand() -> None:
    bundle, rows = tiny_bundle(), tiny_rows(50, seed=9)
    encoded = np.asarray(bundle.vectorizer.transform(rows))
    x = torch.from_numpy(bundle.scaler.transform(encoded))
    with torch.inference_mode():
        expected = copy.deepcopy(bundle.model).double().eval()(x).float().numpy()
    np.testing.assert_array_equal(Scorer(bundle).score_rows(rows).raw, expected)


def test_missing_cells_become_the_medians_and_unseen_categories_nothing() -> None:
    bundle = tiny_bundle()
    assert bundle.feature_medians is not None
    age = bundle.vectorizer.vocabulary_["age"]
    row = tiny_rows(1)[0]
    filled = {**row, "age": float(bundle.feature_medians[age])}
    scorer = Scorer(bundle)
    for missing in (None, float("nan"), "", " NA ", "n/a", float("inf"), "-inf"):
        assert scorer.score_rows([{**row, "age": missing}]).raw.tobytes() == scorer.score_rows([filled]).raw.tobytes()
    without = {key: value for key, value in row.items() if key != "city"}
    assert scorer.score_rows([{**row, "city": "Atlantis"}]).raw.tobytes() == scorer.score_rows([without]).raw.tobytes()


@pytest.mark.parametrize("medians", [None, np.zeros(3)])
def test_without_fitting_medians_missing_is_zero(medians: np.ndarray | None) -> None:
    bundle = tiny_bundle()
    bundle.feature_medians = medians
    row = tiny_rows(1)[0]
    assert predict_rows(bundle, [{**row, "age": None}]) == predict_rows(bundle, [{**row, "age": 0}])


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_sparse_vectorizer_gives_the_bits_of_a_dense_one(task: TaskType) -> None:
    dense, sparse = tiny_bundle(task), tiny_bundle(task, sparse=True)
    rows = tiny_rows(30, seed=2)
    assert Scorer(dense).score_rows(rows).raw.tobytes() == Scorer(sparse).score_rows(rows).raw.tobytes()


def test_scoring_changes_nothing_of_the_bundle_or_the_process() -> None:
    bundle = tiny_bundle()
    bundle.model.train()
    state = {name: tensor.clone() for name, tensor in bundle.model.state_dict().items()}
    random_state = torch.get_rng_state()
    in_train_mode = Scorer(bundle).score_rows(tiny_rows(40)).raw
    assert bundle.model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in bundle.model.state_dict().items())
    assert next(bundle.model.parameters()).dtype == torch.float32
    bundle.model.eval()
    assert Scorer(bundle).score_rows(tiny_rows(40)).raw.tobytes() == in_train_mode.tobytes()


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_the_callers_speed_ups_change_no_bit(precision: Precision) -> None:
    bundle, rows = tiny_bundle(hidden_dim=128), tiny_rows(40)
    expected = Scorer(bundle, ScoringSettings(precision)).score_rows(rows).raw
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu"):
            scorer = Scorer(bundle, ScoringSettings(precision))
            assert scorer.score_rows(rows).raw.tobytes() == expected.tobytes()
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_precision_comes_back_only_when_the_last_one_leaves() -> None:
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        outer, inner = (full_precision(torch.device("cpu")) for _ in range(2))
        outer.__enter__()
        inner.__enter__()
        outer.__exit__(None, None, None)
        assert products.fp32_precision == "ieee"
        inner.__exit__(None, None, None)
        assert products.fp32_precision == "bf16"
    finally:
        products.fp32_precision = before


@pytest.mark.parametrize("precision", ["exact", "fast"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_enormous_numbers_have_one_answer_without_a_warning(precision: Precision, task: TaskType) -> None:
    scorer = Scorer(tiny_bundle(task), ScoringSettings(precision))
    rows = [{**tiny_rows(1)[0], "age": age} for age in (1e39, -1e39, 1e200, 1.7e308, -1.7e308)]
    by_rows, by_table = scorer.score_rows(rows), scorer.score_table(pa.Table.from_pylist(rows))
    assert by_rows.raw.tobytes() == by_table.raw.tobytes()
    assert by_rows.decoded.tobytes() == by_table.decoded.tobytes()
    assert scorer.probabilities(by_rows.raw).shape == by_rows.raw.shape


def test_an_infinite_output_decodes_to_an_infinite_value() -> None:
    scorer = Scorer(tiny_bundle("regression"))
    values = scorer.decode(np.array([[np.inf], [-np.inf], [np.nan], [3.4e38]], dtype=np.float32))
    assert values[:2].tolist() == [np.inf, -np.inf]
    assert np.isnan(values[2])
    assert np.isfinite(values[3])


def test_a_row_whose_outputs_are_nan_still_has_one_answer() -> None:
    scorer = Scorer(tiny_bundle())
    raw = np.full((2, 3), np.nan, dtype=np.float32)
    assert scorer.decode(raw).tolist() == ["class 0", "class 0"]


def test_probabilities_sum_to_one_even_for_enormous_logits() -> None:
    scorer = Scorer(tiny_bundle())
    shares = scorer.probabilities(np.array([[1e30, -1e30, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert shares.dtype == np.float64


def test_a_vectorizer_of_another_width_is_refused() -> None:
    bundle = tiny_bundle()
    bundle.input_dim += 1
    with pytest.raises(BundleRefused, match=r"vectorizer: gives \d+ features, the model reads \d+"):
        Scorer(bundle)


def test_a_model_of_another_width_is_refused() -> None:
    bundle = tiny_bundle()
    bundle.label_encoder, bundle.output_dim = None, 2
    with pytest.raises(BundleRefused, match=r"model: gives shape \(1, 3\) for one row, expected \(1, 2\)"):
        Scorer(bundle)


def test_a_model_that_reads_another_width_is_refused() -> None:
    bundle = tiny_bundle()
    bundle.model = build_model(3, 3, "mlp_dense", 8, 1, 0.0)
    with pytest.raises(BundleRefused, match=r"model: can't read a row of \d+ features"):
        Scorer(bundle)


def test_a_scaler_and_a_label_encoder_of_another_width_are_refused() -> None:
    bundle = tiny_bundle()
    bundle.scaler = StandardScaler().fit(np.eye(3))
    with pytest.raises(BundleRefused, match=r"scaler: mean_ has shape \(3,\), the vectorizer gives \d+ features"):
        Scorer(bundle)
    bundle = tiny_bundle()
    bundle.label_encoder = LabelEncoder().fit(["a", "b"])
    with pytest.raises(BundleRefused, match="label encoder: knows 2 classes, the model gives 3"):
        Scorer(bundle)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused() -> None:
    assert Scorer(tiny_bundle(), device="auto").device.type == "cpu"
    with pytest.raises(UsageError, match="no CUDA device"):
        Scorer(tiny_bundle(), device="cuda")


@pytest.mark.parametrize(
    "record", [{}, {"precision": "double", "tile_rows": 8}, {"precision": "exact", "tile_rows": 0}]
)
def test_scoring_settings_of_a_damaged_manifest_are_refused(record: dict[str, object]) -> None:
    with pytest.raises(BundleRefused, match="scoring settings"):
        ScoringSettings.from_manifest(record)


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="exact or fast"):
        ScoringSettings("half")  # type: ignore[arg-type]


def test_stages_are_float64_up_to_the_one_rounding() -> None:
    """scikit-learn 1.8 scales float32 input differently from 1.7; float64 input is the same in all versions."""
    table = pa.Table.from_pylist(tiny_rows(20))
    stages = stage_outputs(Scorer(tiny_bundle()), table)
    assert {name: values.dtype for name, values in stages.items()} == {
        "vectorizer": np.float64,
        "scaler": np.float64,
        "network": np.float32,
    }


def test_the_rounding_margin_says_how_near_a_midpoint_lies() -> None:
    table = pa.Table.from_pylist(tiny_rows(200))
    assert 0 <= rounding_margin(Scorer(tiny_bundle()), table) <= 0.5
    assert rounding_margin(Scorer(tiny_bundle()), table.slice(0, 0)) == float("inf")
    fast = Scorer(tiny_bundle("regression", hidden_dim=128), ScoringSettings("fast"))
    unrounded = fast.forward_unrounded(fast.scaled(fast.matrix(table)))
    # On a CPU whose float32 kernels depend on a row's place, `fast` computes in float64 and rounds too.
    assert (rounding_margin(fast, table) == float("inf")) == (unrounded.dtype == np.float32)


@pytest.mark.gpu
def test_cuda_gives_the_bits_of_the_cpu_in_exact() -> None:
    bundle, rows = tiny_bundle(hidden_dim=64), tiny_rows(3000)
    on_cpu, on_cuda = Scorer(bundle, device="cpu"), Scorer(bundle, device="cuda")
    assert on_cpu.score_rows(rows).raw.tobytes() == on_cuda.score_rows(rows).raw.tobytes()


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("us", "Mars/Base")])
def test_times_that_are_none_are_refused_without_a_contract_too(kind: pa.DataType) -> None:
    with pytest.raises(DataRefused, match=r"a column of timestamp\[us.* holds what can't be read"):
        dictionary_codes(pa.array([-(2**62)], kind))
