"""PT-SERIAL-001, requirement by requirement: each test carries the ID of what it shows."""

from __future__ import annotations

import dataclasses
import json
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import tiny_bundle, tiny_rows
from format_samples import original_payload, plain_load, raw, write_original
from torch import nn

from ai.ml.core.errors import BundleRefused
from ai.ml.core.types import Metrics, ModelBundle, TaskType
from ai.ml.frameworks.pytorch.inference import Scorer, predict_rows
from ai.ml.frameworks.pytorch.models import (
    MLP,
    TRAINING_MODES,
    LinearBaseline,
    TabResNet,
    model_config_of,
)
from ai.ml.frameworks.pytorch.serialization import load_bundle, save_bundle

KEYS = [
    "state_dict",
    "task",
    "target_column",
    "input_dim",
    "output_dim",
    "class_names",
    "vectorizer",
    "scaler",
    "feature_medians",
    "label_encoder",
    "target_scaler",
    "model_config",
]
METRICS = Metrics("classification", 0.25, 0.5, "accuracy", 0.875)


def test_ac_s01_missing_directories_are_made(tmp_path: Path) -> None:
    save_bundle(tiny_bundle(), tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_ac_s02_the_file_is_called_model_bundle_pt(tmp_path: Path) -> None:
    save_bundle(tiny_bundle(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model_bundle.pt"]


def test_ac_s03_metrics_are_written_beside_it(tmp_path: Path) -> None:
    save_bundle(tiny_bundle(), tmp_path, METRICS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "model_bundle.pt"]
    text = (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text) == dataclasses.asdict(METRICS)
    assert text.rstrip("\n") == json.dumps(dataclasses.asdict(METRICS), indent=2)


def test_ac_s03b_without_metrics_there_is_no_metrics_json(tmp_path: Path) -> None:
    save_bundle(tiny_bundle(), tmp_path, None)
    assert not (tmp_path / "metrics.json").exists()
    save_bundle(tiny_bundle(), tmp_path, METRICS)
    save_bundle(tiny_bundle(seed=1), tmp_path, None)
    assert not (tmp_path / "metrics.json").exists(), "metrics of an older bundle stayed beside a new one"


@pytest.mark.parametrize("kind", [str, Path])
def test_ac_s04_the_path_of_the_file_comes_back(tmp_path: Path, kind: type) -> None:
    path = save_bundle(tiny_bundle(), kind(tmp_path / "x"))
    assert isinstance(path, Path)
    assert path == tmp_path / "x" / "model_bundle.pt"
    assert path.is_file()


def test_ac_s05_model_config_is_read_off_the_live_model(tmp_path: Path) -> None:
    bundle = tiny_bundle(hidden_dim=8)
    bundle.model_config = {"training_mode": "tabresnet", "hidden_dim": 999, "num_hidden_layers": 7, "dropout": 0.9}
    stored = plain_load(save_bundle(bundle, tmp_path))["model_config"]
    assert stored == {"training_mode": "mlp_dense", "hidden_dim": 8, "num_hidden_layers": 2, "dropout": 0.1}


def test_req_s05_a_model_of_another_type_gets_the_defaults() -> None:
    assert model_config_of(nn.Identity()) == {
        "training_mode": "mlp_dense",
        "hidden_dim": 128,
        "num_hidden_layers": 2,
        "dropout": 0.0,
    }


def test_ac_s06_the_payload_goes_through_torch_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_bundle(tiny_bundle(), tmp_path)
    seen: list[Any] = []
    real = torch.load

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["map_location"])
        return real(*args, **kwargs)

    monkeypatch.setattr(torch, "load", spy)
    load_bundle(path, map_location="cpu")
    assert seen == ["cpu"]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("tabresnet", TabResNet), ("linear_glm_baseline", LinearBaseline), ("mlp_dense", MLP), ("imbalance_aware", MLP)],
)
def test_ac_s07_the_architecture_comes_from_model_config(tmp_path: Path, mode: str, kind: type) -> None:
    assert type(load_bundle(save_bundle(tiny_bundle(training_mode=mode), tmp_path)).model) is kind


