"""A student: a model that learns a teacher's answers too, with the teacher's preprocessing and often fewer weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from ai.ml.core.contract import Conformer, Finding, InputContract, TargetColumn
from ai.ml.core.contract.derive import check_column_options
from ai.ml.core.contract.kinds import date_name
from ai.ml.core.contract.target_record import record_target
from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.types import ModelBundle, TrainingConfig
from ai.ml.frameworks.pytorch.features.fit import FittedFeatures
from ai.ml.frameworks.pytorch.inference.scorer import Scorer
from ai.ml.frameworks.pytorch.models.networks import (
    LinearBaseline,
    model_dropout,
    model_hidden_dim,
    model_num_hidden_layers,
)
from ai.ml.frameworks.pytorch.trainer.data.dataset import TrainingData
from ai.ml.frameworks.pytorch.trainer.data.split import split_rows
from ai.ml.frameworks.pytorch.trainer.data.target import Target

MIN_STUDENT_WIDTH = 16
MAX_STUDENT_DROPOUT = 0.5


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


def prepare_for_student(table: pa.Table, teacher: ModelBundle, config: TrainingConfig) -> TrainingData:
    """The table as numbers by a teacher's preprocessing, with its answers to the training rows.

    Raises:
        UsageError: the teacher has no input contract, another target, or reads a column that is excluded; or the config
            names a column that isn't there.
        DataRefused: the table doesn't meet the teacher's contract, or has a class that it doesn't know.
    """
    contract = _contract_of(teacher, config)
    check_column_options(table.column_names, config)
    excluded = [column.name for column in contract.columns if column.name in config.exclude_columns]
    if excluded:
        raise UsageError(
            f"the teacher reads column {excluded[0]!r}, which exclude_columns leaves out: train without it"
        )
    column = TargetColumn.read(table, contract.target_column)
    values = column.values(teacher.task)
    _refuse_unknown_classes(column, teacher)
    column.find_task(teacher.task)
    # A row's cells are those that the teacher reads: whether they are all there is asked before they are hashed.
    Conformer(contract).table(table.slice(0, 0))
    split = split_rows(table, contract, values, config)
    target = Target.of_teacher(teacher, values, contract.target_column)
    scorer = Scorer(teacher, device="cpu")
    matrix = scorer.matrix(table.take(pa.array(split.train_rows)))
    scaled, raw = scorer.scaled(matrix), scorer.score_matrix(matrix).raw
    answers = raw if target.label_encoder is None else scorer.probabilities(raw)
    medians = np.zeros(matrix.shape[1]) if teacher.feature_medians is None else teacher.feature_medians
    features = FittedFeatures(teacher.vectorizer, teacher.scaler, medians, scaled)
    y = target.encoded(split.train_rows)
    # Its inputs are the teacher's; the labels are those of its own table.
    contract = dataclasses.replace(contract, target=record_target(contract, values))
    return TrainingData(contract, features, target, split, y, answers.astype(np.float32))


def student_findings(contract: InputContract, config: TrainingConfig, teacher: ModelBundle) -> list[Finding]:
    """Findings: options that the teacher's contract overrides, and a student that isn't smaller."""
    findings: list[Finding] = []
    overridden = overridden_column_options(contract, config)
    if overridden:
        message = f"the teacher's contract says what the columns are: {', '.join(overridden)} doesn't count"
        findings.append(Finding("training", None, message))
    if isinstance(teacher.model, LinearBaseline) and config.training_mode != "linear_glm_baseline":
        size = f"{config.num_hidden_layers} × {config.hidden_dim}"
        message = f"the teacher is a linear model, so this student ({size}) is larger than it, not smaller"
        findings.append(Finding("training", None, message))
    return findings


def overridden_column_options(contract: InputContract, config: TrainingConfig) -> list[str]:
    """The config's column options that a teacher's contract contradicts, as texts such as `category_columns 'zip'`."""
    kinds = {column.name: column.kind for column in contract.columns}
    options = {
        "date_columns": ("date", tuple(map(date_name, config.date_columns))),
        "category_columns": ("category", config.category_columns),
        "number_columns": ("number", config.number_columns),
    }
    overridden = [
        f"{option} {name!r}" for option, (kind, names) in options.items() for name in names if kinds.get(name) != kind
    ]
    return overridden + [f"keep_columns {name!r}" for name in config.keep_columns if name not in kinds]


def _contract_of(teacher: ModelBundle, config: TrainingConfig) -> InputContract:
    contract = teacher.contract
    if contract is None:
        raise UsageError("the teacher has no input contract: only a bundle with a manifest can teach")
    if contract.target_column != config.target_column:
        raise UsageError(f"the teacher predicts {contract.target_column!r}, the student {config.target_column!r}")
    if config.task not in ("auto", teacher.task):
        raise UsageError(f"the teacher does {teacher.task}, the student {config.task}")
    return contract


def _refuse_unknown_classes(column: TargetColumn, teacher: ModelBundle) -> None:
    if teacher.class_names is None:
        return
    unknown = sorted(set(column.labels) - set(teacher.class_names))
    if unknown:
        further = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise DataRefused(f"the teacher doesn't know the class {unknown[0]!r} of the target{further}: train without it")
