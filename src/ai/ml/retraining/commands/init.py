"""Starter files for a table of one's own: a commented `retrain.toml` and a `prefect.yaml`, made from the settings."""

from __future__ import annotations

import json
import sys
import tempfile
import textwrap
from argparse import Namespace
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ai.ml.core.errors import ExitCode, UsageError
from ai.ml.core.files.atomic import make_dirs, write_atomic
from ai.ml.core.tables.locations import is_url, source_name
from ai.ml.retraining.console.installation import flow_entrypoint, from_checkout
from ai.ml.retraining.settings.load import load_config
from ai.ml.retraining.settings.reading import READING, read_options
from ai.ml.retraining.settings.segments import SegmentsConfig

SETTINGS, DEPLOYMENTS = "retrain.toml", "prefect.yaml"
POOL = "bundlegate"
"""The work pool of the deployments; `prefect deploy` ends with 1 where it doesn't exist."""
PLACEHOLDERS = {"name": "my-model", "data.source": "my-table.csv", "data.target": "my_target"}
WIDTH = 100
FIRST_LOOK_ROWS = 1_000


def init(arguments: Namespace) -> int:
    """Write both files and print the next steps; nothing is overwritten.

    Raises:
        UsageError: one of the files is there, or an address has a password in it.
        StorageFailed: the folder can't be made or written to.
        DataRefused: there is no such table, or it has no such target.
    """
    folder: Path = arguments.folder
    # Whole paths: a worker's runs begin in another folder.
    given = {
        "name": arguments.name,
        "store": whole(arguments.store),
        "data.source": arguments.data and whole(arguments.data),
        "data.target": arguments.target,
    } | {f"data.{name}": getattr(arguments, name) for name in READING}
    values = {key: value for key, value in given.items() if value not in (None, [])}
    paths = [folder / SETTINGS, folder / DEPLOYMENTS]
    for path in paths:
        if path.exists():
            raise UsageError(f"{path} is there already; move it away, or name another folder")
    for flag in ("data", "store"):
        _refuse_password(f"--{flag}", getattr(arguments, flag), paths[0])
    _check_table(arguments)
    text = starter_toml(SegmentsConfig, values).encode()
    with tempfile.TemporaryDirectory() as scratch:
        # Checked before anything is left in the folder.
        write_atomic(Path(scratch) / SETTINGS, text)
        config = load_config(SegmentsConfig, Path(scratch) / SETTINGS)
    make_dirs(folder)
    write_atomic(paths[0], text)
    write_atomic(paths[1], starter_deployments(config.name, folder.absolute()).encode())
    missing = [key for key in PLACEHOLDERS if key not in values]
    if missing:
        print(f"{paths[0]}: set {', '.join(missing)}, then")
    # The programs beside this interpreter: a virtual environment need not be activated.
    programs = _from_here(Path(sys.executable).parent)
    print("next:")
    print(f"{programs / 'bundlegate'} retrain --config {paths[0]}    # train, prove, decide")
    print(f"every night, with a server running and PREFECT_API_URL set{from_checkout()}:")
    print(f"{programs / 'prefect'} work-pool create {POOL} --type process    # once per server")
    print(f"{programs / 'prefect'} --no-prompt deploy --all --prefect-file {paths[1]}")
    print(f"{programs / 'prefect'} worker start --pool {POOL}    # makes the runs that are due, until it is stopped")
    return ExitCode.OK


def _refuse_password(flag: str, location: str | None, file: Path) -> None:
    """Refuse a URL with a password, since a file of settings is copied and committed."""
    if location is not None and source_name(location) != location:
        raise UsageError(
            f"{flag} {source_name(location)} has a password in it, which would stand in {file}: leave it out of the "
            "address, and let the environment of the runs give it ($PGPASSWORD or ~/.pgpass for PostgreSQL)"
        )


def _check_table(arguments: Namespace) -> None:
    """Check that a local table exists and has the target, before torch is imported."""
    source: str | None = arguments.data
    if source is None or is_url(source):
        return
    from ai.ml.core.contract.target import target_array
    from ai.ml.core.tables.reader import read_batches

    first = next(iter(read_batches(source, read_options(arguments), FIRST_LOOK_ROWS)), None)
    if first is not None and arguments.target is not None:
        target_array(pa.Table.from_batches([first]), arguments.target)


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def starter_toml(model: type[BaseModel], values: dict[str, str]) -> str:
    """All settings with their descriptions; those with a default are commented out.

    Args:
        model: the settings.
        values: by dotted path, for the keys that must be set; the others get a placeholder.
    """
    lines = ["# Everything that a flag can set can stand here; flags win. An unknown key is refused.", ""]
    sections: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        inner = section_of(field)
        if inner is None:
            lines += _entry(name, name, field, values)
        else:
            sections.append((name, inner))
    for name, inner in sections:
        lines += [f"[{name}]", *_comment(inner.__doc__ or ""), ""]
        for key, field in inner.model_fields.items():
            lines += _entry(f"{name}.{key}", key, field, values)
    return "\n".join(lines).rstrip() + "\n"


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The settings class of a field that is a section, also of one that may be left out."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def whole(location: str) -> str:
    """A path from the root on; an address stays as it is."""
    return location if is_url(location) else str(Path(location).absolute())


def _entry(path: str, key: str, field: FieldInfo, values: dict[str, str]) -> list[str]:
    comment = _comment(field.description or "")
    if field.is_required():
        return [*comment, f"{key} = {_toml(values.get(path, PLACEHOLDERS.get(path, '')))}", ""]
    default = field.get_default(call_default_factory=True)
    if values.get(path, default) != default:
        return [*comment, f"{key} = {_toml(values[path])}", ""]
    return [*comment, f"# {key} = …  (not set)" if default is None else f"# {key} = {_toml(default)}", ""]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), WIDTH)]


def _toml(value: Any) -> str:
    """A value as TOML writes it; JSON's form is TOML's for all but tables."""
    if isinstance(value, dict):
        pairs: dict[str, Any] = dict(value)
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in pairs.items()) + "}"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def starter_deployments(name: str, folder: Path) -> str:
    """A `prefect.yaml` that retrains every night with the settings of `retrain.toml` at that time."""
    return f"""\
# With a server running and PREFECT_API_URL set{from_checkout(of=" of bundlegate")}; the first line once per server:
# prefect work-pool create {POOL} --type process
# prefect --no-prompt deploy --all --prefect-file {json.dumps(str(folder / DEPLOYMENTS))}
# prefect worker start --pool {POOL}
name: {json.dumps(name)}
pull: null

deployments:
  - name: {json.dumps(name + "-nightly")}
    entrypoint: {flow_entrypoint("retrain")}
    description: Train, prove, and promote every night at half past two.
    tags: [bundlegate, retrain]
    schedules:
      - cron: "30 2 * * *"
        timezone: UTC
        active: true
    # One model is never retrained twice at once: a run that comes too early waits for the one before.
    concurrency_limit:
      limit: 1
      collision_strategy: ENQUEUE
    # Each run reads the file when it starts: what is changed there counts from the next night on.
    parameters:
      config:
        name: {json.dumps(name)}
        file: {json.dumps(str(folder / SETTINGS))}
    # The form of these parameters would ask for what is in the file.
    enforce_parameter_schema: false
    work_pool:
      name: {POOL}
      job_variables:
        env:
          # What a run says goes to the server, too, and nothing to anybody else.
          PREFECT_LOGGING_EXTRA_LOGGERS: bundlegate
          PREFECT_SERVER_ANALYTICS_ENABLED: "false"
          DO_NOT_TRACK: "1"
"""
