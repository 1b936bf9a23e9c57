"""What Prefect gets to know of settings: it keeps a run's parameters in its database, and its API serves them."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from pydantic import BaseModel

from ai.ml.core.tables.locations import hide_password

Settings = TypeVar("Settings", bound=BaseModel)


def without_passwords(settings: Settings) -> Settings:
    """The same settings, the URL of each database without its password; who connects gets it from this process."""
    return cast("Settings", _hidden(settings))


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return hide_password(value)
    if isinstance(value, BaseModel):
        kept = {name: getattr(value, name) for name in type(value).model_fields}
        changed = {name: new for name, old in kept.items() if (new := _hidden(old)) != old}
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, list | tuple):
        return type(cast("list[Any]", value))(map(_hidden, cast("list[Any]", value)))
    return value
