"""Settings that a mode doesn't read: said, not swallowed; and the table of them is the trainer's own behaviour."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from builders import mixed_table, tiny_bundle

from ai.ml.core.bundle_dir import BUNDLE_NAME
from ai.ml.core.tables.reader import write_table
from ai.ml.core.training_modes import MODE_SETTINGS, MODES, SEARCH_RANGES, TrainingModeName, unused_settings
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.models.networks import BUILDERS, PIECEWISE_BUILDERS, PIECEWISE_MODES, TRAINING_MODES
from ai.ml.frameworks.pytorch.serialization import load_bundle, save_bundle
from ai.ml.frameworks.pytorch.trainer.losses import MODE_LOSSES
from ai.ml.frameworks.pytorch.trainer.optimizer import MODE_OPTIMIZERS
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig, TrainingSettings

OTHER = {
    "n_bins": 7,
    "d_emb": 3,
    "members": 3,
    "hidden_dim": 24,
    "num_hidden_layers": 2,
    "dropout": 0.3,
    "label_smoothing": 0.2,
}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"training_mode": "mlp_ple", "members": 4}, ["members = 4"]),
        ({"training_mode": "mlp_dense", "n_bins": 32, "d_emb": 4}, ["n_bins = 32", "d_emb = 4"]),
        (
            {"training_mode": "linear_glm_baseline", "hidden_dim": 64, "dropout": 0.5},
            ["hidden_dim = 64", "dropout = 0.5"],
        ),
        ({"training_mode": "calibrated_classifier", "label_smoothing": 0.2}, ["label_smoothing = 0.2"]),
        ({"training_mode": "tabm", **OTHER}, []),
        ({"training_mode": "mlp_dense", "n_bins": 16, "calibrate": False}, []),
    ],
)
def test_what_a_mode_does_not_read_is_named(settings: dict[str, Any], named: list[str]) -> None:
    training = TrainingSettings(**settings)
    told = unused_settings(training.training_mode, training.model_dump(exclude_defaults=True))
    assert told == ([f"the mode {settings['training_mode']} has no use for {', '.join(named)}"] if named else [])


@pytest.mark.parametrize("mode", TRAINING_MODES)
def test_the_weights_depend_on_a_setting_where_it_has_a_use_and_nowhere_else(mode: str) -> None:
    plain = TrainingConfig("y", training_mode=mode, epochs=1, hidden_dim=8, num_hidden_layers=1, members=2)
    table = mixed_table(100)

    def weights(config: TrainingConfig) -> list[bytes]:
        return [tensor.numpy().tobytes() for tensor in train(table, config).bundle.model.state_dict().values()]

    first = weights(plain)
    assert OTHER.keys() == set(MODE_SETTINGS)
    for name, value in OTHER.items():
        changed = weights(dataclasses.replace(plain, **{name: value})) != first
        assert changed == MODES[mode].reads(name), name


def test_every_mode_has_a_row_a_network_a_loss_and_an_optimizer() -> None:
    parts: dict[str, Collection[str]] = {
        "TrainingModeName": typing.get_args(TrainingModeName),
        "BUILDERS": (*BUILDERS, *PIECEWISE_BUILDERS),
        "MODE_LOSSES": MODE_LOSSES,
        "MODE_OPTIMIZERS": MODE_OPTIMIZERS,
    }
    lacking = {name: sorted(MODES.keys() ^ set(part)) for name, part in parts.items() if MODES.keys() ^ set(part)}
    assert not lacking, f"modes that are in MODES or in the part, but not in both: {lacking}"
    assert tuple(MODES) == typing.get_args(TrainingModeName)
    assert {name for name, mode in MODES.items() if mode.reads("n_bins")} == set(PIECEWISE_MODES)


@pytest.mark.parametrize("mode", TRAINING_MODES)
def test_a_saved_network_comes_back_as_the_class_that_it_was(mode: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(training_mode=mode)
    save_bundle(bundle, tmp_path)
    loaded = load_bundle(tmp_path / BUNDLE_NAME, map_location="cpu")
    assert type(loaded.model) is type(bundle.model), "model_training_mode and its neighbours know networks by class"


def test_a_row_names_settings_that_there_are() -> None:
    known = {field.name for field in dataclasses.fields(TrainingConfig)}
    assert set(MODE_SETTINGS) | set(SEARCH_RANGES) <= known
    for mode in MODES.values():
        assert mode.settings <= set(MODE_SETTINGS), mode.name
        assert mode.defaults.keys() <= known, mode.name


def test_the_settings_of_a_mode_import_no_torch() -> None:
    code = "import sys, ai.ml.core.training_modes; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_run_says_it(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    write_table(mixed_table(100), source)
    config = RetrainConfig(
        name="m",
        store=str(tmp_path / "store"),
        data=DataSettings(source=str(source), target="y"),
        training=TrainingSettings(training_mode="mlp_dense", epochs=1, members=3),
    )
    candidate = steps.train_candidate(config, steps.read_data(config))
    assert "the mode mlp_dense has no use for members = 3" in candidate.findings
