"""Settings from a TOML file with the flags' values laid over it; a mistake is one sentence that names the key."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from ai.ml.core.errors import UsageError
from ai.ml.retraining.settings.fields import SomeSection


def load_config(
    model: type[SomeSection], file: Path | None = None, overrides: dict[str, Any] | None = None
) -> SomeSection:
    """Check a TOML file with the flags' values laid over it.

    Args:
        model: the settings to fill, such as `RetrainConfig`.
        file: TOML with the same sections and keys; `None` starts from nothing.
        overrides: nested like the file; these win.

    Raises:
        UsageError: the file can't be read, or a key or value is off; the sentence names it.
    """
    values = _read_toml(file) if file is not None else {}
    merged = _merge(values, overrides or {})
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        where = f"{file}: " if file is not None else ""
        raise UsageError(where + "; ".join(_sentence(model, dict(issue)) for issue in error.errors())) from None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no configuration file at {file}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{file} can't be read as TOML: {error}") from None


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        both = isinstance(value, dict) and isinstance(inner, dict)
        merged[key] = _merge(cast("dict[str, Any]", inner), cast("dict[str, Any]", value)) if both else value
    return merged


def _sentence(model: type[BaseModel], issue: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in issue["loc"])
    match issue["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(str(issue["loc"][-1]), _known_keys(model, issue["loc"][:-1]), n=1)
            return f"unknown key {path}" + (f": did you mean {near[0]}?" if near else "")
        case "missing":
            return f"{path} is missing"
        case "value_error" if not path:
            return str(issue["ctx"]["error"])
        case "value_error":
            return f"{path} = {issue['input']!r}: {issue['ctx']['error']}"
        case _:
            return f"{path} = {issue['input']!r}: {issue['msg'][0].lower()}{issue['msg'][1:]}"


def _known_keys(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)
