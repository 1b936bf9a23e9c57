"""Command-line flags made from a settings class, so that a flag, a TOML key and a form field are one thing."""

from __future__ import annotations

import argparse
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ai.ml.core.errors import UsageError
from ai.ml.retraining.settings.fields import Flag, Section, SomeSection
from ai.ml.retraining.settings.load import load_config

NOT_SETTINGS = frozenset({"config", "json", "no_prefect", "resume"})
"""Flags of the command line itself; no section may have fields of these names at its top."""


def settings_parser(program: str, settings: type[BaseModel], *, resumable: bool) -> argparse.ArgumentParser:
    """The command line of a flow: its settings as flags, `--config`, `--json`, and `--resume` if it can be."""
    parser = argparse.ArgumentParser(prog=program, description=settings.__doc__)
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument("--config", type=Path, metavar="FILE.toml", help="settings as TOML; flags win over it")
    if resumable:
        help_ = "go on with the settings of this model's last run, which didn't come to its end"
        origin.add_argument("--resume", metavar="NAME", help=help_)
    parser.add_argument("--json", action="store_true", help="print the run's record as JSON, nothing else on stdout")
    add_settings(parser, settings)
    return parser


def asked_settings(
    given: argparse.Namespace,
    settings: type[SomeSection],
    resume: Callable[[str, dict[str, Any]], Section] | None = None,
) -> SomeSection | Section:
    """The settings of a command line of `settings_parser`.

    Args:
        given: as parsed.
        settings: their class.
        resume: gives the settings of an interrupted run from its model's name and the flags beside `--resume`.

    Raises:
        UsageError: a value is off, a required one is missing, or there is nothing to resume.
    """
    values = given_settings(given)
    name: str | None = getattr(given, "resume", None)
    if resume is not None and name is not None:
        return resume(name, values)
    return load_config(settings, given.config, values)


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
        section_values = nested
        for section in sections:
            section_values = section_values.setdefault(section, {})
        section_values[key] = value
    return nested


def _add_flag(parser: Any, path: str, field: FieldInfo) -> None:
    flag = next((item for item in field.metadata if isinstance(item, Flag)), Flag("--" + _flag_name(path)))
    options: dict[str, Any] = {"dest": path, "default": None, "help": _help(field)}
    kinds = _kinds(field.annotation)
    if bool in kinds:
        options["action"] = argparse.BooleanOptionalAction
    elif tuple in kinds:
        holds_columns = "columns" in path or path == "split.key"
        options |= {"action": "extend", "nargs": "+", "metavar": "COLUMN" if holds_columns else "VALUE"}
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
    text = field.description or ""
    choices = [str(value) for kind in _parts(field.annotation) for value in typing.get_args(kind)]
    if choices and all(typing.get_origin(kind) in (typing.Literal, None) for kind in _parts(field.annotation)):
        text += f" ({', '.join(choices)})"
    shown = field.get_default(call_default_factory=True) if not field.is_required() else None
    help_text = text if shown in (None, (), {}, "") else f"{text} [{shown}]"
    # argparse expands what follows a percent sign.
    return help_text.replace("%", "%%")


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
