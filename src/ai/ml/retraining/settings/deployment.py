"""A deployment whose settings are those of a TOML file at the time of each run, so that there is one place to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BeforeValidator

from ai.ml.core.errors import UsageError
from ai.ml.retraining.settings.load import load_config
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.settings.segments import SegmentsConfig

FILE = "file"
"""No setting has this name at its top."""


def settings_of(given: Any) -> Any:
    """The settings that `{"name": "churn", "file": "retrain.toml"}` stands for; anything else as it came.

    The name is given beside the file, so that whoever looks at a run's parameters knows whose run it is.

    Raises:
        UsageError: the file can't be read, is another model's, asks for segments, or a key or value in it is off.
    """
    if isinstance(given, str) or (isinstance(given, dict) and FILE in given and not _is_form(given)):
        raise UsageError(f'expected {{"name": "churn", "file": "churn/retrain.toml"}} or settings, got {given!r}')
    if not isinstance(given, dict) or FILE not in given:
        return cast("Any", given)
    name, file = (str(cast("dict[str, Any]", given)[key]) for key in ("name", FILE))
    config = load_config(SegmentsConfig, Path(file))
    if config.name != name:
        raise UsageError(f"{file} is about the model {config.name!r}, the deployment about {name!r}: make them equal")
    if config.segments.wanted:
        raise UsageError(f"{file} asks for segments: deploy flows/retrain_segments.py:retrain_segments with settings")
    return config.single


def _is_form(given: dict[Any, Any]) -> bool:
    return given.keys() == {"name", FILE} and all(isinstance(value, str) for value in given.values())


SettingsOrFile = Annotated[RetrainConfig, BeforeValidator(settings_of)]
"""Settings, or the model's name and the TOML file that has them."""
