"""Caching of task results that verifies the files behind a result before it is reused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore, get_result_store

from ai.ml.core.errors import BundlegateError, UsageError
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.records import Record, code_version, content_key, problems
from tasks.stored_record import foreign

# Settings of every task: its result is small JSON, and it is stored.
KEPT: dict[str, Any] = {"persist_result": True, "result_serializer": "json"}


@dataclass
class PersistOnly(CachePolicy):
    """The result is stored with the run and never found again: for steps that must look at the disk every time.

    Prefect's `NO_CACHE` stores nothing at all.
    """

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """A key of its own for every execution."""
        return f"{task_ctx.task.name}-{uuid4().hex}"


@dataclass
class ContentKey(CachePolicy):
    """Key = content of the inputs + version of the code; a record whose files are missing or changed is dropped.

    Prefect's own policies hand out a stored result without a look at what it points to: with the bundle deleted a run
    ends Completed with a dangling path. So `compute_key` reads the stored record, hashes everything behind it, and
    removes the record if anything differs, so that the task runs again.
    """

    inputs: Callable[[dict[str, Any]], object] = lambda inputs: inputs
    """Picks from the task's arguments the content that decides its result."""

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """The key, after a stale record under it was removed."""
        try:
            content = content_key(self.inputs(inputs), code_version())
        except (OSError, BundlegateError):
            # The step itself will say what can't be read; Prefect would show a traceback here.
            content = uuid4().hex
        key = f"{task_ctx.task.name}-{content}"
        store = get_result_store()
        stale = _stale_reasons(store, key)
        if stale:
            logger.warning("%s is done again: %s", task_ctx.task.name, "; ".join(stale))
            _forget(store, key)
        return key


def _stale_reasons(store: ResultStore, key: str) -> list[str]:
    stored = _record_path(store, key)
    reason = foreign(stored) if stored is not None and stored.exists() else None
    if reason is not None:
        return [f"its checkpoint {reason}"]
    if not store.exists(key):
        # Prefect calls a record absent that it can't read.
        return ["its checkpoint can't be read"] if stored is not None and stored.exists() else []
    try:
        result = store.read(key).result
        if not isinstance(result, Record):
            return [f"its checkpoint holds no record, but a {type(result).__name__}"]
        return problems(result)
    except Exception as error:
        return [f"its checkpoint can't be read ({type(error).__name__}: {error})"]


def _forget(store: ResultStore, key: str) -> None:
    record = _record_path(store, key)
    if record is None:
        kind = type(store.result_storage).__name__
        raise UsageError(
            f"checkpoints need Prefect's results in a folder of this machine, not in a {kind}: name a "
            "local-file-system block by PREFECT_DEFAULT_RESULT_STORAGE_BLOCK, or unset it"
        )
    record.unlink(missing_ok=True)
    store.cache.pop(store._resolved_key_path(key), None)  # pyright: ignore[reportPrivateUsage]


def _record_path(store: ResultStore, key: str) -> Path | None:
    storage = store.result_storage
    return storage._resolve_path(key) if isinstance(storage, LocalFileSystem) else None  # pyright: ignore[reportPrivateUsage]