def test_ac_s08_the_weights_are_those_of_the_file(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    path = save_bundle(bundle, tmp_path)
    stored, loaded = plain_load(path)["state_dict"], load_bundle(path).model.state_dict()
    assert list(stored) == list(loaded) == list(bundle.model.state_dict())
    for name, tensor in loaded.items():
        assert tensor.dtype == stored[name].dtype
        assert torch.equal(tensor, stored[name])


def test_ac_s09_and_ec_s01_a_file_without_model_config_gets_the_defaults(tmp_path: Path) -> None:
    bundle = tiny_bundle(hidden_dim=128, num_hidden_layers=2, dropout=0.0)
    loaded = load_bundle(write_original(tmp_path / "old.pt", bundle, without=("model_config",)))
    assert loaded.model_config == {
        "training_mode": "mlp_dense",
        "hidden_dim": 128,
        "num_hidden_layers": 2,
        "dropout": 0.0,
    }
    assert raw(loaded, tiny_rows(9)) == raw(bundle, tiny_rows(9))


@pytest.mark.parametrize("missing", ["training_mode", "hidden_dim", "num_hidden_layers", "dropout"])
def test_req_s09_a_key_that_model_config_lacks_gets_its_default(tmp_path: Path, missing: str) -> None:
    bundle = tiny_bundle(hidden_dim=128, num_hidden_layers=2, dropout=0.0)
    payload = original_payload(bundle)
    del payload["model_config"][missing]
    torch.save(payload, tmp_path / "old.pt")
    assert raw(load_bundle(tmp_path / "old.pt"), tiny_rows(5)) == raw(bundle, tiny_rows(5))


def test_ac_s10_a_complete_model_bundle_comes_back(tmp_path: Path) -> None:
    loaded = load_bundle(save_bundle(tiny_bundle(), tmp_path))
    assert dataclasses.is_dataclass(loaded)
    assert type(loaded) is ModelBundle
    assert loaded.model is not None
    assert loaded.vectorizer is not None
    assert loaded.scaler is not None
    assert not loaded.model.training
    assert loaded.target_scaler is None


OPTIONAL = ("class_names", "feature_medians", "label_encoder", "target_scaler")


@pytest.mark.parametrize("absent", [*((key,) for key in OPTIONAL), OPTIONAL], ids="+".join)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_req_s10_an_optional_field_that_the_file_lacks_is_none(
    tmp_path: Path, task: TaskType, absent: tuple[str, ...]
) -> None:
    whole, rows = tiny_bundle(task), tiny_rows(9, seed=3)
    loaded = load_bundle(write_original(tmp_path / "old.pt", whole, without=absent))
    for key in OPTIONAL:
        found, there = getattr(loaded, key), getattr(whole, key)
        assert (found is None) == (key in absent or there is None), key
    outputs = Scorer(loaded).score_rows(rows).raw
    # Nothing is missing in these rows, so the medians change no answer.
    assert outputs.tobytes() == raw(whole, rows)
    answers = predict_rows(loaded, rows)
    if task == "classification" and "label_encoder" in absent:
        assert answers == outputs.argmax(axis=1).tolist()
        assert all(type(answer) is int for answer in answers)
    elif task == "regression" and "target_scaler" in absent:
        assert answers == [float(output) for output in outputs[:, 0]]
    else:
        assert answers == predict_rows(whole, rows)


@pytest.mark.parametrize("absent", [*((key,) for key in OPTIONAL), OPTIONAL], ids="+".join)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_req_s10_what_is_absent_and_what_is_none_are_saved_as_the_same_bytes(
    tmp_path: Path, task: TaskType, absent: tuple[str, ...]
) -> None:
    bundle = tiny_bundle(task)
    loaded = load_bundle(write_original(tmp_path / "old.pt", bundle, without=absent))
    first = save_bundle(loaded, tmp_path / "first")
    assert list(plain_load(first)) == KEYS
    for key in absent:
        setattr(bundle, key, None)
    assert first.read_bytes() == save_bundle(bundle, tmp_path / "none").read_bytes()
    assert first.read_bytes() == save_bundle(load_bundle(first), tmp_path / "second").read_bytes()


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("mode", TRAINING_MODES)
@pytest.mark.parametrize(
    "odd",
    ["plain", "one row", "no rows", "missing", "unseen", "infinite", "sparse", "no encoder", "no scaler", "no medians"],
)
def test_inv_s01_round_trip(tmp_path: Path, task: TaskType, mode: str, odd: str) -> None:
    """The contract suite: every mode × task × odd input gives the same bits before and after."""
    bundle = tiny_bundle(task, mode, sparse=odd == "sparse")
    if odd == "no encoder":
        bundle.label_encoder = None
    if odd == "no scaler":
        bundle.target_scaler = None
    if odd == "no medians":
        bundle.feature_medians = None
    rows = tiny_rows({"one row": 1, "no rows": 0}.get(odd, 30), seed=3)
    changes: dict[str, dict[str, Any]] = {
        "missing": {"age": None, "city": "NA"},
        "unseen": {"city": "Atlantis", "never": "seen"},
        "infinite": {"age": float("inf"), "income": float("-inf")},
    }
    rows = [{**row, **changes.get(odd, {})} for row in rows]
    loaded = load_bundle(save_bundle(bundle, tmp_path))
    assert raw(loaded, rows) == raw(bundle, rows)
    assert predict_rows(loaded, rows) == predict_rows(bundle, rows)
    assert loaded.vectorizer.sparse == bundle.vectorizer.sparse
    assert loaded.class_names == bundle.class_names
    assert (loaded.input_dim, loaded.output_dim, loaded.task) == (bundle.input_dim, bundle.output_dim, task)


def test_inv_s01_saving_what_was_loaded_gives_the_same_bytes(tmp_path: Path) -> None:
    first = save_bundle(tiny_bundle(), tmp_path / "a")
    second = save_bundle(load_bundle(first), tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_inv_s02_scikit_learn_parts_are_pickled_inside_the_file(tmp_path: Path) -> None:
    path = save_bundle(tiny_bundle(), tmp_path)
    with zipfile.ZipFile(path) as archive:
        pickle = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
    named = {argument for opcode, argument, _ in pickletools.genops(pickle) if opcode.name == "GLOBAL"}
    for part in ("_dict_vectorizer DictVectorizer", "_data StandardScaler", "_label LabelEncoder"):
        assert any(str(name).endswith(part) for name in named), part


def test_inv_s03_new_files_have_exactly_the_twelve_keys(tmp_path: Path) -> None:
    payload = plain_load(save_bundle(tiny_bundle(), tmp_path))
    assert list(payload) == KEYS
    assert isinstance(payload["state_dict"], OrderedDict)
    assert set(payload["model_config"]) == {"training_mode", "hidden_dim", "num_hidden_layers", "dropout"}


def test_ec_s02_without_medians_missing_is_zero(tmp_path: Path) -> None:
    loaded = load_bundle(write_original(tmp_path / "old.pt", tiny_bundle(), without=("feature_medians",)))
    assert loaded.feature_medians is None
    row = tiny_rows(1)[0]
    assert predict_rows(loaded, [{**row, "age": None}]) == predict_rows(loaded, [{**row, "age": 0}])


def tagged_for_cuda(path: Path, target: Path) -> Path:
    """The same file with every storage tagged `cuda:0`, as a GPU writes it."""
    tagged = torch.load(path, weights_only=False)
    original = torch.serialization.location_tag
    torch.serialization.location_tag = lambda storage: "cuda:0"
    try:
        torch.save(tagged, target)
    finally:
        torch.serialization.location_tag = original
    assert b"cuda:0" in target.read_bytes()
    return target


@pytest.mark.parametrize(
    "map_location",
    ["cpu", torch.device("cpu"), {"cuda:0": "cpu"}, lambda storage, location: storage],
    ids=["text", "device", "dict", "function"],
)
def test_ec_s03_a_gpus_bundle_loads_on_the_cpu(tmp_path: Path, map_location: Any) -> None:
    bundle = tiny_bundle()
    path = tagged_for_cuda(save_bundle(bundle, tmp_path), tmp_path / "gpu.pt")
    loaded = load_bundle(path, map_location=map_location)
    assert {tensor.device.type for tensor in loaded.model.state_dict().values()} == {"cpu"}
    assert raw(loaded, tiny_rows(9)) == raw(bundle, tiny_rows(9))


def test_ec_s03_without_map_location_the_sentence_names_the_remedy(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA: the bundle loads there")
    path = tagged_for_cuda(save_bundle(tiny_bundle(), tmp_path), tmp_path / "gpu.pt")
    with pytest.raises(BundleRefused, match=r'saved on cuda:0.*map_location="cpu"'):
        load_bundle(path)


@pytest.mark.gpu
def test_ec_s03_a_bundle_goes_to_the_gpu_and_back(tmp_path: Path) -> None:
    bundle = tiny_bundle(hidden_dim=32)
    expected = raw(bundle, tiny_rows(50))
    bundle.model.to("cuda")
    loaded = load_bundle(save_bundle(bundle, tmp_path), map_location="cpu")
    assert raw(loaded, tiny_rows(50)) == expected
