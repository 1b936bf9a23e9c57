"""Files of older libraries, written by the scripts in `legacy/`, load quietly and answer as they did when written."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from rich.console import Console

from ai.ml.core.errors import BundleRefused
from ai.ml.frameworks.pytorch.inference.scorer import Scorer, predict_rows
from ai.ml.frameworks.pytorch.serialization import load_bundle
from ai.ml.frameworks.pytorch.serialization.reader import inspect_payload
from ai.ml.frameworks.pytorch.serialization.save import save_bundle
from ai.ml.retraining.commands.inspect import bundle_facts, show_facts

LEGACY = ROOT / "tests" / "legacy"
ANSWERS: dict[str, dict[str, Any]] = {
    path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(LEGACY.glob("*/answers.json"))
}
FILES = [(folder, name) for folder, record in ANSWERS.items() for name in record["bundles"]]


def test_the_promised_writers_are_there() -> None:
    written = {
        (re.match(r"\d+\.\d+", record["versions"]["scikit-learn"])[0], record["versions"]["numpy"].split(".")[0])  # type: ignore[index]
        for record in ANSWERS.values()
    }
    assert {("1.3", "1"), ("1.5", "1"), ("1.5", "2"), ("1.7", "2"), ("1.9", "2")} <= written
    for folder, record in ANSWERS.items():
        script = (LEGACY / record["script"]).read_text(encoding="utf-8")
        assert folder == record["script"].removeprefix("write_").removesuffix(".py")
        for package in ("torch", "scikit-learn", "numpy"):
            assert f'"{package}=={record["versions"][package]}"' in script


@pytest.mark.parametrize(("folder", "name"), FILES)
def test_a_file_answers_as_when_it_was_written(folder: str, name: str) -> None:
    frozen = ANSWERS[folder]["bundles"][name]
    path = LEGACY / folder / f"{name}.pt"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == frozen["sha256"]
    bundle = load_bundle(path)  # a warning would be an error here
    assert not bundle.model.training
    answers = predict_rows(bundle, frozen["rows"])
    if frozen["task"] == "classification":
        assert answers == frozen["answers"]
    else:
        np.testing.assert_allclose(answers, frozen["answers"], rtol=1e-5)
    outputs = Scorer(bundle).score_rows(frozen["rows"]).raw
    np.testing.assert_allclose(outputs, frozen["raw_outputs"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("folder", "name"), FILES)
def test_a_file_saved_again_here_answers_the_same_bits(tmp_path: Path, folder: str, name: str) -> None:
    rows = ANSWERS[folder]["bundles"][name]["rows"]
    bundle = load_bundle(LEGACY / folder / f"{name}.pt")
    again = load_bundle(save_bundle(bundle, tmp_path))
    assert predict_rows(again, rows) == predict_rows(bundle, rows)


@pytest.mark.parametrize("folder", ANSWERS)
def test_the_version_that_wrote_a_file_is_told_as_data(folder: str) -> None:
    for name in ANSWERS[folder]["bundles"]:
        told = inspect_payload(LEGACY / folder / f"{name}.pt")["written_with"]
        assert told == {"scikit-learn": ANSWERS[folder]["versions"]["scikit-learn"]}


def test_inspect_says_which_versions_differ_from_those_here(capsys: pytest.CaptureFixture[str]) -> None:
    path = LEGACY / "sklearn_1_3_numpy_1_26" / "mlp.pt"
    facts = bundle_facts(path)
    here = version("scikit-learn")
    assert facts["version_differences"] == {"scikit-learn": {"written": "1.3.2", "here": here}}
    show_facts(facts, Console(width=200))
    assert f"scikit-learn 1.3.2 (here {here})" in capsys.readouterr().out
    current = bundle_facts(LEGACY / "sklearn_1_9_numpy_2_4" / "mlp.pt")["version_differences"]
    assert current == ({} if here == "1.9.1" else {"scikit-learn": {"written": "1.9.1", "here": here}})


@pytest.mark.parametrize(("name", "mode", "blocks"), [("tabresnet_1", "tabresnet", 1), ("tabresnet_5", "tabresnet", 5)])
def test_residual_blocks(name: str, mode: str, blocks: int) -> None:
    config = load_bundle(LEGACY / "sklearn_1_3_numpy_1_26" / f"{name}.pt").model_config
    assert config is not None
    assert (config["training_mode"], config["num_hidden_layers"]) == (mode, blocks)


# The sample is of one version of scikit-learn, and here there may be another one.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
def test_weights_that_fit_no_fallback_are_refused_with_both_shapes(tmp_path: Path) -> None:
    # torch.load needs numpy's modules under the names that they had when the file was written.
    written = "sklearn_1_9_numpy_2_4" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "sklearn_1_3_numpy_1_26"
    payload = torch.load(LEGACY / written / "no_config.pt", weights_only=False)
    payload["state_dict"]["net.3.weight"] = torch.zeros(64, 128)
    torch.save(payload, tmp_path / "model_bundle.pt")
    with pytest.raises(BundleRefused, match=r"net\.3\.weight.*\(64, 128\).*\(128, 128\)"):
        load_bundle(tmp_path / "model_bundle.pt")


def test_a_legacy_file_among_others_needs_no_manifest(tmp_path: Path) -> None:
    shutil.copy(LEGACY / "sklearn_1_5_numpy_2_1" / "mlp.pt", tmp_path / "model_bundle.pt")
    rows = ANSWERS["sklearn_1_5_numpy_2_1"]["bundles"]["mlp"]["rows"]
    assert len(predict_rows(load_bundle(tmp_path / "model_bundle.pt"), rows)) == len(rows)
