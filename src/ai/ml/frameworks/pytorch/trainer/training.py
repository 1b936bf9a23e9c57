"""Training: a raw table and a configuration in, a bundle with its metrics and history out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import nn

from ai.ml.core.bundle_dir import current_versions
from ai.ml.core.contract import Finding
from ai.ml.core.files.atomic import dump_json, sha256_bytes
from ai.ml.core.splits.rule import SplitRule
from ai.ml.core.tables import fingerprint
from ai.ml.core.tables.type_promotion import plain_types
from ai.ml.core.types import Metrics, ModelBundle, TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import Scorer, ScoringSettings
from ai.ml.frameworks.pytorch.models.networks import PIECEWISE_MODES, model_config_of, set_temperature
from ai.ml.frameworks.pytorch.serialization.save import encode_bundle
from ai.ml.frameworks.pytorch.trainer.budget import budget_sentence, reserved_seconds, scoring_seconds
from ai.ml.frameworks.pytorch.trainer.calibration import best_temperature
from ai.ml.frameworks.pytorch.trainer.checkpoint import EpochCheckpoint
from ai.ml.frameworks.pytorch.trainer.config_check import check_config
from ai.ml.frameworks.pytorch.trainer.data.dataset import TrainingData
from ai.ml.frameworks.pytorch.trainer.data.prepare import prepare_dataset
from ai.ml.frameworks.pytorch.trainer.loop import EpochReport, TrainingLoop
from ai.ml.frameworks.pytorch.trainer.metrics import evaluate
from ai.ml.frameworks.pytorch.trainer.setup import assemble, choose_device, training_environment


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
            the student's, so the config's column options don't count (a column that is excluded and that the teacher
            reads is refused). `student_of` gives a smaller config.

    Raises:
        UsageError: a setting is off, or doesn't fit the table.
        DataRefused: the table can't be learned from.
        StorageFailed: the checkpoint can't be written.
    """
    began = time.perf_counter()
    check_config(config)
    table = plain_types(table)
    data, findings = prepare_dataset(table, config, teacher)
    prepared = time.perf_counter() - began
    with training_environment(config) as device:
        model, loop, criterion = assemble(data, config, device, findings)
        loop.began = began
        if config.budget_seconds is not None:
            loop.reserve = reserved_seconds(config.budget_seconds, prepared, scoring_seconds(model, data, scoring))
        loop.run(progress, _resumed(checkpoint, (table, config, teacher), loop, findings))
        loop.restore_best()
        if loop.stop_reason == "budget":
            findings.append(Finding("training", None, budget_sentence(loop)))
        _calibrate(model, loop, config)
        bundle = _bundle(data, config, model.cpu())
        metrics = evaluate(Scorer(bundle, scoring), table, data, criterion)
    return TrainingResult(
        bundle,
        metrics,
        tuple(loop.state.history),
        data.train_rows,
        data.holdout_rows,
        tuple(findings),
        data.split.rule,
    )


def _resumed(
    path: Path | None,
    inputs: tuple[pa.Table, TrainingConfig, ModelBundle | None],
    loop: TrainingLoop,
    findings: list[Finding],
) -> EpochCheckpoint | None:
    """The checkpoint of a training, whose state is already restored where it is of the same inputs."""
    if path is None:
        return None
    checkpoint = EpochCheckpoint(path, _fingerprint(*inputs))
    reason = checkpoint.resume(loop.load_state_dict)
    if reason is not None:
        findings.append(Finding("training", None, reason))
    return checkpoint


def _calibrate(model: nn.Module, loop: TrainingLoop, config: TrainingConfig) -> None:
    """Keep a temperature where one lowers the validation log loss; the other modes' files have no field for it."""
    y, outputs = loop.data.y_validation, loop.validation_outputs()
    wanted = config.calibrate and config.training_mode in PIECEWISE_MODES
    if wanted and y is not None and outputs is not None and not y.is_floating_point():
        set_temperature(model, best_temperature(outputs.cpu().numpy(), y.cpu().numpy()))


def _bundle(data: TrainingData, config: TrainingConfig, model: nn.Module) -> ModelBundle:
    bundle = ModelBundle(
        model=model.eval(),
        task=data.contract.task,
        vectorizer=data.features.vectorizer,
        scaler=data.features.scaler,
        feature_medians=data.features.medians,
        label_encoder=data.target.label_encoder,
        target_scaler=data.target.scaler,
        target_column=config.target_column,
        input_dim=data.input_dim,
        output_dim=data.output_dim,
        class_names=data.target.class_names,
        model_config=model_config_of(model),
    )
    bundle.contract = data.contract  # pyright: ignore[reportAttributeAccessIssue]
    return bundle


def _fingerprint(table: pa.Table, config: TrainingConfig, teacher: ModelBundle | None) -> str:
    """Of everything that decides a training's bits: a checkpoint of another one is of no use."""
    teacher_digest = None if teacher is None else sha256_bytes(encode_bundle(teacher))
    settings, device = dataclasses.asdict(config), choose_device(config.device).type
    return sha256_bytes(dump_json([fingerprint(table), settings, current_versions(), teacher_digest, device]))
