"""Groups of parts on a Dask cluster: one of this machine by default, or whatever scheduler an address names.

Dask's own deployers (Kubernetes, SLURM, YARN, clouds) give such an address. Workers that score need this package, the
same environment, and bundle, input and output under the same paths; they never talk to Prefect: what became of a group
is recorded here. Workers that retrain segments need Prefect, too, and the flows: `bundlegate[flows]` installed, or
this checkout on their `PYTHONPATH`.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext

from ai.ml.core.errors import BundlegateError, StorageFailed, UsageError
from ai.ml.retraining.batch.runners import Group, PartOutcome, ScoringTask, import_scoring, score_group_in_worker
from ai.ml.retraining.settings.predict import RunnerSettings

# Dask's nannies set 64 kB, under which every batch's memory goes back to the system and comes again: that costs more
# than twice the work itself. Workers that are started elsewhere take the same from
# DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON.
MALLOC_THRESHOLDS = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 28)}


def cluster_runner(settings: RunnerSettings) -> Any:
    """The Prefect task runner for a cluster.

    Raises:
        UsageError: the extra isn't installed, or no scheduler answers at the address.
    """
    try:
        import distributed
        from dask import config
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise UsageError("a Dask cluster needs the extra: pip install 'bundlegate[dask]'") from None
    if settings.scheduler is None:
        config.set(_worker_settings())
        # One thread of arithmetic each; no dashboard, and nobody outside this machine can connect.
        local = {"n_workers": settings.workers, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
        return DaskTaskRunner(cluster_class=_local_cluster, cluster_kwargs=local)
    try:
        distributed.Client(settings.scheduler, timeout=20, set_as_default=False).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {settings.scheduler}: {error}") from None
    return DaskTaskRunner(address=settings.scheduler)


def _worker_settings() -> dict[str, Any]:
    """Dask's configuration for workers of this machine."""
    context = FlowRunContext.get()
    # Or a worker's first task of Prefect starts a server of the worker's own.
    server = {} if context is None else {"PREFECT_API_URL": str(context.client.api_url)}
    return {
        "distributed.nanny.pre-spawn-environ": MALLOC_THRESHOLDS,
        "distributed.nanny.environ": server,
        # It looks at the worker's stack a hundred times a second, which takes a ninth of its time.
        "distributed.worker.profile.enabled": False,
    }


def cluster_slots(settings: RunnerSettings) -> int:
    """How many tasks a running cluster takes at once; the configured workers where it isn't started yet."""
    if settings.scheduler is None:
        return settings.workers
    import distributed

    with distributed.Client(settings.scheduler, timeout=20, set_as_default=False) as client:
        return max(1, sum(client.nthreads().values()))


def _local_cluster(**settings: Any) -> Any:
    from distributed import LocalCluster

    with without_main():
        return LocalCluster(**settings)


@contextmanager
def without_main() -> Generator[None]:
    """What is started meanwhile doesn't import this process's main module, and with it Prefect, before it works."""
    main = sys.modules["__main__"]
    hidden = {name: main.__dict__.pop(name) for name in ("__spec__", "__file__") if name in main.__dict__}
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)


@contextmanager
def cluster_started() -> Generator[None]:
    """Start the flow's cluster: workers import what scoring needs while the flow proves the bundle and lists parts."""
    client = _client()
    # Held, or Dask would call them off.
    imports = [client.submit(import_scoring, workers=[worker], pure=False) for worker in client.nthreads()]
    yield
    del imports


@task(name="score-group", task_run_name="score {group[0].name} …", cache_policy=NO_CACHE, persist_result=False)
def take_group(group: Group, scored: Any) -> list[PartOutcome]:
    """Record the end of a group of parts as a task run in Prefect.

    Args:
        group: its parts.
        scored: Dask's future.

    Raises:
        As `score_group_in_worker`.
        StorageFailed: the cluster was lost; what was done before stays.
    """
    try:
        outcomes, seconds = scored.result()
        _date_back(seconds)
        return outcomes
    except BundlegateError:
        raise
    except Exception as error:
        raise StorageFailed(
            f"the Dask cluster failed ({type(error).__name__}: {error}); run again to score the parts that are left"
        ) from error


def _date_back(seconds: float) -> None:
    """Let the task run that records a group have begun when the group did, as far as its duration tells."""
    context = TaskRunContext.get()
    state = None if context is None else context.task_run.state
    if context is None or state is None:
        return
    began = state.timestamp - timedelta(seconds=seconds)
    # Prefect reckons the run's duration from the one, and draws it from the other.
    state.timestamp = began
    cast("Any", context.task_run).start_time = began


def run_on_cluster(job: ScoringTask, groups: Sequence[Group]) -> Iterator[list[PartOutcome]]:
    """A `Runner` for the flow that calls it, on the cluster of the flow's own task runner.

    A group is a task of Dask's and, once it is done, a task run of Prefect's. Prefect's own tasks on a worker take it
    a tenth of a second each, and a connection of every worker to Prefect's server.

    Raises:
        As `take_group`.
    """
    from distributed import as_completed

    client = _client()
    futures = client.map(score_group_in_worker, [job] * len(groups), groups, pure=False)
    group_of = dict(zip(futures, groups, strict=True))
    for future in as_completed(futures, loop=client.loop):
        yield take_group(group_of.pop(future), future)


def _client() -> Any:
    """Dask's client of the flow's task runner, whose first use starts the cluster."""
    context = FlowRunContext.get()
    assert context is not None
    return context.task_runner.client  # pyright: ignore[reportAttributeAccessIssue]
