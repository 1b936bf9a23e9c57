"""Reading the table, holding it against the champion's, and training the candidate."""

from __future__ import annotations

from prefect import task

from ai.ml.retraining.records import CandidateRef, DataRef, DriftRecord
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.steps.candidate import candidate_key
from ai.ml.retraining.runs.steps.source import source_key
from ai.ml.retraining.runs.work_folder import work_dir
from ai.ml.retraining.settings.retrain import RetrainConfig
from tasks.artifacts import epoch_progress, publish_table, show_drift, show_metrics
from tasks.caching import KEPT, ContentKey, PersistOnly
from tasks.retries import RETRIED


@task(
    name="read-data",
    task_run_name="read the data of {config.name}",
    cache_policy=ContentKey(inputs=lambda inputs: [source_key(inputs["config"].data), *_where(inputs)]),
    **KEPT,
    **RETRIED,
)
def read_data(config: RetrainConfig) -> DataRef:
    """Keep the table as it arrived, so that every later step sees the same rows."""
    return steps.read_data(config)


@task(name="check-drift", task_run_name="drift of {config.name}", cache_policy=PersistOnly(), **KEPT)
def check_drift(config: RetrainConfig, data: DataRef) -> DriftRecord | None:
    """Hold the new table against the champion's contract, before anything is trained on it."""
    drift = steps.check_drift(config, data)
    if drift is not None:
        show_drift(config.name, drift)
    return drift


@task(
    name="train-candidate",
    task_run_name="train {config.name}",
    cache_policy=ContentKey(inputs=lambda inputs: [candidate_key(inputs["config"], inputs["data"]), *_where(inputs)]),
    **KEPT,
)
def train_candidate(config: RetrainConfig, data: DataRef) -> CandidateRef:
    """Train, then seal weights, evidence and manifest into a bundle directory."""
    with epoch_progress(config.name) as progress:
        candidate = steps.train_candidate(config, data, progress)
    show_metrics(config.name, candidate)
    if candidate.trials:
        facts = [{name: trial[name] for name in ("number", "loss", "epochs", "seconds")} for trial in candidate.trials]
        trials = [fact | trial["settings"] for fact, trial in zip(facts, candidate.trials, strict=True)]
        publish_table(config.name, "search", trials, "trials of the search, judged by validation rows")
    return candidate


def _where(inputs: dict[str, RetrainConfig]) -> tuple[str, str]:
    """Where the files of a checkpoint are: another store has its own."""
    return str(work_dir(inputs["config"])), inputs["config"].name
