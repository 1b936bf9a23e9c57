"""PT-SERIAL-001, requirement by requirement: each test carries the ID of what it shows."""

from __future__ import annotations

import dataclasses
import json
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import tiny_bundle, tiny_rows
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import LabelEncoder, StandardScaler
from torch import nn

from ai.ml.core.errors import BundleNotFound, BundleRefused
from ai.ml.core.types import Metrics, ModelBundle, TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.inference import Scorer, predict_rows
from ai.ml.frameworks.pytorch.models import (
    MLP,
    TRAINING_MODES,
    LinearBaseline,
    TabResNet,
    build_model,
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
# What plain `torch.load(weights_only=True)` must be allowed for what we write.
SAFE_GLOBALS: list[Any] = [
    DictVectorizer,
    StandardScaler,
    LabelEncoder,
    np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    np.ndarray,
    np.dtype,
    np.float64,
    *(
        getattr(np.dtypes, name)
        for name in ("BoolDType", "Float32DType", "Float64DType", "Int64DType", "ObjectDType", "StrDType")
    ),
]


def original_payload(bundle: ModelBundle) -> dict[str, Any]:
    """What the format's original writer puts into the file."""
    return {
        "state_dict": bundle.model.state_dict(),
        "task": bundle.task,
        "target_column": bundle.target_column,
        "input_dim": bundle.input_dim,
        "output_dim": bundle.output_dim,
        "class_names": bundle.class_names,
        "vectorizer": bundle.vectorizer,
        "scaler": bundle.scaler,
        "feature_medians": bundle.feature_medians,
        "label_encoder": bundle.label_encoder,
        "target_scaler": bundle.target_scaler,
        "model_config": model_config_of(bundle.model),
    }


def write_original(path: Path, bundle: ModelBundle, *, without: tuple[str, ...] = ()) -> Path:
    payload = original_payload(bundle)
    for key in without:
        del payload[key]
    torch.save(payload, path)
    return path


def plain_load(path: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals(SAFE_GLOBALS):
        return torch.load(path, weights_only=True)


def raw(bundle: ModelBundle, rows: list[dict[str, Any]]) -> bytes:
    return Scorer(bundle, device="cpu").score_rows(rows).raw.tobytes()


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


def test_ac_s10_a_complete_model_bundle_comes_back(tmp_path: Path) -> None:
    loaded = load_bundle(save_bundle(tiny_bundle(), tmp_path))
    assert dataclasses.is_dataclass(loaded)
    assert type(loaded) is ModelBundle
    assert loaded.model is not None
    assert loaded.vectorizer is not None
    assert loaded.scaler is not None
    assert not loaded.model.training
    assert loaded.target_scaler is None


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
