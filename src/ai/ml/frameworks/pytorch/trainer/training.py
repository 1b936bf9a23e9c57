"""Training: a raw table and a configuration in, a bundle with its metrics and history out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from ai.ml.core.bundle_dir import current_versions
from ai.ml.core.contract import Finding, derive_contract, target_values
from ai.ml.core.errors import TrainingDiverged, UsageError
from ai.ml.core.files.atomic import dump_json, sha256_bytes
from ai.ml.core.number_text import figure
from ai.ml.core.splits.rule import SplitRule
from ai.ml.core.tables import fingerprint
from ai.ml.core.training_modes import MODES
from ai.ml.core.types import Metrics, ModelBundle, TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import Scorer, ScoringSettings
from ai.ml.frameworks.pytorch.inference.tiling import TiledNetwork
from ai.ml.frameworks.pytorch.models.networks import (
    PIECEWISE_MODES,
    TRAINING_MODES,
    LinearBaseline,
    model_config_of,
    model_dropout,
    model_hidden_dim,
    model_num_hidden_layers,
    set_temperature,
)
from ai.ml.frameworks.pytorch.serialization.save import encode_bundle
from ai.ml.frameworks.pytorch.trainer.calibration import best_temperature
from ai.ml.frameworks.pytorch.trainer.checkpoint import EpochCheckpoint
from ai.ml.frameworks.pytorch.trainer.dataset import (
    TrainingData,
    overridden_column_options,
    prepare,
    prepare_for_student,
)
from ai.ml.frameworks.pytorch.trainer.loop import EpochReport, TrainingLoop
from ai.ml.frameworks.pytorch.trainer.losses import Criterion, check_loss, check_mode, mean_loss
from ai.ml.frameworks.pytorch.trainer.setup import assemble, choose_device, training_environment

MIN_STUDENT_WIDTH = 16
MAX_STUDENT_DROPOUT = 0.5
MAX_READING_SHARE, MAX_SCORING_SHARE = 0.1, 0.5
"""Of a budget, for the metrics."""
MAX_THREADS = 1_024
"""Tens of thousands end the process without a word."""


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a training."""

    bundle: ModelBundle
    """In `eval()`, on the CPU, with its contract."""
    metrics: Metrics
    history: tuple[EpochReport, ...]
    train_rows: np.ndarray
    """Row numbers of the table, validation rows included."""
    holdout_rows: np.ndarray
    """Row numbers of the table that nothing was fitted on."""
    findings: tuple[Finding, ...]
    rule: SplitRule
    """Which rows may have been learned from."""


def train(
    table: pa.Table,
    config: TrainingConfig,
    *,
    scoring: ScoringSettings | None = None,
    progress: Callable[[EpochReport], None] | None = None,
    checkpoint: Path | None = None,
    teacher: ModelBundle | None = None,
) -> TrainingResult:
    """Train a model on a raw table.

    The same table, configuration and machine give the same bits. Vectorizer, medians and scaler are fitted on the
    training rows only; early stopping watches a part of those; the holdout rows are seen by nothing but the metrics.
    The caller's random state and thread count are as before afterwards.

    Args:
        table: raw cells under their column names, target included.
        config: see `TrainingConfig`.
        scoring: how the bundle will be scored; the metrics are measured that way.
        progress: called after every epoch.
        checkpoint: where to keep the state between epochs; found there, a killed training of the same table and
            configuration goes on from it to the same bits. The caller removes it.
        teacher: a bundle whose answers are learned beside the known ones; its preprocessing, contract included, is
            the student's, so the config's wishes about columns don't count (one that is excluded and that the teacher
            reads is refused). `student_of` gives a smaller config.

    Raises:
        UsageError: a setting is off, or doesn't fit the table.
        DataRefused: the table can't be learned from.
        StorageFailed: the checkpoint can't be written.
    """
    began = time.perf_counter()
    check_config(config)
    problem, findings = prepare_dataset(table, config, teacher)
    prepared = time.perf_counter() - began
    with training_environment(config) as device:
        model, fitting, criterion = assemble(problem, config, device, findings)
        fitting.began = began
        if config.budget_seconds is not None:
            fitting.reserve = _reserve(config.budget_seconds, prepared, _scoring_seconds(model, problem, scoring))
        run_epochs(fitting, progress, _resumed(checkpoint, (table, config, teacher), fitting, findings))
        fitting.restore_best()
        if fitting.stop_reason == "budget":
            findings.append(Finding("training", None, _budget_sentence(fitting)))
        _calibrate(model, fitting, config)
        bundle = _bundle(problem, config, model.cpu())
        scorer = Scorer(bundle, scoring)
        metrics = evaluate(scorer, table, problem.train_rows, problem.holdout_rows, criterion)
    return TrainingResult(
        bundle,
        metrics,
        tuple(fitting.state.history),
        problem.train_rows,
        problem.holdout_rows,
        tuple(findings),
        problem.split.rule,
    )


