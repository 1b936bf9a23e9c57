"""One training for each past night of a backtest, one after the other in this process."""

from __future__ import annotations

from functools import partial
from operator import attrgetter

from ai.ml.core.errors import UsageError
from ai.ml.retraining.backtest.candidate import OriginOutcome, ProvedCandidate, failed_origin, proved_origin
from ai.ml.retraining.backtest.origins import Origin, cut_origins, locked_backtest, origin_config
from ai.ml.retraining.backtest.outcome import BacktestSummary
from ai.ml.retraining.backtest.page import with_report
from ai.ml.retraining.backtest.walk import walk
from ai.ml.retraining.pipeline.in_turn import run_in_turn, timed_run
from ai.ml.retraining.pipeline.single import train_or_keep
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.backtest import BacktestConfig
from ai.ml.retraining.settings.retrain import RetrainConfig


def backtest(config: BacktestConfig) -> BacktestSummary:
    """Cut the past, train and prove each origin in its turn, then decide by each policy and look at what came true.

    Run again after a crash, and what is trained is hashed again and kept.

    Raises:
        DataRefused: the table can't be read or cut.
        Busy: another backtest of this model runs.
        UsageError: the settings ask for a Dask cluster, or a column that isn't there.
        NothingChecked: no origin has a proven model.
        KeyboardInterrupt: by Ctrl-C; it says how many are done.
    """
    if config.backtest.runner == "dask":
        raise UsageError("origins on a Dask cluster are tasks of a Prefect flow: leave out --runner or --no-prefect")
    with locked_backtest(config):
        plan = cut_origins(config)
        outcomes = run_in_turn(plan.origins, partial(_proved, config), attrgetter("label"), "origins")
        return with_report(config, walk(config, plan, outcomes))


def train_origin(config: RetrainConfig) -> ProvedCandidate:
    """Read → train and seal → prove in a fresh process; nothing is decided here."""
    with steps.open_run(config) as config:
        data = steps.read_data(config)
        candidate = train_or_keep(config, data)
        found = ProvedCandidate(data=data, candidate=candidate, verdict=steps.prove_candidate(config, candidate))
        steps.end_run(config)
    return found


def _proved(config: BacktestConfig, origin: Origin) -> OriginOutcome:
    return timed_run(
        lambda: proved_origin(origin, train_origin(origin_config(config, origin)), None),
        partial(failed_origin, origin),
    )
