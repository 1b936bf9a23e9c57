"""One definition for the TOML file, the flags and the flow's form."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from pydantic import BaseModel

from ai.ml.core.errors import UsageError
from ai.ml.core.split_config import SplitConfig
from ai.ml.core.types import TrainingConfig
from ai.ml.retraining.settings.flags import add_settings, given_settings
from ai.ml.retraining.settings.load import load_config
from ai.ml.retraining.settings.retrain import RetrainConfig, TrainingSettings
from flows.retrain import retrain

TOML = """
name = "churn"

[data]
source = "churn.csv"
target = "churned"

[training]
epochs = 30
exclude_columns = ["id"]

[decision.floors]
accuracy = 0.7
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "retrain.toml"
    path.write_text(TOML)
    return path


def flags(*arguments: str) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    add_settings(parser, RetrainConfig)
    return given_settings(parser.parse_args(arguments))


def test_flags_win_over_the_file(toml: Path) -> None:
    given = flags("--epochs", "7", "--store", "s", "--floors", "auc=0.8", "--cpu-matrix", "--keep-column", "a", "b")
    config = load_config(RetrainConfig, toml, given)
    assert (config.name, config.store, config.training.epochs) == ("churn", "s", 7)
    assert config.training.exclude_columns == ("id",)
    assert config.training.keep_columns == ("a", "b")
    assert config.decision.floors == {"accuracy": 0.7, "auc": 0.8}
    assert config.gate.cpu_matrix is True


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epoch = 3\n", r"unknown key training.epoch: did you mean epochs\?"),
        ("budget_seconds = inf\n", "training.budget_seconds = inf: input should be a finite number"),
        ("num_threads = 100000\n", "training.num_threads = 100000: input should be less than or equal to 1024"),
        ("epochs = 0\n", "training.epochs = 0: input should be greater than or equal to 1"),
        ('device = "tpu"\n', "training.device = 'tpu'"),
        ('training_mode = "mlp"\n', "training.training_mode = 'mlp'"),
        ("test_size = 1.0\n", "training.test_size = 1.0"),
    ],
)
def test_a_key_or_value_that_is_off_is_named(toml: Path, text: str, sentence: str) -> None:
    toml.write_text(TOML.replace("epochs = 30\n", text))
    with pytest.raises(UsageError, match=f"retrain.toml: {sentence}"):
        load_config(RetrainConfig, toml)


def test_a_split_is_named_by_its_column_and_settings_that_do_not_go_together_are_said(toml: Path) -> None:
    def rule(*arguments: str) -> SplitConfig:
        return load_config(RetrainConfig, toml, flags(*arguments)).split.rule()

    assert rule() == SplitConfig("hash")
    assert rule("--key", "id", "day") == SplitConfig("hash", key=("id", "day"))
    assert rule("--time", "day", "--holdout", "14d", "--gap", "1d", "--group", "home") == SplitConfig(
        "time", time="day", holdout="14d", gap="1d", group="home"
    )
    assert rule("--group", "home", "--salt", "b") == SplitConfig("group", group="home", salt="b")
    assert rule("--split", "random") == SplitConfig()
    assert TrainingSettings().for_target("y", rule("--split", "time", "--time", "day")).split.kind == "time"
    for arguments, sentence in (
        (("--split", "time"), "a split by time needs the column: --time COLUMN"),
        (("--split", "random", "--key", "id"), "key belongs to a split by hash, this one is random"),
        (("--holdout", "14d"), "holdout belongs to a split by time, this one is hash"),
        (("--time", "day", "--gap", "soon"), "gap 'soon' is no span: expected a number and min, h, d or w, as 14d"),
    ):
        with pytest.raises(UsageError, match=f"^{toml}: {sentence}$"):
            rule(*arguments)


def test_a_missing_or_broken_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no configuration file at"):
        load_config(RetrainConfig, tmp_path / "gone.toml")
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(UsageError, match="can't be read as TOML"):
        load_config(RetrainConfig, tmp_path / "broken.toml")


def test_the_trainers_record_has_the_same_defaults_but_for_the_mode_its_batches_and_its_pace() -> None:
    chosen = TrainingConfig("y", training_mode="tabm", batch_size=None, learning_rate=0.003, patience=12)
    assert TrainingSettings().for_target("y") == chosen
    as_recorded = TrainingConfig("y", training_mode="tabresnet", batch_size=None)
    assert TrainingSettings(training_mode="tabresnet").for_target("y") == as_recorded
    given = TrainingSettings(learning_rate=0.01, patience=7).for_target("y")
    assert (given.learning_rate, given.patience) == (0.01, 7)
    assert (TrainingConfig("y").training_mode, TrainingConfig("y").batch_size) == ("mlp_dense", 64)


def test_every_setting_has_a_description_and_a_flag() -> None:
    parser = argparse.ArgumentParser()
    add_settings(parser, RetrainConfig)
    known = {action.dest for action in parser._actions}

    def check(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                check(inner, f"{prefix}{name}.")
            else:
                assert field.description, name
                assert f"{prefix}{name}" in known

    check(RetrainConfig, "")


def test_the_flows_form_shows_every_setting() -> None:
    definitions = retrain.parameters.definitions
    assert set(TrainingSettings.model_fields) <= set(definitions["TrainingSettings"]["properties"])
    assert definitions["TrainingSettings"]["properties"]["epochs"]["description"]
