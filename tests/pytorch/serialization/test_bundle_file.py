"""The file format beyond its requirements: files of other writers, odd files, and what its records are called."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import tiny_bundle, tiny_rows
from format_samples import original_payload, raw, write_original
from sklearn.preprocessing import LabelEncoder

from ai.ml.core.errors import BundleNotFound, BundleRefused
from ai.ml.core.types import ModelBundle, TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import predict_rows
from ai.ml.frameworks.pytorch.models.networks import build_model
from ai.ml.frameworks.pytorch.serialization import load_bundle, save_bundle


@pytest.mark.parametrize(
    "shape",
    [
        {"training_mode": "mlp_dense", "hidden_dim": 24, "num_hidden_layers": 3, "dropout": 0.1},
        {"training_mode": "linear_glm_baseline"},
        {"training_mode": "tabresnet", "num_hidden_layers": 1},
        {"training_mode": "tabresnet", "num_hidden_layers": 5, "dropout": 0.0},
    ],
)
def test_where_the_defaults_dont_fit_the_layout_is_read_from_the_tensors(tmp_path: Path, shape: dict[str, Any]) -> None:
    bundle = tiny_bundle(**shape)
    loaded = load_bundle(write_original(tmp_path / "old.pt", bundle, without=("model_config", "feature_medians")))
    bundle.feature_medians = None
    assert raw(loaded, tiny_rows(9)) == raw(bundle, tiny_rows(9))


def test_where_no_layout_fits_the_sentence_shows_both_shapes(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    payload = original_payload(bundle)
    del payload["model_config"]
    payload["state_dict"]["net.0.weight"] = torch.zeros(8, 3)
    torch.save(payload, tmp_path / "odd.pt")
    with pytest.raises(BundleRefused, match=r"'net.0.weight' has shape \(8, 3\), the architecture has \(128, 9\)"):
        load_bundle(tmp_path / "odd.pt")


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", "b", "c"]),
        np.array(["a", "b", "c"], dtype=object),
        np.array([1, 5, 9]),
        np.array([0.5, 1.5, 2.0]),
    ],
    ids=["U1", "object", "int64", "float64"],
)
def test_files_of_the_original_with_any_kind_of_labels(tmp_path: Path, labels: np.ndarray) -> None:
    bundle = tiny_bundle()
    bundle.label_encoder = LabelEncoder().fit(labels)
    bundle.class_names = [str(label) for label in bundle.label_encoder.classes_]
    loaded = load_bundle(write_original(tmp_path / "o.pt", bundle))
    assert predict_rows(loaded, tiny_rows(20)) == predict_rows(bundle, tiny_rows(20))
    again = load_bundle(save_bundle(loaded, tmp_path))
    assert predict_rows(again, tiny_rows(20)) == predict_rows(bundle, tiny_rows(20))


def test_saving_leaves_the_callers_model_as_it_was(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    bundle.model.train()
    before = {name: tensor.clone() for name, tensor in bundle.model.state_dict().items()}
    gradients = [parameter.requires_grad for parameter in bundle.model.parameters()]
    random_state = torch.get_rng_state()
    save_bundle(bundle, tmp_path)
    load_bundle(tmp_path / "model_bundle.pt")
    assert bundle.model.training
    assert [parameter.requires_grad for parameter in bundle.model.parameters()] == gradients
    assert all(torch.equal(tensor, before[name]) for name, tensor in bundle.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="no bundle at") as refusal:
        load_bundle(tmp_path / "none.pt")
    assert isinstance(refusal.value, FileNotFoundError)


def test_an_unknown_training_mode_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mlp_dense"):
        build_model(3, 2, "transformer", 8, 1, 0.0)
    payload = original_payload(tiny_bundle())
    payload["model_config"]["training_mode"] = "transformer"
    torch.save(payload, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=r"'transformer' is unknown; known are .*mlp_dense"):
        load_bundle(tmp_path / "odd.pt")


def test_the_records_have_the_formats_names_and_defaults() -> None:
    assert [field.name for field in dataclasses.fields(ModelBundle)] == [
        "model",
        "task",
        "vectorizer",
        "scaler",
        "feature_medians",
        "label_encoder",
        "target_scaler",
        "target_column",
        "input_dim",
        "output_dim",
        "class_names",
        "model_config",
    ]
    config = TrainingConfig("y")
    assert dataclasses.astuple(config)[:11] == ("y", "mlp_dense", "auto", 0.2, 42, 500, 64, 1e-3, 128, 2, 0.1)


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("mlp_dense", ["net.0.weight", "net.4.weight", "net.8.weight"]),
        ("linear_glm_baseline", ["net.weight", "net.bias"]),
        (
            "tabresnet",
            ["input.weight", "input_bn.weight", "blocks.1.fc2.bias", "blocks.0.bn1.running_var", "head.bias"],
        ),
    ],
)
def test_state_dict_names_are_the_formats(mode: str, names: list[str]) -> None:
    assert set(names) <= set(build_model(5, 3, mode, 8, 2, 0.1).state_dict())
