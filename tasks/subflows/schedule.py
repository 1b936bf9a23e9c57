"""Retraining segments: the table cut once, then one sub-run for each, so many at once as are allowed."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pyarrow as pa
from prefect import Flow, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Crashed, Failed, Pending
from prefect.utilities.asyncutils import run_coro_as_sync

from ai.ml.core.errors import ExitCode, UsageError
from ai.ml.core.parallel import available_cores
from ai.ml.retraining.console.interruption import changed
from ai.ml.retraining.console.progress import at_work, logger
from ai.ml.retraining.records import RetrainSummary
from ai.ml.retraining.runs.steps.source import source_key
from ai.ml.retraining.segments import cut as segments
from ai.ml.retraining.segments import outcome
from ai.ml.retraining.segments.cut import Segment, SegmentPlan, segment_config
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
from tasks.subflows.child import SubRun, SubRunEnd
from tasks.subflows.processes import SubProcesses, sub_processes


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
    with at_work("reading"):
        plan = segments.cut_table(config)
    # The table is not needed any more, and the segments' processes are about to take memory of their own.
    pa.default_memory_pool().release_unused()
    logger.info("read      %s rows from %s", f"{plan.rows:,}", plan.source)
    return plan


@task(name="retrain-segment", task_run_name="retrain {label}", cache_policy=NO_CACHE, persist_result=False)
def retrain_on_worker(request: SubRun, label: str) -> SubRunEnd:
    """A sub-run in a process beside the worker's own, which ends with the worker."""
    with sub_processes() as processes:
        return processes.run(request, label)


class ClusterProcesses:
    """Where a flow on a cluster runs them: one task for each segment, on the flow's own task runner."""

    def run(self, request: SubRun, label: str) -> SubRunEnd:
        """Wait for a worker, and for the end there."""
        return retrain_on_worker.submit(request, label).result()

    def stop(self) -> None:
        """Nothing: the tasks are gone with the flow's task runner."""


@dataclass(frozen=True)
class Started:
    """A sub-run that isn't done."""

    segment: Segment
    flow_run: UUID
    since: float


class SegmentRuns:
    """The sub-runs of one plan."""

    def __init__(self, flow: Flow[..., Any], config: SegmentsConfig, plan: SegmentPlan, at_once: int) -> None:
        self._flow, self._config, self._plan, self._at_once = flow, config, plan, at_once
        self._outcomes: dict[str, SegmentOutcome] = {}

    def run(self, processes: SubProcesses | ClusterProcesses) -> list[SegmentOutcome]:
        """One after the other, the largest first, so many at once as are allowed; one that fails doesn't stop the rest.

        Raises:
            KeyboardInterrupt: by Ctrl-C; it says how many are done.
        """
        for segment in self._plan.segments:
            if segment.problem is not None:
                self._add(refused_segment(segment, segment.problem))
        waiting = sorted((s for s in self._plan.segments if s.problem is None), key=lambda s: -s.rows)
        pool = ThreadPoolExecutor(self._at_once, thread_name_prefix="segment")
        running: dict[Future[SubRunEnd], Started] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._at_once:
                    started = self._prepare(waiting.pop(0))
                    running[self._submit(pool, processes, started)] = started
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self._add(self._ended(running.pop(future), future))
        except BaseException as error:
            processes.stop()
            self._mark_crashed(running.values())
            if isinstance(error, KeyboardInterrupt):
                done = f"{len(self._outcomes)} of {len(self._plan.segments)} segments are done, and stay so"
                raise KeyboardInterrupt(done) from None
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return [self._outcomes[segment.model] for segment in self._plan.segments]

    def _prepare(self, segment: Segment) -> Started:
        """Make the flow run under ours, as Prefect does for a flow that is called in a flow."""
        context = _context()
        own = segment_config(self._config, self._plan, segment, str(context.flow_run.id) if context.flow_run else None)
        tracked = Task(name=self._flow.name, fn=self._flow.fn, version=self._flow.version)
        parent = run_coro_as_sync(tracked.create_run(flow_run_context=context, parameters={}))
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(
                flow=self._flow,
                parameters=self._flow.serialize_parameters({"config": own}),
                state=Pending(),
                parent_task_run_id=parent.id,
                name=f"retrain-{segment.model}",
            )
        return Started(segment, run.id, time.monotonic())

    def _submit(
        self, pool: ThreadPoolExecutor, processes: SubProcesses | ClusterProcesses, started: Started
    ) -> Future[SubRunEnd]:
        request = SubRun(
            flow=f"{self._flow.fn.__module__}:{self._flow.fn.__name__}",
            flow_run=str(started.flow_run),
            api=str(_context().client.api_url),
            threads=max(1, available_cores() // self._at_once),
        )
        return pool.submit(contextvars.copy_context().run, processes.run, request, started.segment.model)

    def _ended(self, started: Started, future: Future[SubRunEnd]) -> SegmentOutcome:
        segment, run = started.segment, str(started.flow_run)
        try:
            end = future.result()
        except Exception as error:
            lost = f"its process was lost ({type(error).__name__}: {error}); run again: what is done is kept"
            end = SubRunEnd(exit_code=ExitCode.STORAGE, reason=lost, silent=True)
        if end.silent:
            self._mark_crashed([started], end.reason)
        if end.record is not None:
            outcome = decided_segment(segment, RetrainSummary.model_validate(end.record), run)
        else:
            outcome = failed_segment(segment, end.exit_code, end.reason, run)
        return outcome.model_copy(update={"seconds": round(time.monotonic() - started.since, 1)})

    def _add(self, outcome: SegmentOutcome) -> None:
        self._outcomes[outcome.model] = outcome
        done = f"{len(self._outcomes)} of {len(self._plan.segments)}"
        changed(f"{done} segments are done, and stay so")
        logger.info("%s: %s — %s (%s)", outcome.model, outcome.outcome, outcome.reason, done)

    def _mark_crashed(self, runs: Iterable[Started], reason: str = "stopped with the run above it") -> None:
        """Tell Prefect what a process couldn't any more, if Prefect's own server is still there."""
        with contextlib.suppress(Exception), get_client(sync_client=True) as client:
            for started in runs:
                state = client.read_flow_run(started.flow_run).state
                if state is None or not state.is_final():
                    client.set_flow_run_state(started.flow_run, Crashed(message=reason), force=True)


def retrain_each(flow: Flow[..., Any], config: SegmentsConfig, plan: SegmentPlan) -> list[SegmentOutcome]:
    """Run every segment of the plan in processes of this machine."""
    with sub_processes() as processes:
        return SegmentRuns(flow, config, plan, config.at_once).run(processes)


def summarize(config: SegmentsConfig, plan: SegmentPlan, outcomes: list[SegmentOutcome]) -> SegmentsSummary:
    """Put all outcomes into one record, and show them as a table of the run."""
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


def _context() -> FlowRunContext:
    context = FlowRunContext.get()
    if context is None:
        raise UsageError("segments are retrained by a flow's run")
    return context
