"""The epoch checkpoint: a file whose digest is right and whose content isn't is refused like any other damaged one."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import mixed_table

from ai.ml.core.files.atomic import sha256_bytes
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.trainer.checkpoint import EpochCheckpoint
from ai.ml.frameworks.pytorch.trainer.data.dataset import TrainingData
from ai.ml.frameworks.pytorch.trainer.data.prepare import prepare_dataset
from ai.ml.frameworks.pytorch.trainer.loop import TrainingLoop
from ai.ml.frameworks.pytorch.trainer.setup import assemble
from ai.ml.frameworks.pytorch.trainer.tensor_codec import decode_tree, encode_tree
from ai.ml.frameworks.pytorch.trainer.training import train

CONFIG = TrainingConfig("y", training_mode="tabm", epochs=3, hidden_dim=8, members=2, n_bins=4, d_emb=2)


@functools.cache
def data() -> TrainingData:
    return prepare_dataset(mixed_table(160), CONFIG, None)[0]


def loop_of(**changes: Any) -> TrainingLoop:
    config = dataclasses.replace(CONFIG, **changes)
    return assemble(data(), config, torch.device("cpu"), [])[1]


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """Of a training after two of its three epochs."""
    loop = loop_of()
    loop.run_epoch()
    loop.run_epoch()
    return loop.state_dict()


def copied(record: dict[str, Any]) -> dict[str, Any]:
    return decode_tree(encode_tree(record))


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """A change that puts the last of these at the place that the others name."""

    def change(record: Any) -> None:
        *way, key, value = path
        for step in way:
            record = record[step]
        record[key] = value

    return change


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(record: Any) -> None:
        *way, key = path
        for step in way:
            record = record[step]
        del record[key]

    return change


WEIGHT = "head.weight"
FORGED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no model": (drop("model"), "'model' is missing"),
    "no time spent": (drop("spent"), "'spent' is missing"),
    "an unknown key": (put("further", 1), "'further' is unknown"),
    "a model without a weight": (drop("model", WEIGHT), "model: 'head.weight' is missing"),
    "a weight too long": (put("model", WEIGHT, torch.zeros(9)), r"expected torch.float32 of shape \(2, 8, 2\)"),
    "a weight of float64": (put("model", WEIGHT, torch.zeros(2, 8, 2, dtype=torch.float64)), "torch.float64 of shape"),
    "a text for a weight": (put("model", WEIGHT, "x"), "got str"),
    "no average": (put("average", None), "average: expected .* keys, got NoneType"),
    "best weights of another shape": (put("best_weights", {}), "best_weights: .* is missing"),
    "no optimizer": (put("optimizer", []), "optimizer: expected 2 keys, got list"),
    "one group": (drop("optimizer", "param_groups", 0), "expected 2 of them"),
    "another kernel": (put("optimizer", "param_groups", 0, "fused", False), "fused: expected True, got False"),
    "a tensor for a setting": (put("optimizer", "param_groups", 0, "eps", torch.zeros(2)), "eps: expected float"),
    "no step size": (put("optimizer", "param_groups", 0, "lr", float("nan")), "lr: expected a step size"),
    "moments of no weight": (put("optimizer", "state", 99, {}), "optimizer.state: expected the moments of"),
    "moments of another shape": (
        put("optimizer", "state", 0, "exp_avg", torch.zeros(3)),
        "optimizer.state.0.exp_avg: expected torch.float32",
    ),
    "moments that are a list": (put("optimizer", "state", []), "optimizer.state: expected"),
    "a short random state": (put("torch_rng", torch.zeros(5, dtype=torch.uint8)), "torch_rng: expected torch.uint8"),
    "a random state of zeros": (put("torch_rng", torch.zeros(5056, dtype=torch.uint8)), "torch_rng: "),
    "a GPU's random state": (put("cuda_rng", [torch.zeros(16, dtype=torch.uint8)]), "cuda_rng: expected 0 entries"),
    "an epoch of text": (put("epoch", "2"), "epoch: expected int, got str"),
    "more epochs than there are": (put("epoch", 4), "epoch 4"),
    "a best epoch to come": (put("best_epoch", 3), "the best being 3"),
    "a report too few": (drop("history", 0), "history: expected 2 reports"),
    "a report of one number": (put("history", 0, {"epoch": 1}), "history.1: .* is missing"),
    "a report of another epoch": (put("history", 0, "epoch", 2), "history.1: is of epoch 2"),
    "a schedule of text": (put("schedule", "updates", "many"), "schedule.updates: expected int"),
    "time before time": (put("spent", -1.0), "spent: expected seconds"),
}


def kept(path: Path, tree: Any) -> EpochCheckpoint:
    keeper = EpochCheckpoint(path, "of this")
    keeper.save(tree)
    return keeper


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_record_is_refused_and_nothing_of_it_is_taken_up(
    name: str, record: dict[str, Any], tmp_path: Path
) -> None:
    change, sentence = FORGED[name]
    forged = copied(record)
    change(forged)
    loop = loop_of()
    before, random_state = encode_tree({**loop.state_dict(), "spent": 0.0}), torch.get_rng_state()
    reason = kept(tmp_path / "state.epochs", forged).resume(loop.load_state_dict)
    assert reason is not None
    assert reason.endswith("training begins anew")
    with pytest.raises(ValueError, match=sentence):
        loop.load_state_dict(forged)
    assert encode_tree({**loop.state_dict(), "spent": 0.0}) == before
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("mode", ["mlp_dense", "linear_glm_baseline", "tabresnet", "mlp_ple"])
@pytest.mark.parametrize("validation_size", [0.0, 0.1])
def test_an_honest_record_of_every_kind_of_network_is_taken_up(mode: str, validation_size: float) -> None:
    changes: dict[str, Any] = {"training_mode": mode, "validation_size": validation_size, "learning_rate": 1}
    loop = loop_of(**changes)
    loop.run_epoch()
    record = loop.state_dict()
    other = loop_of(**changes)
    other.load_state_dict(copied(record))
    assert encode_tree({**other.state_dict(), "spent": 0.0}) == encode_tree({**record, "spent": 0.0})


@pytest.mark.parametrize(
    "tree",
    [
        None,
        [],
        {"tensor": ["float32", [0, 2**70]]},
        {"tensor": ["float32", ["2"]]},
        {"tensor": ["object", [1]]},
        {"dict": [[["a"], 1]]},
        {"pickle": "x"},
    ],
)
def test_a_tree_that_is_none_begins_anew(tree: Any, tmp_path: Path) -> None:
    path, content = tmp_path / "state.epochs", b"of this\n" + json.dumps(tree).encode() + b"\n"
    path.write_bytes(sha256_bytes(content).encode() + b"\n" + content)
    reason = EpochCheckpoint(path, "of this").resume(loop_of().load_state_dict)
    assert reason is not None
    assert "can't be read" in reason


def test_a_training_says_so_and_has_the_bits_of_one_that_began_anew(tmp_path: Path) -> None:
    table, path = mixed_table(160), tmp_path / "state.epochs"
    whole = train(table, CONFIG, checkpoint=path)
    digest, _, content = path.read_bytes().partition(b"\n")
    fingerprint, _, body = content.partition(b"\n")
    forged = decode_tree(body)
    del forged["optimizer"]
    content = fingerprint + b"\n" + encode_tree(forged)
    path.write_bytes(sha256_bytes(content).encode() + b"\n" + content)
    again = train(table, CONFIG, checkpoint=path)
    assert any("'optimizer' is missing" in finding.message for finding in again.findings)
    assert len(digest) == 64
    assert again.metrics == whole.metrics


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    reason = EpochCheckpoint(tmp_path, "of this").resume(loop_of().load_state_dict)
    assert reason is not None
    assert "can't be read (Is a directory)" in reason
