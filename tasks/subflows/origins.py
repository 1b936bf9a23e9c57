"""Backtesting: the past cut once, one sub-run for each origin, then the policies' walk through it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow as pa
from prefect import Flow, task
from prefect.client.schemas.objects import State
from prefect.states import Failed

from ai.ml.core.errors import BundleRefused
from ai.ml.retraining.backtest import origins as past
from ai.ml.retraining.backtest.candidate import OriginOutcome, ProvedCandidate, failed_origin, proved_origin
from ai.ml.retraining.backtest.origins import Origin, OriginPlan, origin_config
from ai.ml.retraining.backtest.outcome import BacktestSummary, course_rows
from ai.ml.retraining.backtest.page import with_report
from ai.ml.retraining.backtest.walk import walk
from ai.ml.retraining.console.progress import logger, working
from ai.ml.retraining.runs.steps.source import source_key
from ai.ml.retraining.settings.backtest import BacktestConfig
from ai.ml.retraining.settings.retrain import RetrainConfig
from tasks.artifacts import publish_table
from tasks.caching import KEPT, ContentKey, PersistOnly
from tasks.retries import RETRIED
from tasks.subflows.child import SubRunEnd
from tasks.subflows.runs import ClusterProcesses, Job, SubRuns


@task(
    name="cut-origins",
    task_run_name="cut the past of {config.name}",
    cache_policy=ContentKey(
        inputs=lambda inputs: [
            source_key(inputs["config"].data),
            [inputs["config"].backtest.origins, inputs["config"].backtest.first, inputs["config"].order],
            str(past.backtest_dir(inputs["config"])),
        ]
    ),
    **KEPT,
    **RETRIED,
)
def cut_origins(config: BacktestConfig) -> OriginPlan:
    """Read the table once and keep each origin's rows, and those after it, in files of their own."""
    with working("reading"):
        plan = past.cut_origins(config)
    # The table's memory isn't needed any more, and the origins' processes will need it.
    pa.default_memory_pool().release_unused()
    logger.info("read      %s rows from %s", f"{plan.rows:,}", plan.source)
    return plan


@task(name="walk-policies", task_run_name="decide on the past of {config.name}", cache_policy=PersistOnly(), **KEPT)
def decide_on_the_past(config: BacktestConfig, plan: OriginPlan, outcomes: list[OriginOutcome]) -> BacktestSummary:
    """Decide by each policy, compare with later rows, draw the report, and publish a table of the run."""
    summary = with_report(config, walk(config, plan, outcomes))
    publish_table(config.name, "backtest", course_rows(summary), summary.sentence)
    return summary


def prove_each(
    flow: Flow[..., Any],
    config: BacktestConfig,
    plan: OriginPlan,
    at_once: int,
    processes: ClusterProcesses | None = None,
) -> list[OriginOutcome]:
    """Run every origin; the outcomes are in the plan's order.

    Args:
        flow: of each of them.
        config: of the whole.
        plan: of the table that was cut.
        at_once: number of processes at the same time.
        processes: where they run; processes of this machine if None.

    Raises:
        KeyboardInterrupt: by Ctrl-C; it says how many are done.
    """
    origins_by_model = {origin.model: origin for origin in plan.origins}

    def ended(job: Job, end: SubRunEnd, run: str) -> OriginOutcome:
        origin = origins_by_model[job.model]
        if end.record is None:
            return failed_origin(origin, end.exit_code, end.reason, run)
        try:
            return proved_origin(origin, ProvedCandidate.model_validate(end.record), run)
        except BundleRefused as changed:
            return failed_origin(origin, int(changed.exit_code), str(changed), run)

    jobs = [Job(origin.model, origin.rows, partial(_settings, config, origin)) for origin in plan.origins]
    outcomes = SubRuns(flow, jobs, at_once, ended, "origins").run(processes)
    return [outcomes[origin.model] for origin in plan.origins]


def final_state(summary: BacktestSummary) -> BacktestSummary | State[BacktestSummary]:
    """The summary, as a failure where an origin's run failed: whoever watches the runs must see it."""
    if not summary.undecided:
        return summary
    message = "; ".join(f"{origin.label}: {origin.outcome}, {origin.reason}" for origin in summary.undecided)
    return Failed(message=message, data=summary)


def _settings(config: BacktestConfig, origin: Origin, parent: str | None) -> RetrainConfig:
    own = origin_config(config, origin)
    return own.model_copy(update={"labels": {**own.labels, "parent_flow_run": parent or ""}})
