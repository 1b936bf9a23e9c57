"""Retraining segments: the table cut once, then one sub-run for each."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow as pa
from prefect import Flow, task
from prefect.client.schemas.objects import State
from prefect.states import Failed

from ai.ml.retraining.console.progress import logger, working
from ai.ml.retraining.records import RetrainSummary
from ai.ml.retraining.runs.steps.source import source_key
from ai.ml.retraining.segments import cut as segments
from ai.ml.retraining.segments import outcome
from ai.ml.retraining.segments.cut import SegmentPlan, segment_config
from ai.ml.retraining.segments.outcome import (
    SegmentOutcome,
    SegmentsSummary,
    decided_segment,
    failed_segment,
    refused_segment,
    segment_rows,
)
from ai.ml.retraining.settings.segments import SegmentsConfig
from tasks.artifacts import publish_table
from tasks.caching import KEPT, ContentKey
from tasks.retries import RETRIED
from tasks.subflows.child import SubRunEnd
from tasks.subflows.runs import ClusterProcesses, Job, SubRuns


@task(
    name="cut-table",
    task_run_name="cut the table of {config.name}",
    cache_policy=ContentKey(
        inputs=lambda inputs: [
            source_key(inputs["config"].data),
            inputs["config"].segments.plan_identity(),
            str(segments.segments_dir(inputs["config"])),
        ]
    ),
    **KEPT,
    **RETRIED,
)
def cut_table(config: SegmentsConfig) -> SegmentPlan:
    """Read the table once and keep each segment's rows in a file of their own."""
    with working("reading"):
        plan = segments.cut_table(config)
    # The table's memory isn't needed any more, and the segments' processes will need it.
    pa.default_memory_pool().release_unused()
    logger.info("read      %s rows from %s", f"{plan.rows:,}", plan.source)
    return plan


def retrain_each(
    flow: Flow[..., Any],
    config: SegmentsConfig,
    plan: SegmentPlan,
    at_once: int,
    processes: ClusterProcesses | None = None,
) -> list[SegmentOutcome]:
    """Run every segment of the plan that can be trained; the outcomes are in the plan's order.

    Args:
        flow: of each of them.
        config: of the whole.
        plan: of the table that was cut.
        at_once: number of processes at the same time.
        processes: where they run; processes of this machine if None.

    Raises:
        KeyboardInterrupt: by Ctrl-C; it says how many are done.
    """
    segments_by_model = {segment.model: segment for segment in plan.segments}

    def ended(job: Job, end: SubRunEnd, run: str) -> SegmentOutcome:
        segment = segments_by_model[job.model]
        if end.record is not None:
            return decided_segment(segment, RetrainSummary.model_validate(end.record), run)
        return failed_segment(segment, end.exit_code, end.reason, run)

    jobs = [
        Job(segment.model, segment.rows, partial(segment_config, config, plan, segment))
        for segment in plan.segments
        if segment.problem is None
    ]
    refused = [refused_segment(segment, segment.problem) for segment in plan.segments if segment.problem is not None]
    outcomes = SubRuns(flow, jobs, at_once, ended, "segments").known(refused).run(processes)
    return [outcomes[segment.model] for segment in plan.segments]


def summarize(config: SegmentsConfig, plan: SegmentPlan, outcomes: list[SegmentOutcome]) -> SegmentsSummary:
    """Summarize all outcomes, and publish them as a table of the run."""
    summary = outcome.summarize(config.name, plan, outcomes)
    for sentence in summary.left_out:
        logger.info("note      %s", sentence)
    publish_table(config.name, "segments", segment_rows(summary), summary.sentence)
    return summary


def final_state(summary: SegmentsSummary) -> SegmentsSummary | State[SegmentsSummary]:
    """The summary, as a failure where a segment's run failed: whoever watches the runs must see it."""
    if not summary.undecided:
        return summary
    return Failed(message=summary.sentence, data=summary)
