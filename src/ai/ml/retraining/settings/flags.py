"""Command-line flags made from a settings class, so that a flag, a TOML key and a form field are one thing."""

from __future__ import annotations

import argparse
import types
import typing
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ai.ml.core.errors import UsageError
from ai.ml.retraining.settings.flag import Flag

if TYPE_CHECKING:
    from ai.ml.core.tables.reader import ReadOptions

READING = ("delimiter", "encoding", "decimal", "thousands", "sheet", "query")
"""The flags of the console commands that say how to read a table, by the names of `ReadOptions`."""

NOT_SETTINGS = frozenset({"config", "json", "resume"})
"""Flags of the command line itself; no section may have fields of these names at its top."""


def add_settings(parser: argparse.ArgumentParser, model: type[BaseModel], *, prefix: str = "") -> None:
    """Add one flag per field of `model`, nested sections as argument groups; nothing gets a default here."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            group = parser.add_argument_group(name, inner.__doc__)
            for key, inner_field in inner.model_fields.items():
                _add_flag(group, f"{prefix}{name}.{key}", inner_field)
        else:
            _add_flag(parser, f"{prefix}{name}", field)


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given as flags, nested as in the TOML file."""
    nested: dict[str, Any] = {}
    for path, value in vars(arguments).items():
        if value is None or path in NOT_SETTINGS:
            continue
        *sections, key = path.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return nested


def reading_of(arguments: argparse.Namespace) -> ReadOptions:
    """How to read a table, from a console command's flags.

    Raises:
        UsageError: the marks don't go together.
    """
    from ai.ml.core.tables.reader import ReadOptions

    return ReadOptions(**{name: getattr(arguments, name) for name in READING})


def _add_flag(parser: Any, path: str, field: FieldInfo) -> None:
    flag = next((item for item in field.metadata if isinstance(item, Flag)), Flag("--" + _flag_name(path)))
    options: dict[str, Any] = {"dest": path, "default": None, "help": _help(field)}
    kinds = _kinds(field.annotation)
    if bool in kinds:
        options["action"] = argparse.BooleanOptionalAction
    elif tuple in kinds:
        options |= {"action": "extend", "nargs": "+", "metavar": "COLUMN" if "columns" in path else "VALUE"}
    elif dict in kinds:
        options |= {"action": _Pairs, "nargs": "+", "metavar": flag.pair or "METRIC=LIMIT"}
    else:
        options["metavar"] = path.rpartition(".")[2].upper()
    parser.add_argument(*flag.names, **options)


def _flag_name(path: str) -> str:
    """A list of columns is given one or more at a time: `--keep-column id --keep-column code`."""
    name = path.rpartition(".")[2].replace("_", "-")
    return name.removesuffix("s") if name.endswith("-columns") else name


def _help(field: FieldInfo) -> str:
    text = (field.description or "").replace("%", "%%")
    choices = [str(value) for kind in _parts(field.annotation) for value in typing.get_args(kind)]
    if choices and all(typing.get_origin(kind) in (typing.Literal, None) for kind in _parts(field.annotation)):
        text += f" ({', '.join(choices)})"
    shown = field.get_default(call_default_factory=True) if not field.is_required() else None
    return text if shown in (None, (), {}, "") else f"{text} [{shown}]"


def _parts(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return list(typing.get_args(annotation))
    return [annotation]


def _kinds(annotation: Any) -> set[Any]:
    return {typing.get_origin(part) or part for part in _parts(annotation)}


class _Pairs(argparse.Action):
    """`accuracy=0.8 auc=0.7` as a dict."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        pairs: dict[str, str] = dict(getattr(namespace, self.dest) or {})
        for text in values:
            key, equals, value = str(text).partition("=")
            if not equals:
                raise UsageError(f"{option_string} wants {self.metavar}, got {text!r}")
            pairs[key] = value
        setattr(namespace, self.dest, pairs)
