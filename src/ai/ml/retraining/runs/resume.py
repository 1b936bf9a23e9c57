"""The settings of a retraining, kept in the model's work folder until it is done, so that it can be resumed."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ai.ml.core.errors import StorageFailed, UsageError
from ai.ml.core.files.atomic import dump_json, sha256_bytes, write_atomic
from ai.ml.core.files.user_folders import StateFile, state_file
from ai.ml.core.tables.locations import source_name, with_password
from ai.ml.retraining.settings.load import load_config
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.location import checked_name, work_folder

FILE = "run.json"
FORMAT = 1


def write_run(work: Path, config: RetrainConfig) -> None:
    """Keep the settings of a run that begins; of a database URL everything but its password.

    Raises:
        StorageFailed: the disk refused.
    """
    settings = config.model_dump(mode="json")
    shown = source_name(config.data.source)
    settings["data"]["source"] = shown
    record = {
        "format": FORMAT,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "folder": str(Path.cwd()),
        "secret": shown != with_password(config.data.source),
        "settings": settings,
    }
    content = dump_json(record)
    _memory(work / FILE).keep(sha256_bytes(content).encode())
    write_atomic(work / FILE, content)


def remove_run(work: Path) -> None:
    """Remove the settings of a run that has ended: there is nothing to resume."""
    with contextlib.suppress(FileNotFoundError):
        (work / FILE).unlink()
    with contextlib.suppress(StorageFailed):
        _memory(work / FILE).remove()


def interrupted_run(name: str, given: dict[str, Any]) -> RetrainConfig:
    """The settings of the last run of a model, if that didn't come to its end.

    Args:
        name: the model's.
        given: `store`, where it isn't the default, and `data.source` again, where the run's was a URL with a password.

    Raises:
        UsageError: there is no such run, what it left can't be read or isn't what a run on this machine wrote, it was
            started in another folder, or what is given is more than that or another source.
    """
    store = str(given.get("store", RetrainConfig.model_fields["store"].default))
    source: str | None = given.get("data", {}).get("source")
    path = work_folder(store, checked_name(name)) / FILE
    record = _read(path, name)
    _refuse_foreign(path, name)
    settings: dict[str, Any] = record["settings"]
    shown = settings["data"]["source"]
    if given.keys() - {"store", "data"} or given.get("data", {}).keys() - {"source"}:
        raise UsageError("--resume takes the interrupted run's settings: only --store and --data go with it")
    if record["folder"] != str(Path.cwd()):
        raise UsageError(f"the run of {name} was started in {record['folder']}, where its paths begin: resume it there")
    if record["secret"] and source is None:
        raise UsageError(f"the password of {shown} is kept nowhere: give --data with the whole URL again")
    if source is not None and source_name(source) != shown:
        raise UsageError(f"the run of {name} reads {shown}, not {source_name(source)}")
    settings["data"]["source"] = source or shown
    # The store as it is reached now, which may be by another spelling.
    config = load_config(RetrainConfig, None, {**settings, "store": store})
    if config.name != name:
        raise UsageError(f"{path} is of a run of {config.name}: start {name} with its settings instead")
    return config


def _memory(path: Path) -> StateFile:
    """Where this machine keeps the sha-256 of what its run wrote into the store."""
    return state_file("runs", f"{sha256_bytes(os.path.realpath(path).encode())}.sha256")


def _refuse_foreign(path: Path, name: str) -> None:
    """The settings name programs, sources and queries: who may write into the store must not choose them.

    Raises:
        UsageError: the file isn't the one that a run on this machine wrote.
    """
    memory = _memory(path).path
    try:
        known = None if memory is None else memory.read_text()
    except OSError:
        known = None
    if known != sha256_bytes(path.read_bytes()):
        raise UsageError(
            f"{path} isn't what a run on this machine wrote, and such a file may name programs to start: start {name} "
            "with its settings instead"
        )


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        record: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"there is nothing to resume: no run of {name} was interrupted in {path.parent}; start it with its settings"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} can't be read ({error}): start {name} with its settings instead") from None
    if not _is_whole(record):
        raise UsageError(f"{path} isn't what a run of this version leaves: start {name} with its settings instead")
    return record


def _is_whole(record: Any) -> bool:
    kinds = {"format": int, "folder": str, "secret": bool, "settings": dict}
    if not isinstance(record, dict) or not all(isinstance(record.get(key), kind) for key, kind in kinds.items()):
        return False
    data: Any = record["settings"].get("data")
    return record["format"] == FORMAT and isinstance(data, dict) and isinstance(data.get("source"), str)
