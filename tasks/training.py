"""Reading the table, holding it against the champion's, and training the candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task

from ai.ml.retraining.console.progress import at_work, epoch_bar, logger
from ai.ml.retraining.records import CandidateRef, DataRef, DriftRecord
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.drift import training_drift
from ai.ml.retraining.runs.source_stamp import source_key
from ai.ml.retraining.runs.summary import metrics_line
from ai.ml.retraining.settings.retrain import RetrainConfig
from tasks.caching import KEPT, ContentKey, KeptNotReused
from tasks.reporting import epoch_progress, publish_table, show_drift, show_metrics
from tasks.retries import RETRIED

if TYPE_CHECKING:
    from ai.ml.frameworks.pytorch.trainer.training import EpochReport


@task(
    name="read-data",
    task_run_name="read the data of {config.name}",
    cache_policy=ContentKey(inputs=lambda inputs: [source_key(inputs["config"].data), *_place(inputs)]),
    **KEPT,
    **RETRIED,
)
def read_data(config: RetrainConfig) -> DataRef:
    """Keep the table as it arrived, so that every later step sees the same rows."""
    with at_work("reading"):
        data = steps.snapshot_data(config)
    logger.info("read      %s rows × %s columns from %s", f"{data.rows:,}", len(data.columns), data.source)
    return data


@task(name="check-drift", task_run_name="drift of {config.name}", cache_policy=KeptNotReused(), **KEPT)
def check_drift(config: RetrainConfig, data: DataRef) -> DriftRecord | None:
    """Hold the new table against the champion's contract, before anything is trained on it."""
    drift = training_drift(config, data)
    if drift is not None:
        logger.info("drift     %s", drift.sentence)
        show_drift(config.name, drift)
    return drift


@task(
    name="train-candidate",
    task_run_name="train {config.name}",
    cache_policy=ContentKey(
        inputs=lambda inputs: [steps.candidate_key(inputs["config"], inputs["data"]), *_place(inputs)]
    ),
    **KEPT,
)
def train_candidate(config: RetrainConfig, data: DataRef) -> CandidateRef:
    """Train, then seal weights, evidence and manifest into a bundle directory."""
    with epoch_bar() as bar, epoch_progress(config.name) as artifact:

        def progress(report: EpochReport) -> None:
            bar(report)
            artifact(report)

        candidate = steps.build_candidate(config, data, progress)
    for finding in candidate.findings:
        logger.info("note      %s", finding)
    logger.info("trained   %s", metrics_line(candidate.metrics))
    show_metrics(config.name, candidate)
    if candidate.trials:
        facts = [{name: trial[name] for name in ("number", "loss", "epochs", "seconds")} for trial in candidate.trials]
        trials = [fact | trial["settings"] for fact, trial in zip(facts, candidate.trials, strict=True)]
        publish_table(config.name, "search", trials, "trials of the search, judged by validation rows")
    return candidate


def _place(inputs: dict[str, RetrainConfig]) -> tuple[str, str]:
    """Where the files of a checkpoint are: another store has its own."""
    return str(steps.work_dir(inputs["config"])), inputs["config"].name
