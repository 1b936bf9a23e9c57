"""One retraining for each segment of a table, one after the other in this process."""

from __future__ import annotations

import time

from ai.ml.core.errors import UsageError
from ai.ml.retraining.console.exit_codes import report_error
from ai.ml.retraining.console.interruption import set_interrupt_message
from ai.ml.retraining.console.progress import logger
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
    outcomes: list[SegmentOutcome] = []
    with segments.locked_segments(config):
        plan = segments.cut_table(config)
        for segment in plan.segments:
            try:
                outcomes.append(_retrained(config, plan, segment))
            except KeyboardInterrupt:
                done = f"{len(outcomes)} of {len(plan.segments)} segments are done, and stay so"
                raise KeyboardInterrupt(done) from None
            done = f"{len(outcomes)} of {len(plan.segments)}"
            set_interrupt_message(f"{done} segments are done, and stay so")
            logger.info("%s: %s — %s (%s)", segment.model, outcomes[-1].outcome, outcomes[-1].reason, done)
    for sentence in plan.left_out:
        logger.info("note      %s", sentence)
    return summarize(config.name, plan, outcomes)


def _retrained(config: SegmentsConfig, plan: SegmentPlan, segment: Segment) -> SegmentOutcome:
    """What became of one; Ctrl-C ends all of them."""
    if segment.problem is not None:
        return refused_segment(segment, segment.problem)
    began = time.monotonic()
    try:
        outcome = decided_segment(segment, retrain(segment_config(config, plan, segment, None)), None)
    except Exception as error:
        outcome = failed_segment(segment, report_error(error), str(error) or type(error).__name__)
    return outcome.model_copy(update={"seconds": round(time.monotonic() - began, 1)})
