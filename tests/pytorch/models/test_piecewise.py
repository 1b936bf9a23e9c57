"""`mlp_ple` and `tabm`: what a file may say of them, and what it may not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from builders import tiny_bundle, tiny_rows

from ai.ml.core.errors import BundleRefused
from ai.ml.core.types import TaskType
from ai.ml.frameworks.pytorch.inference.scorer import Scorer, ScoringSettings
from ai.ml.frameworks.pytorch.models.networks import PIECEWISE_MODES, model_training_mode, set_temperature
from ai.ml.frameworks.pytorch.models.piecewise import find_bins
from ai.ml.frameworks.pytorch.serialization import load_bundle, save_bundle

MODES = pytest.mark.parametrize("mode", PIECEWISE_MODES)


@MODES
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_a_loaded_model_answers_alike_whatever_the_batch(
    tmp_path: Path, mode: str, task: TaskType, precision: Any
) -> None:
    bundle = tiny_bundle(task, mode, hidden_dim=128)
    path = save_bundle(bundle, tmp_path)
    loaded = load_bundle(path)
    assert model_training_mode(loaded.model) == mode
    settings = ScoringSettings(precision=precision)
    table = pa.Table.from_pylist(tiny_rows(30, seed=5))
    before, after = Scorer(bundle, settings), Scorer(loaded, settings)
    whole = before.score_table(table).raw
    assert after.score_table(table).raw.tobytes() == whole.tobytes()
    alone = [after.score_table(table.slice(row, 1)).raw for row in range(30)]
    assert np.concatenate(alone).tobytes() == whole.tobytes()


def test_a_number_that_is_nearly_always_the_same_has_one_bin_and_no_warning() -> None:
    rare = np.where(np.arange(1_000) % 200 == 0, np.arange(1_000.0), 0.0)
    columns, edges = find_bins(np.stack([rare, np.linspace(0, 1, 1_000)], axis=1), 4)
    assert columns.tolist() == [0, 1]
    assert edges[0].tolist() == [0, 800, 800, 800, 800]


@MODES
def test_saving_a_loaded_model_gives_the_same_bytes(tmp_path: Path, mode: str) -> None:
    bundle = tiny_bundle(training_mode=mode)
    set_temperature(bundle.model, 1.25)
    first = save_bundle(bundle, tmp_path / "a")
    second = save_bundle(load_bundle(first), tmp_path / "b")
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest()


@MODES
def test_a_temperature_changes_probabilities_and_no_label(tmp_path: Path, mode: str) -> None:
    table = pa.Table.from_pylist(tiny_rows(30, seed=5))
    bundle = tiny_bundle(training_mode=mode)
    plain = Scorer(bundle)
    answers, before = plain.score_table(table), plain.probabilities(plain.score_table(table).raw)
    set_temperature(bundle.model, 1.25)
    warm = Scorer(load_bundle(save_bundle(bundle, tmp_path)))
    after = warm.probabilities(warm.score_table(table).raw)
    assert warm.score_table(table).raw.tobytes() == answers.raw.tobytes()
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()
    assert (after.max(axis=1) < before.max(axis=1)).all()


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The file with its payload changed, written as a stranger would."""
    payload = torch.load(path, weights_only=False)
    change(payload)
    torch.save(payload, path)
    return path


@MODES
@pytest.mark.parametrize("key", ["n_num", "n_bins", "d_emb"])
@pytest.mark.parametrize("value", [-1, 1 << 40, 1 << 15, 2.0, True, "3", None])
def test_a_size_that_the_tensors_do_not_have_is_refused(tmp_path: Path, mode: str, key: str, value: Any) -> None:
    path = save_bundle(tiny_bundle(training_mode=mode), tmp_path)
    rewritten(path, lambda payload: payload["model_config"].update({key: value}))
    with pytest.raises(BundleRefused):
        load_bundle(path)


@pytest.mark.parametrize("value", [0, -1, 1 << 40, 3, 2.0, True, None])
def test_an_ensemble_of_another_size_is_refused(tmp_path: Path, value: Any) -> None:
    path = save_bundle(tiny_bundle(training_mode="tabm"), tmp_path)
    rewritten(path, lambda payload: payload["model_config"].update({"k": value}))
    with pytest.raises(BundleRefused):
        load_bundle(path)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), "1", True, None])
def test_a_temperature_that_is_none_is_refused(tmp_path: Path, value: Any) -> None:
    path = save_bundle(tiny_bundle(training_mode="mlp_ple"), tmp_path)
    rewritten(path, lambda payload: payload["model_config"].update({"temperature": value}))
    with pytest.raises(BundleRefused, match="temperature"):
        load_bundle(path)


@MODES
@pytest.mark.parametrize(
    ("tensor", "change"),
    [
        ("columns", lambda old: old.flip(0)),
        ("columns", lambda old: old - 100),
        ("columns", lambda old: old + 1_000_000),
        ("columns", lambda old: old[:1].repeat(len(old))),
        ("columns", lambda old: old.float()),
        ("edges", lambda old: old.flip(1)),
        ("edges", lambda old: old * float("nan")),
        ("edges", lambda old: old[:, :-1]),
    ],
    ids=["descending", "negative", "beyond", "twice", "float", "descending edges", "NaN", "narrow"],
)
def test_an_embedding_that_cannot_be_is_refused(
    tmp_path: Path, mode: str, tensor: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    path = save_bundle(tiny_bundle(training_mode=mode), tmp_path)

    def damage(payload: dict[str, Any]) -> None:
        weights = payload["state_dict"]
        weights[f"embedding.{tensor}"] = change(weights[f"embedding.{tensor}"]).contiguous()

    with pytest.raises(BundleRefused, match=f"embedding.{tensor}"):
        load_bundle(rewritten(path, damage))
