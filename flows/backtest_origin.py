"""One origin of a backtest: the retraining's steps up to the proof. `flows/backtest.py` runs it, in processes."""

from __future__ import annotations

from prefect import flow

from ai.ml.retraining.backtest.candidate import ProvedCandidate
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.retrain import RetrainConfig
from tasks.gate import prove_candidate
from tasks.training import read_data, train_candidate


@flow(flow_run_name="{config.name}", persist_result=True, result_serializer="json", timeout_seconds=24 * 3600)
def backtest_origin(config: RetrainConfig) -> ProvedCandidate:
    """Read → train and seal → prove in a fresh process; nothing is decided here.

    Raises:
        DataRefused: the rows that were there can't be trained on.
        Busy: another run works on this origin.
    """
    with steps.open_run(config) as config:
        data = read_data(config)
        candidate = train_candidate(config, data)
        found = ProvedCandidate(data=data, candidate=candidate, verdict=prove_candidate(config, candidate))
        steps.end_run(config)
    return found
