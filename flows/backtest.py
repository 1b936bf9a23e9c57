"""Backtest: the retraining as it would have run on past nights, and what its decisions would have served.

`python -m flows.backtest --name churn --data churn.csv --target churned --time signed_up --origins 6`. Nothing of it
touches the model's own store. A run that was killed goes on when it is started again with the same settings.
"""

from __future__ import annotations

import sys

from prefect import flow
from prefect.client.schemas.objects import State

from ai.ml.retraining.backtest.candidate import OriginOutcome
from ai.ml.retraining.backtest.origins import OriginPlan, locked_backtest
from ai.ml.retraining.backtest.outcome import BacktestSummary, show_backtest
from ai.ml.retraining.settings.backtest import BacktestConfig
from flows.backtest_origin import backtest_origin
from tasks.cluster import cluster_runner, cluster_slots
from tasks.command_line import run_from_command_line
from tasks.subflows.origins import cut_origins, decide_on_the_past, final_state, prove_each
from tasks.subflows.runs import ClusterProcesses

WEEK = 7 * 24 * 3600


@flow(flow_run_name="backtest-{config.name}", persist_result=True, result_serializer="json", timeout_seconds=WEEK)
def backtest(config: BacktestConfig) -> BacktestSummary | State[BacktestSummary]:
    """Cut the past → train and prove each origin in a run of its own → decide by every policy → look at what came true.

    Raises:
        DataRefused: the table can't be read or cut, or the rows that came can't be read by a model.
        Busy: another backtest of this model runs.
        NothingChecked: no origin has a proven model.
    """
    with locked_backtest(config):
        plan = cut_origins(config)
        if config.backtest.runner == "dask":
            outcomes = prove_on_cluster.with_options(task_runner=cluster_runner(config.cluster))(config, plan)
        else:
            outcomes = prove_each(backtest_origin, config, plan, config.at_once)
        summary = decide_on_the_past(config, plan, outcomes)
    return final_state(summary)


@flow(flow_run_name="origins-of-{config.name}", persist_result=True, result_serializer="json")
def prove_on_cluster(config: BacktestConfig, plan: OriginPlan) -> list[OriginOutcome]:
    """Train and prove the origins on a Dask cluster: a task for each."""
    at_once = config.backtest.parallel or cluster_slots(config.cluster)
    return prove_each(backtest_origin, config, plan, at_once, ClusterProcesses())


def main(argv: list[str] | None = None) -> int:
    """Run the flow once from flags or a TOML file; the exit code is the result."""
    return run_from_command_line(backtest, BacktestConfig, show_backtest, argv)


if __name__ == "__main__":
    sys.exit(main())
