"""`save_bundle`: the same bytes for the same content, and a sentence for what couldn't be loaded again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import tiny_bundle, tiny_rows
from conftest import SUPPORT
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import LabelEncoder, MinMaxScaler, StandardScaler
from torch import nn

from ai.ml.core.errors import BundleRefused, StorageFailed
from ai.ml.core.types import Metrics, ModelBundle, TaskType
from ai.ml.frameworks.pytorch.inference.scorer import predict_rows
from ai.ml.frameworks.pytorch.models.networks import TRAINING_MODES
from ai.ml.frameworks.pytorch.serialization import load_bundle
from ai.ml.frameworks.pytorch.serialization.save import encode_bundle, save_bundle

pytestmark = pytest.mark.usefixtures("warm_processes")

METRICS = Metrics("classification", 0.25, 0.5, "accuracy", 0.875)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# ---- canonical bytes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("mode", TRAINING_MODES)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_save_of_load_is_byte_identical(
    tmp_path: Path, task: TaskType, mode: str, sparse: bool, dropout: float
) -> None:
    bundle = tiny_bundle(task, mode, sparse=sparse, dropout=dropout)
    path = save_bundle(bundle, tmp_path)
    content = path.read_bytes()
    assert encode_bundle(bundle) == content
    assert encode_bundle(load_bundle(path)) == content
    assert save_bundle(load_bundle(path), tmp_path).read_bytes() == content


def test_equal_content_gives_equal_bytes_whatever_its_memory_looks_like(tmp_path: Path) -> None:
    plain = tiny_bundle("regression")
    odd = tiny_bundle("regression")
    names_ = [np.str_(name) for name in odd.vectorizer.feature_names_]
    odd.vectorizer.feature_names_ = names_
    odd.vectorizer.vocabulary_ = dict(reversed([(name, np.int64(i)) for i, name in enumerate(names_)]))
    odd.feature_medians = np.asfortranarray(np.repeat(odd.feature_medians, 2)[::2])
    odd.scaler.mean_ = np.repeat(odd.scaler.mean_, 2)[::2]
    odd.scaler.var_ = odd.scaler.var_.astype(">f8")
    odd.input_dim = np.int64(odd.input_dim)  # type: ignore[assignment]
    for module in odd.model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = module.weight.data.t().contiguous().t()
            module.bias.data = torch.cat([module.bias.data, module.bias.data])[: len(module.bias)]
    assert encode_bundle(odd) == encode_bundle(plain)


@pytest.mark.slow(7)
def test_two_processes_write_the_same_bytes() -> None:
    script = (
        "import hashlib, builders; from ai.ml.frameworks.pytorch.serialization.save import encode_bundle\n"
        "print(hashlib.sha256(encode_bundle(builders.tiny_bundle())).hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**environment, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {hashlib.sha256(encode_bundle(tiny_bundle())).hexdigest()}


def test_a_storage_shared_with_a_larger_tensor_isnt_saved_whole(tmp_path: Path) -> None:
    bundle = tiny_bundle(training_mode="linear_glm_baseline")
    secret = torch.full((100_000,), 7.0)
    secret[: bundle.model.net.bias.numel()] = bundle.model.net.bias.data  # type: ignore[union-attr, operator]
    bundle.model.net.bias.data = secret[: bundle.output_dim]  # type: ignore[union-attr]
    assert save_bundle(bundle, tmp_path).stat().st_size < 20_000


def test_tensors_that_share_memory_are_saved_apart(tmp_path: Path) -> None:
    bundle = tiny_bundle(training_mode="tabresnet")
    first, second = bundle.model.blocks[0], bundle.model.blocks[1]  # type: ignore[index]
    second.fc1.weight = first.fc1.weight
    rows = tiny_rows(20)
    assert predict_rows(load_bundle(save_bundle(bundle, tmp_path)), rows) == predict_rows(bundle, rows)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_asdict_indented_utf8(tmp_path: Path) -> None:
    metrics = dataclasses.replace(METRICS, test_metric_name="Güte")
    save_bundle(tiny_bundle(), tmp_path, metrics)
    text = (tmp_path / "metrics.json").read_bytes().decode("utf-8")
    assert text == json.dumps(dataclasses.asdict(metrics), indent=2, ensure_ascii=False)


def test_metrics_that_json_cant_hold_are_a_type_error_and_touch_nothing(tmp_path: Path) -> None:
    metrics = dataclasses.replace(METRICS, test_loss=np.float32(1.0))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="float32 is not JSON serializable"):
        save_bundle(tiny_bundle(), tmp_path / "new", metrics)
    assert names(tmp_path) == []


# ---- what couldn't be loaded again -----------------------------------------------------------------------------------


def _nan_weight(bundle: ModelBundle) -> None:
    with torch.no_grad():
        next(bundle.model.parameters()).view(-1)[3] = float("nan")


def _negative_variance(bundle: ModelBundle) -> None:
    next(buffer for name, buffer in bundle.model.named_buffers() if name.endswith("running_var"))[0] = -1


def _all_nan_column(bundle: ModelBundle) -> None:
    matrix = np.random.default_rng(0).normal(size=(20, bundle.input_dim))
    matrix[:, 2] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        bundle.scaler = StandardScaler().fit(matrix)


def _labels(*labels: Any, dtype: Any = None) -> Any:
    def change(bundle: ModelBundle) -> None:
        bundle.label_encoder = LabelEncoder().fit(np.array(labels, dtype=dtype))
        bundle.class_names = [str(label) for label in bundle.label_encoder.classes_]

    return change


def _set(name: str, value: Any) -> Any:
    return lambda bundle: setattr(bundle, name, value)


def _name_that_is_code(bundle: ModelBundle) -> None:
    bundle.vectorizer.feature_names_ = [*bundle.vectorizer.feature_names_[:-1], lambda: None]


REFUSED: dict[str, tuple[Any, str]] = {
    "NaN weight": (_nan_weight, r"state_dict\['net\.0\.weight'\]: holds NaN or an infinity; a model that diverged"),
    "negative variance": (_negative_variance, r"net\.1\.running_var'\]: holds -1\.0"),
    "half precision": (lambda bundle: bundle.model.half(), "torch.float16, expected float32"),
    "float64 weights": (lambda bundle: bundle.model.double(), "torch.float64, expected float32"),
    "on meta": (lambda bundle: bundle.model.to("meta"), r"has no values of its own \(meta"),
    "model of another type": (_set("model", nn.Sequential(nn.Linear(9, 3))), "again: state_dict: 'net.0.weight'"),
    "all-NaN column": (_all_nan_column, r"scaler\.mean_: expected 9 finite float64"),
    "unfitted scaler": (_set("scaler", StandardScaler()), "StandardScaler has no n_features_in_: it isn't fitted"),
    "unfitted vectorizer": (_set("vectorizer", DictVectorizer()), "DictVectorizer has no feature_names_"),
    "another scaler": (_set("scaler", MinMaxScaler().fit(np.eye(9))), "scaler: expected a StandardScaler"),
    "bytes labels": (_labels(b"a", b"b", b"c"), r"label_encoder\.classes_"),
    "date labels": (
        _labels("2020-01-01", "2020-01-02", "2020-01-03", dtype="datetime64[D]"),
        r"label_encoder\.classes_",
    ),
    "another output_dim": (_set("output_dim", 4), "class_names: 3 names, output_dim says 4"),
    "another input_dim": (_set("input_dim", 8), "input_dim says 8"),
    "other class names": (_set("class_names", ["x", "y", "z"]), "class_names: disagree"),
    "medians of another length": (_set("feature_medians", np.zeros(3)), "feature_medians: is for 3 features"),
    "unknown task": (_set("task", "ranking"), "task: expected 'classification' or 'regression'"),
    "lone surrogate": (_set("target_column", "\ud800"), "target_column: holds a lone surrogate"),
    "what pickle can't hold": (_name_that_is_code, "the bundle holds what can't be stored"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_wouldnt_load_is_refused_before_anything_is_replaced(tmp_path: Path, name: str) -> None:
    save_bundle(tiny_bundle(), tmp_path, METRICS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    change, sentence = REFUSED[name]
    bundle = tiny_bundle(seed=1)
    change(bundle)
    with pytest.raises(BundleRefused, match=sentence) as refusal:
        save_bundle(bundle, tmp_path)
    assert "\n" not in str(refusal.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ((np.str_("a"), "b", "c"), None),
        ((np.str_("a"), "b", "c"), object),
        ((1, 2, 3), None),
        ((0.5, 1.5, 2.5), None),
        ((False, True), None),
    ],
    ids=["text", "object text", "int", "float", "bool"],
)
def test_labels_of_every_plain_kind_survive(tmp_path: Path, labels: tuple[Any, ...], dtype: Any) -> None:
    bundle = tiny_bundle(n_classes=len(labels))
    _labels(*labels, dtype=dtype)(bundle)
    rows = tiny_rows(20)
    assert predict_rows(load_bundle(save_bundle(bundle, tmp_path)), rows) == predict_rows(bundle, rows)


# ---- the disk --------------------------------------------------------------------------------------------------------


@pytest.mark.slow(4)
def test_a_full_disk_is_one_sentence_and_the_old_pair_stays(tmp_path: Path) -> None:
    path = save_bundle(tiny_bundle(), tmp_path, METRICS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    script = (
        "import resource, signal, sys, builders; from ai.ml.frameworks.pytorch.serialization.save import save_bundle\n"
        "from ai.ml.core.errors import StorageFailed\n"
        "bundle = builders.tiny_bundle(seed=1)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: save_bundle(bundle, sys.argv[1])\n"
        "except StorageFailed as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert done.stdout == f"saving into {tmp_path} failed: File too large; nothing was changed\n", done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert path.is_file()


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(StorageFailed, match="making the directory"):
        save_bundle(tiny_bundle(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_read_only_directory() -> None:
    script = (
        "import os, sys, builders; from ai.ml.frameworks.pytorch.serialization.save import encode_bundle, save_bundle\n"
        "from ai.ml.core.errors import StorageFailed\n"
        "bundle = builders.tiny_bundle(seed=1); encode_bundle(bundle)\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"  # root may write anywhere, nobody may not
        "try: save_bundle(bundle, sys.argv[1])\n"
        "except StorageFailed as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to nobody
        place = Path(folder) / "bundle"
        save_bundle(tiny_bundle(), place)
        Path(folder).chmod(0o755)
        place.chmod(0o555)
        command = [sys.executable, "-c", script, str(place)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        left = names(place)
        place.chmod(0o755)
    assert done.stdout == f"saving into {place} failed: Permission denied; nothing was changed\n", done.stderr
    assert left == ["model_bundle.pt"]
