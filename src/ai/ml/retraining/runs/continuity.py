"""Keeps what a model's name means: the target, task and classes of its champion, and the columns it reads."""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from ai.ml.core.bundle_dir import read_contract
from ai.ml.core.contract.problem import Problem, find_problem, missing_inputs, problem_change
from ai.ml.core.contract.target import TargetColumn
from ai.ml.core.errors import BundleNotFound, DataRefused, UsageError
from ai.ml.core.input_contract import InputContract, TaskType
from ai.ml.core.tables.cells import column_name
from ai.ml.core.types import TrainingConfig
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.decision.costs import cost_matrix
from ai.ml.retraining.records import DataRef
from ai.ml.retraining.settings.decision import METRICS
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.store import Store


def require_same_problem(config: RetrainConfig, data: DataRef, champion: InputContract | None) -> None:
    """Refuse to train where the table's target, task or classes aren't the champion's.

    Args:
        config: of the run.
        data: the table that was read.
        champion: the champion's contract, from `champion_contract`.

    Raises:
        UsageError: the metric that is to decide is none of this task.
        DataRefused: another target, task or other classes than the champion's, unless `new_target` says that they are
            meant; a column that the champion reads isn't there, unless `incomparable` says what to do then; or the
            target isn't in the table or has missing cells.
    """
    problem = table_problem(config, data)
    _require_metric(config, problem)
    if champion is None:
        return
    change = problem_change(champion, problem)
    if change is not None and not config.decision.new_target:
        raise DataRefused(other_problem(config.name, change))
    if change is None and config.decision.new_target:
        logger.info("note      --new-target says nothing here: the champion predicts this target; leave it out")
    missing = missing_inputs(champion, data.columns)
    if missing is not None and config.decision.incomparable == "hold" and not config.decision.new_target:
        raise DataRefused(
            f"{config.name}: {missing}; nothing was trained. Mend the table, or, if it is as it should be, say "
            "--incomparable promote: the model of the new columns then replaces the champion without a comparison"
        )


def _require_metric(config: RetrainConfig, problem: Problem) -> None:
    metric, known = config.decision.metric, METRICS[problem.task]
    if metric != "auto" and metric not in known:
        raise UsageError(f"--metric {metric} is none of a {problem.task}: there are {', '.join(known)}")
    if metric in ("auc", "average_precision") and len(problem.classes or ()) != 2:
        raise UsageError(f"--metric {metric} needs two classes, {problem.target!r} has {len(problem.classes or ())}")
    if problem.task == "classification":
        cost_matrix(config.decision.costs, list(problem.classes or ()))
    elif config.decision.costs:
        raise UsageError(f"--costs are for classes: {problem.target!r} holds amounts; --metric pinball weighs errors")


def other_problem(name: str, change: str) -> str:
    """The message of the refusal."""
    return (
        f"{name}: {change}; a model of that isn't comparable with it. Mend the table, train it under another name, or, "
        "if this is what the model is to predict from now on, say --new-target"
    )


def table_problem(config: RetrainConfig, data: DataRef) -> Problem:
    """The target, task and classes of a run's table; with task `auto` a model keeps its champion's task.

    Raises:
        DataRefused: the target isn't in the table, or has missing cells.
    """
    target, task = config.data.target, _known_task(config)
    return find_problem(_target_column(data.file.path, target), TrainingConfig(target, task=task or "auto"))


def with_task(config: RetrainConfig, data: DataRef) -> RetrainConfig:
    """The run's settings with the task set: it is part of the training's identity, whether configured or detected.

    Where the target can't be read the settings stay as they are, and the training reports why.
    """
    try:
        task = _known_task(config) or _task_by_values(data.file.path, data.file.sha256, config.data.target)
    except DataRefused:
        return config
    return config.model_copy(update={"training": config.training.model_copy(update={"task": task})})


def champion_contract(config: RetrainConfig) -> InputContract | None:
    """What the champion reads and predicts; None without a champion, or where it has no contract."""
    store = Store(config.store)
    digest = store.champion(config.name)
    if digest is None:
        return None
    try:
        return _version_contract(config.store, config.name, digest)
    except BundleNotFound:
        # Replaced and pruned between the two reads, or missing: which of them, the store knows.
        return read_contract(store.resolve(f"{config.name}@champion"))


@lru_cache(maxsize=8)
def _version_contract(store: str, name: str, digest: str) -> InputContract | None:
    """A run asks for it several times, and resolving a version in a bucket hashes all of its files."""
    return read_contract(Store(store).resolve(f"{name}@{digest}"))


def _known_task(config: RetrainConfig) -> TaskType | None:
    """The configured task, else the champion's; None where the target's values decide."""
    if config.training.task != "auto":
        return config.training.task
    champion = None if config.decision.new_target else champion_contract(config)
    return None if champion is None else champion.task


@lru_cache(maxsize=8)
def _task_by_values(path: str, sha256: str, target: str) -> TaskType:
    """The task by the target's values; cached by the snapshot's sha-256."""
    return TargetColumn.read(_target_column(path, target), target).task("auto")


def _target_column(path: str, target: str) -> pa.Table:
    """The target column alone; the whole table where no name matches, so that the error can list the columns."""
    names: list[str] = pq.read_schema(path).names
    matches = [name for name in names if name == target] or [
        name for name in names if column_name(name) == column_name(target)
    ]
    return pq.read_table(path, columns=matches if len(matches) == 1 else None)
