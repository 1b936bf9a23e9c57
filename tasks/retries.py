"""What is worth a second try: a disk or a network that failed, never a table, a setting or a verdict."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State, TaskRun

from ai.ml.core.errors import Busy, StorageFailed

RETRY_DELAYS = [2.0, 10.0, 60.0]
"""Seconds; jitter is added so that runs that failed together don't come back together."""


def failed_storage(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """True if the step failed for a reason that can pass by itself."""
    error: Any = state.data
    if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)):
        return False
    return isinstance(error, (StorageFailed, Busy, TimeoutError, ConnectionError))


def failed_disk(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """The same for the promotion: `Busy` there means that another champion stands, which waiting doesn't change."""
    return isinstance(state.data, StorageFailed)


RETRIED: dict[str, Any] = {
    "retries": len(RETRY_DELAYS),
    "retry_delay_seconds": RETRY_DELAYS,
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": failed_storage,
}
"""Settings of a task that is tried again for that, and for nothing else."""
RETRIED_FOR_DISK: dict[str, Any] = {**RETRIED, "retry_condition_fn": failed_disk}