def _reserve(budget: float, prepared: float, scoring: float) -> float:
    """Of a budget, for the metrics at the end, which read the same rows once more and score them.

    In a young process the preparation is no measure of the reading, hence a limit; another leaves time to learn.
    """
    return min(prepared, budget * MAX_READING_SHARE) + min(scoring, budget * MAX_SCORING_SHARE)


def _scoring_seconds(model: nn.Module, problem: TrainingData, scoring: ScoringSettings | None) -> float:
    """How long the network takes for the metrics' rows, by one tile of them."""
    settings = scoring or ScoringSettings()
    shape = (problem.features.scaled.shape[1], problem.output_dim)
    network = TiledNetwork(model, shape, settings, torch.device("cpu"))
    seconds = 0.0
    for _ in range(2):
        # The first one warms up.
        began = time.perf_counter()
        network.run(settings.tile_rows, lambda tile, start, stop: tile.fill(0))
        seconds = time.perf_counter() - began
    tiles = sum(-(-len(rows) // settings.tile_rows) for rows in (problem.train_rows, problem.holdout_rows))
    return seconds * tiles


def _resumed(
    checkpoint: Path | None,
    inputs: tuple[pa.Table, TrainingConfig, ModelBundle | None],
    fitting: TrainingLoop,
    findings: list[Finding],
) -> EpochCheckpoint | None:
    """The keeper of a training's state, with what it kept for the same inputs already taken up."""
    if checkpoint is None:
        return None
    keeper = EpochCheckpoint(checkpoint, _fingerprint(*inputs))
    reason = keeper.resume(fitting.load_state_dict)
    if reason is not None:
        findings.append(Finding("training", None, reason))
    return keeper


def run_epochs(
    fitting: TrainingLoop, progress: Callable[[EpochReport], None] | None, keeper: EpochCheckpoint | None
) -> None:
    """Train to the end, putting the state away now and then."""
    while fitting.stop_reason is None:
        report = fitting.run_epoch()
        if progress is not None:
            progress(report)
        if keeper is not None and keeper.due():
            keeper.save(fitting.state_dict())


def _budget_sentence(fitting: TrainingLoop) -> str:
    epochs, updates, budget = fitting.state.epoch, fitting.state.schedule.updates, fitting.config.budget_seconds or 0.0
    place = "in the first epoch" if epochs == 1 else f"after {epochs} epochs"
    return f"the budget of {figure(budget)} s ended the training {place}, after {updates} updates"


def check_config(config: TrainingConfig) -> None:
    """Check every setting by itself, before anything is read.

    Raises:
        UsageError: the message is the rule and the value.
    """
    if config.training_mode not in TRAINING_MODES:
        raise UsageError(f"unknown training_mode={config.training_mode!r}: known are {', '.join(TRAINING_MODES)}")
    if config.task not in ("auto", "classification", "regression"):
        raise UsageError(f"task must be auto, classification or regression, got {config.task!r}")
    rules = {
        "test_size": ("above 0 and below 1", 0 < config.test_size < 1),
        "validation_size": ("at least 0 and below 1", 0 <= config.validation_size < 1),
        "random_seed": ("from 0 to 4294967295", 0 <= config.random_seed < 2**32),
        "epochs": ("at least 1", config.epochs >= 1),
        "batch_size": ("at least 2, or None", config.batch_size is None or config.batch_size >= 2),
        "learning_rate": ("above 0", 0 < config.learning_rate < float("inf")),
        "hidden_dim": ("at least 1", config.hidden_dim >= 1),
        "num_hidden_layers": ("at least 1", config.num_hidden_layers >= 1),
        "dropout": ("at least 0 and below 1", 0 <= config.dropout < 1),
        "patience": ("at least 1, or None", config.patience is None or config.patience >= 1),
        "budget_seconds": (
            "above 0, or None",
            config.budget_seconds is None or 0 < config.budget_seconds < float("inf"),
        ),
        "label_smoothing": ("at least 0 and below 1", 0 <= config.label_smoothing < 1),
        "n_bins": ("from 2 to 256", 2 <= config.n_bins <= 256),
        "d_emb": ("from 1 to 256", 1 <= config.d_emb <= 256),
        "members": ("from 1 to 256", 1 <= config.members <= 256),
        "num_threads": (
            f"from 1 to {MAX_THREADS:,}, or None",
            config.num_threads is None or 1 <= config.num_threads <= MAX_THREADS,
        ),
    }
    for name, (rule, holds) in rules.items():
        if not holds:
            raise UsageError(f"{name} must be {rule}, got {getattr(config, name)!r}")


def evaluate(
    scorer: Scorer, table: pa.Table, train_rows: np.ndarray, holdout_rows: np.ndarray, criterion: Criterion
) -> Metrics:
    """Losses on the training and holdout rows, and the holdout's accuracy or RMSE, all through one `Scorer`.

    Raises:
        TrainingDiverged: a row has no finite answer, or a metric isn't finite.
    """
    bundle = scorer.bundle
    labels = target_values(bundle.contract, table) if bundle.contract else np.empty(0)
    losses: list[float] = []
    value = 0.0
    for rows in (train_rows, holdout_rows):
        answers = scorer.score_table(table.take(pa.array(rows)))
        _refuse_nonfinite(answers.raw, rows)
        losses.append(mean_loss(criterion, answers.raw, _target_tensor(bundle, labels[rows])))
        if bundle.task == "classification":
            value = float(np.mean(answers.decoded.astype(str) == labels[rows].astype(str)))
        else:
            value = float(np.sqrt(np.mean((answers.decoded - labels[rows]) ** 2)))
    name = "accuracy" if bundle.task == "classification" else "rmse"
    if not np.isfinite([*losses, value]).all():
        raise TrainingDiverged(
            f"the loss is {losses[0]:g} on the training rows and {losses[1]:g} on the holdout rows, {name} {value:g}: "
            "lower the learning rate, or give the target in another unit"
        )
    return Metrics(bundle.task, losses[0], losses[1], name, value)


def _refuse_nonfinite(raw: np.ndarray, rows: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(raw).all(axis=1))
    if len(bad) == len(rows):
        raise TrainingDiverged(f"none of {len(rows)} rows gets a finite answer: lower the learning rate")
    if len(bad):
        raise TrainingDiverged(
            f"{len(bad)} of {len(rows)} rows get no finite answer, first row {rows[bad[0]]} of the table: a number "
            "there is far beyond those that were learned from; drop such rows, or train mlp_ple or tabm, which clip"
        )


def prepare_dataset(
    table: pa.Table, config: TrainingConfig, teacher: ModelBundle | None
) -> tuple[TrainingData, list[Finding]]:
    """The table as numbers, by a contract of its own or the teacher's, and what a person should know of it."""
    if teacher is not None:
        check_mode(config.training_mode, teacher.task)
        check_loss(config.class_weights, config.label_smoothing, teacher.task)
        if MODES[config.training_mode].fits_own_teacher:
            raise UsageError(f"training_mode {config.training_mode!r} has a teacher of its own: choose another mode")
        problem = prepare_for_student(table, teacher, config)
        return problem, [*_student_findings(problem, config, teacher), *problem.split.findings]
    derived = derive_contract(table, config)
    check_mode(config.training_mode, derived.contract.task)
    check_loss(config.class_weights, config.label_smoothing, derived.contract.task)
    problem = prepare(table, derived.contract, config)
    return problem, [*derived.findings, *problem.split.findings]


def _student_findings(problem: TrainingData, config: TrainingConfig, teacher: ModelBundle) -> list[Finding]:
    found: list[Finding] = []
    overruled = overridden_column_options(problem.contract, config)
    if overruled:
        message = f"the teacher's contract says what the columns are: {', '.join(overruled)} doesn't count"
        found.append(Finding("training", None, message))
    if isinstance(teacher.model, LinearBaseline) and config.training_mode != "linear_glm_baseline":
        size = f"{config.num_hidden_layers} × {config.hidden_dim}"
        message = f"the teacher is a linear model, so this student ({size}) is larger than it, not smaller"
        found.append(Finding("training", None, message))
    return found


def student_of(config: TrainingConfig, teacher: ModelBundle) -> TrainingConfig:
    """The same config with a smaller network than the teacher's: half the width, one layer less, more dropout.

    A linear teacher has neither width nor layers (what `model_config` calls its width is the number of its outputs), so
    its student gets the least of both.
    """
    is_linear = isinstance(teacher.model, LinearBaseline)
    width, layers = (0, 0) if is_linear else (model_hidden_dim(teacher.model), model_num_hidden_layers(teacher.model))
    return dataclasses.replace(
        config,
        hidden_dim=max(MIN_STUDENT_WIDTH, width // 2),
        num_hidden_layers=max(1, layers - 1),
        dropout=min(MAX_STUDENT_DROPOUT, round(model_dropout(teacher.model) + 0.05, 6)),
    )


def _calibrate(model: nn.Module, fitting: TrainingLoop, config: TrainingConfig) -> None:
    """Keep a temperature where one lowers the validation log loss; the other modes' files have no place for it."""
    y, outputs = fitting.data.y_validation, fitting.validation_outputs()
    wanted = config.calibrate and config.training_mode in PIECEWISE_MODES
    if wanted and y is not None and outputs is not None and not y.is_floating_point():
        set_temperature(model, best_temperature(outputs.cpu().numpy(), y.cpu().numpy()))


def _bundle(problem: TrainingData, config: TrainingConfig, model: nn.Module) -> ModelBundle:
    encoder = problem.label_encoder
    bundle = ModelBundle(
        model=model.eval(),
        task=problem.contract.task,
        vectorizer=problem.features.vectorizer,
        scaler=problem.features.scaler,
        feature_medians=problem.features.medians,
        label_encoder=encoder,
        target_scaler=problem.target_scaler,
        target_column=config.target_column,
        input_dim=problem.features.scaled.shape[1],
        output_dim=problem.output_dim,
        class_names=None if encoder is None else [str(label) for label in np.asarray(encoder.classes_)],
        model_config=model_config_of(model),
    )
    bundle.contract = problem.contract  # pyright: ignore[reportAttributeAccessIssue]
    return bundle


def _target_tensor(bundle: ModelBundle, labels: np.ndarray) -> Tensor:
    if bundle.label_encoder is not None:
        return torch.from_numpy(bundle.label_encoder.transform(labels))
    scaler = bundle.target_scaler
    values = labels[:, None] if scaler is None else scaler.transform(labels[:, None])
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def _fingerprint(table: pa.Table, config: TrainingConfig, teacher: ModelBundle | None) -> str:
    taught = None if teacher is None else sha256_bytes(encode_bundle(teacher))
    place = choose_device(config.device).type
    return sha256_bytes(dump_json([fingerprint(table), dataclasses.asdict(config), current_versions(), taught, place]))
