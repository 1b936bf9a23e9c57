"""Whole retrainings without Prefect, for cron, Airflow, CI and notebooks: the steps of `runs`, one after the other.

`single` retrains one model, `by_segment` one for each segment of a table, `by_origin` one for each past night, both by
`in_turn`. A run after a kill verifies the finished steps by their hashes and keeps them, as the flows do; only what
needs a server (approval by a person, artifacts, events, sub-runs) is Prefect's.
"""

from ai.ml.retraining.pipeline.by_origin import backtest
from ai.ml.retraining.pipeline.by_segment import retrain_segments
from ai.ml.retraining.pipeline.single import retrain

__all__ = ["backtest", "retrain", "retrain_segments"]
