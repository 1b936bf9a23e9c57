"""Groups of parts on a Dask cluster: one of this machine by default, or whatever scheduler an address names.

Dask's own deployers (Kubernetes, SLURM, YARN, clouds) give such an address. Workers need this checkout on their
`PYTHONPATH`, the same environment, and bundle, input and output under the same paths; the extra `dask` brings the rest.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed

from ai.ml.core.errors import BundlegateError, StorageFailed, UsageError
from ai.ml.retraining.batch_config import RunnerSettings
from ai.ml.retraining.runners import Group, PartOutcome, ScoringTask, score_group_in_worker

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
        config.set({"distributed.nanny.pre-spawn-environ": MALLOC_THRESHOLDS})
        # One thread of arithmetic each; no dashboard, and nobody outside this machine can connect.
        local = {"n_workers": settings.workers, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
        return DaskTaskRunner(cluster_kwargs=local)
    try:
        distributed.Client(settings.scheduler, timeout=20, set_as_default=False).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {settings.scheduler}: {error}") from None
    return DaskTaskRunner(address=settings.scheduler)


def cluster_slots(settings: RunnerSettings) -> int:
    """How many tasks a running cluster takes at once; the workers that are asked for where it is yet to be started."""
    if settings.scheduler is None:
        return settings.workers
    import distributed

    with distributed.Client(settings.scheduler, timeout=20, set_as_default=False) as client:
        return max(1, sum(client.nthreads().values()))


@task(name="score-group", task_run_name="score {group[0].name} …", cache_policy=NO_CACHE, persist_result=False)
def score_on_worker(job: ScoringTask, group: Group) -> list[PartOutcome]:
    """Score a group in this worker; the bundle is loaded and proven once per worker process.

    Raises:
        As `score_group_in_worker`.
    """
    return score_group_in_worker(job, group, _worker_name)


def run_on_cluster(job: ScoringTask, groups: Sequence[Group]) -> Iterator[list[PartOutcome]]:
    """A `Runner` for the flow that calls it: one Prefect task per group, on the flow's own task runner.

    Raises:
        As `score_group`.
        StorageFailed: the cluster was lost; what was done before stays.
    """
    futures = [score_on_worker.submit(job, group) for group in groups]
    try:
        for future in as_completed(futures):
            yield future.result()
    except BundlegateError:
        raise
    except Exception as error:
        raise StorageFailed(
            f"the Dask cluster failed ({type(error).__name__}: {error}); run again to score the parts that are left"
        ) from error


def _worker_name() -> str:
    from distributed import get_worker

    return f"{get_worker().address} on {socket.gethostname()}"
