"""Retraining of many models at once: the table is cut into segments, each of which has a run of `retrain` of its own.

`python -m flows.retrain --name churn --data churn.csv --target churned --segments country` comes here.
"""

from __future__ import annotations

import sys
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from ai.ml.retraining.runs.summary import show_summary
from ai.ml.retraining.segments import cut as segments
from ai.ml.retraining.segments.cut import SegmentPlan
from ai.ml.retraining.segments.outcome import SegmentOutcome, SegmentsSummary, show_segments
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.settings.segments import SegmentsConfig
from flows.retrain import retrain
from tasks.approval.ask import require_server
from tasks.cluster import cluster_runner, cluster_slots
from tasks.command_line import run_from_command_line
from tasks.subflows.runs import ClusterProcesses
from tasks.subflows.schedule import cut_table, final_state, retrain_each, summarize

NIGHT = 24 * 3600


@flow(
    flow_run_name="retrain-segments-of-{config.name}",
    persist_result=True,
    result_serializer="json",
    timeout_seconds=NIGHT,
)
def retrain_segments(config: SegmentsConfig) -> SegmentsSummary | State[SegmentsSummary]:
    """Cut the table once → retrain each segment in a run and a process of its own → one table of what became of them.

    A segment that fails doesn't stop the others; the run's exit code is that of the worst one.

    Raises:
        DataRefused: the table can't be read or cut.
        Busy: another run is cutting a table for these models.
    """
    require_server(config)
    with segments.locked_segments(config):
        plan = cut_table(config)
        if config.segments.runner == "dask":
            outcomes = retrain_on_cluster.with_options(task_runner=cluster_runner(config.cluster))(config, plan)
        else:
            outcomes = retrain_each(retrain, config, plan, config.at_once)
    return final_state(summarize(config, plan, outcomes))


@flow(flow_run_name="segments-of-{config.name}", persist_result=True, result_serializer="json")
def retrain_on_cluster(config: SegmentsConfig, plan: SegmentPlan) -> list[SegmentOutcome]:
    """Retrain the segments on a Dask cluster: a task for each."""
    at_once = config.segments.parallel or cluster_slots(config.cluster)
    return retrain_each(retrain, config, plan, at_once, ClusterProcesses())


def one_or_many(config: RetrainConfig) -> tuple[Any, Any, Any]:
    """The flow that the settings want, its own settings, and what shows its result."""
    if not isinstance(config, SegmentsConfig):
        return retrain, config, show_summary
    if config.segments.wanted:
        return retrain_segments, config, show_segments
    return retrain, config.single, show_summary


def main(argv: list[str] | None = None) -> int:
    """Run the flow once from flags or a TOML file; the exit code is the result."""
    return run_from_command_line(retrain_segments, SegmentsConfig, show_segments, argv, choose=one_or_many)


if __name__ == "__main__":
    sys.exit(main())
