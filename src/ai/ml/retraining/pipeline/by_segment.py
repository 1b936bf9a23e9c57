"""One retraining for each segment of a table, one after the other in this process."""

from __future__ import annotations

from functools import partial
from operator import attrgetter

from ai.ml.core.errors import UsageError
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.pipeline.in_turn import run_in_turn, timed_run
from ai.ml.retraining.pipeline.single import require_no_person, retrain
from ai.ml.retraining.segments import cut as segments
from ai.ml.retraining.segments.cut import Segment, SegmentPlan, segment_config
from ai.ml.retraining.segments.outcome import (
    SegmentOutcome,
    SegmentsSummary,
    decided_segment,
    failed_segment,
    refused_segment,
    summarize,
)
from ai.ml.retraining.settings.segments import SegmentsConfig


def retrain_segments(config: SegmentsConfig) -> SegmentsSummary:
    """Cut the table once, retrain each segment's model in its turn, and say what became of each.

    One that fails stops no other; the summary's exit code is that of the worst one. The flow runs several at once, each
    in a process of its own; here a segment that runs out of memory ends the run, and running it again goes on.

    Raises:
        DataRefused: the table can't be read or cut.
        Busy: another run is cutting a table for these models.
        UsageError: the settings ask for a Dask cluster, or a person's approval.
        KeyboardInterrupt: by Ctrl-C; it says how many are done.
    """
    require_no_person(config)
    if config.segments.runner == "dask":
        raise UsageError("segments on a Dask cluster are tasks of a Prefect flow: leave out --runner or --no-prefect")
    if (config.segments.parallel or 1) > 1:
        logger.info("note      without Prefect the segments are retrained one after the other")
    with segments.locked_segments(config):
        plan = segments.cut_table(config)
        outcomes = run_in_turn(plan.segments, partial(_retrained, config, plan), attrgetter("model"), "segments")
    for sentence in plan.left_out:
        logger.info("note      %s", sentence)
    return summarize(config.name, plan, outcomes)


def _retrained(config: SegmentsConfig, plan: SegmentPlan, segment: Segment) -> SegmentOutcome:
    if segment.problem is not None:
        return refused_segment(segment, segment.problem)
    return timed_run(
        lambda: decided_segment(segment, retrain(segment_config(config, plan, segment, None)), None),
        partial(failed_segment, segment),
    )
