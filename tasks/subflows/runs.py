"""Sub-runs of a run: one for each job, each in a process of its own, a limited number at once."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar
from uuid import UUID

from prefect import Flow, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.states import Crashed, Pending
from prefect.utilities.asyncutils import run_coro_as_sync

from ai.ml.core.errors import ExitCode, UsageError
from ai.ml.core.parallel import available_cores
from ai.ml.retraining.console.interruption import progress_sentence, set_interrupt_message
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.settings.fields import Section
from tasks.subflows.child import SubRun, SubRunEnd
from tasks.subflows.processes import SubProcesses, sub_processes


class JobOutcome(Protocol):
    """The outcome of one job: a pydantic record."""

    @property
    def model(self) -> str:
        """The job's name."""
        ...

    @property
    def outcome(self) -> str:
        """One word."""
        ...

    @property
    def reason(self) -> str:
        """One sentence."""
        ...

    def model_copy(self, *, update: dict[str, Any]) -> Self:
        """A copy with other values."""
        ...


SomeOutcome = TypeVar("SomeOutcome", bound=JobOutcome)


@dataclass(frozen=True)
class Job:
    """A sub-run to start."""

    model: str
    """The model's name, which names the run and its messages."""
    rows: int
    settings: Callable[[str | None], Section]
    """Of the run, from the id of the parent's."""


@dataclass(frozen=True)
class Started:
    """A sub-run that has been started."""

    job: Job
    flow_run: UUID
    since: float


@task(name="sub-run", task_run_name="run {label}", cache_policy=NO_CACHE, persist_result=False)
def run_on_worker(request: SubRun, label: str) -> SubRunEnd:
    """A sub-run in a process beside the worker's own, which ends with the worker."""
    with sub_processes() as processes:
        return processes.run(request, label)


class ClusterProcesses:
    """Runs sub-runs on a cluster: one task for each job, on the flow's own task runner."""

    def run(self, request: SubRun, label: str) -> SubRunEnd:
        """Wait for a worker, and for the end there."""
        return run_on_worker.submit(request, label).result()

    def stop(self) -> None:
        """Do nothing: the tasks end with the flow's task runner."""


class SubRuns(Generic[SomeOutcome]):
    """The sub-runs of one plan."""

    def __init__(
        self,
        flow: Flow[..., Any],
        jobs: Sequence[Job],
        at_once: int,
        ended: Callable[[Job, SubRunEnd, str], SomeOutcome],
        plural: str,
    ) -> None:
        """Prepare the jobs; `run` starts them.

        Args:
            flow: of each sub-run.
            jobs: in any order; the largest is started first.
            at_once: how many processes there may be.
            ended: makes a job's outcome of the end of its process and the id of its run.
            plural: what the jobs are, such as `segments`.
        """
        self._flow, self._jobs, self._at_once, self._ended, self._plural = flow, list(jobs), at_once, ended, plural
        self._outcomes: dict[str, SomeOutcome] = {}
        self._total = len(self._jobs)

    def known(self, outcomes: Iterable[SomeOutcome]) -> Self:
        """Add outcomes that need no run."""
        outcomes_there = list(outcomes)
        self._total += len(outcomes_there)
        for outcome in outcomes_there:
            self._add(outcome)
        return self

    def run(self, processes: SubProcesses | ClusterProcesses | None = None) -> dict[str, SomeOutcome]:
        """One after the other, the largest first, so many at once as are allowed; one that fails doesn't stop the rest.

        Args:
            processes: where they run; processes of this machine if None.

        Returns:
            All outcomes by model.

        Raises:
            KeyboardInterrupt: by Ctrl-C; it says how many are done.
        """
        if processes is None:
            with sub_processes() as own:
                return self.run(own)
        waiting = sorted(self._jobs, key=lambda job: -job.rows)
        pool = ThreadPoolExecutor(self._at_once, thread_name_prefix="sub-run")
        running: dict[Future[SubRunEnd], Started] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._at_once:
                    started = self._prepare(waiting.pop(0))
                    running[self._submit(pool, processes, started)] = started
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self._add(self._finish(running.pop(future), future))
        except BaseException as error:
            processes.stop()
            self._mark_crashed(running.values())
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(self._progress()) from None
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return self._outcomes

    def _prepare(self, job: Job) -> Started:
        """Make the flow run under ours, as Prefect does for a flow that is called in a flow."""
        context = _context()
        own = job.settings(str(context.flow_run.id) if context.flow_run else None)
        tracked = Task(name=self._flow.name, fn=self._flow.fn, version=self._flow.version)
        parent = run_coro_as_sync(tracked.create_run(flow_run_context=context, parameters={}))
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(
                flow=self._flow,
                parameters=self._flow.serialize_parameters({"config": own}),
                state=Pending(),
                parent_task_run_id=parent.id,
                name=f"{self._flow.name}-{job.model}",
            )
        return Started(job, run.id, time.monotonic())

    def _submit(
        self, pool: ThreadPoolExecutor, processes: SubProcesses | ClusterProcesses, started: Started
    ) -> Future[SubRunEnd]:
        request = SubRun(
            flow=f"{self._flow.fn.__module__}:{self._flow.fn.__name__}",
            flow_run=str(started.flow_run),
            api=str(_context().client.api_url),
            threads=max(1, available_cores() // self._at_once),
        )
        return pool.submit(contextvars.copy_context().run, processes.run, request, started.job.model)

    def _finish(self, started: Started, future: Future[SubRunEnd]) -> SomeOutcome:
        try:
            end = future.result()
        except Exception as error:
            lost = f"its process was lost ({type(error).__name__}: {error}); run again: what is done is kept"
            end = SubRunEnd(exit_code=ExitCode.STORAGE, reason=lost, silent=True)
        if end.silent:
            self._mark_crashed([started], end.reason)
        outcome = self._ended(started.job, end, str(started.flow_run))
        return outcome.model_copy(update={"seconds": round(time.monotonic() - started.since, 1)})

    def _add(self, outcome: SomeOutcome) -> None:
        self._outcomes[outcome.model] = outcome
        set_interrupt_message(self._progress())
        count = f"{len(self._outcomes)} of {self._total}"
        logger.info("%s: %s — %s (%s)", outcome.model, outcome.outcome, outcome.reason, count)

    def _progress(self) -> str:
        return progress_sentence(len(self._outcomes), self._total, self._plural)

    def _mark_crashed(self, runs: Iterable[Started], reason: str = "stopped with the run above it") -> None:
        """Set the state of runs whose process couldn't, if Prefect's server can still be reached."""
        with contextlib.suppress(Exception), get_client(sync_client=True) as client:
            for started in runs:
                state = client.read_flow_run(started.flow_run).state
                if state is None or not state.is_final():
                    client.set_flow_run_state(started.flow_run, Crashed(message=reason), force=True)


def _context() -> FlowRunContext:
    context = FlowRunContext.get()
    if context is None:
        raise UsageError("sub-runs are made by a flow's run")
    return context
