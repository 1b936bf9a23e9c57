"""Batch prediction: score a table or a folder of parts with the champion, each part exactly once.

`python -m flows.batch_predict --bundle churn@champion --input customers/ --output scored/`. Run it again after a crash:
parts with a receipt are hashed again and kept, the others are scored, `_SUCCESS` comes last.
"""

from __future__ import annotations

import sys

from prefect import flow

from ai.ml.retraining.batch.job import BatchReport
from ai.ml.retraining.batch.scoring_job import require_complete, show_report
from ai.ml.retraining.settings.predict import PredictConfig
from tasks.cluster import cluster_runner, cluster_started, run_on_cluster
from tasks.command_line import run_from_command_line
from tasks.prediction import score_parts


# A job that needs more than a day goes on with its next run: what has a receipt is done.
@flow(
    flow_run_name="predict-{config.job.bundle}",
    persist_result=True,
    result_serializer="json",
    timeout_seconds=24 * 3600,
)
def batch_predict(config: PredictConfig) -> BatchReport:
    """Prove the bundle in this environment, then score every part that isn't done.

    Raises:
        GateRefused: this environment, or a worker's, gives other bits than the trained model did.
        DataRefused: a part can't be scored; the others are done.
    """
    if config.run.runner == "dask":
        report = score_on_cluster.with_options(task_runner=cluster_runner(config.run))(config)
    else:
        report = score_parts(config)
    require_complete(report)
    return report


@flow(flow_run_name="score-{config.job.bundle}", persist_result=True, result_serializer="json")
def score_on_cluster(config: PredictConfig) -> BatchReport:
    """Score a batch on a Dask cluster: a task for each group of parts."""
    with cluster_started():
        return score_parts.fn(config, run_on_cluster)


def main(argv: list[str] | None = None) -> int:
    """Run the flow once from flags or a TOML file; the exit code is the result."""
    return run_from_command_line(batch_predict, PredictConfig, show_report, argv)


if __name__ == "__main__":
    sys.exit(main())
