"""A raw table as the numbers that a model is trained on: split, preprocessing fitted, answers encoded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import LabelEncoder, StandardScaler

from ai.ml.core.contract import Conformer, InputContract, target_values
from ai.ml.core.contract.derive import check_column_options
from ai.ml.core.contract.kinds import date_name
from ai.ml.core.contract.target import find_task
from ai.ml.core.contract.target_record import record_target
from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.types import ModelBundle, TrainingConfig
from ai.ml.frameworks.pytorch.features.fit import FittedFeatures, fit_features, refuse_enormous
from ai.ml.frameworks.pytorch.inference.scorer import Scorer
from ai.ml.frameworks.pytorch.trainer.split import Split, split_rows


@dataclass(frozen=True)
class TrainingData:
    """The table as numbers."""

    contract: InputContract
    features: FittedFeatures
    """Of the training rows; fitted on them, or a teacher's."""
    label_encoder: LabelEncoder | None
    target_scaler: StandardScaler | None
    y: np.ndarray
    """`(n_train,)` class indices int64, or scaled values float64."""
    split: Split
    labels: np.ndarray
    """`(n_rows,)` of the whole table, as they came."""
    teacher: np.ndarray | None = None
    """`(n_train, output_dim)` float32: a teacher's probabilities or scaled values for the training rows."""

    @property
    def train_rows(self) -> np.ndarray:
        """Row numbers of the training rows in the table."""
        return self.split.train_rows

    @property
    def holdout_rows(self) -> np.ndarray:
        """Row numbers of the holdout rows in the table."""
        return self.split.holdout_rows

    @property
    def vectorizer(self) -> DictVectorizer:
        """The fitted vectorizer, which names the features."""
        return self.features.vectorizer

    @property
    def output_dim(self) -> int:
        """Number of classes, or 1 for regression."""
        return 1 if self.label_encoder is None else len(np.asarray(self.label_encoder.classes_))


def prepare(table: pa.Table, contract: InputContract, config: TrainingConfig) -> TrainingData:
    """Split, and fit vectorizer, medians, scaler and target encoding on the training rows.

    Raises:
        DataRefused: the table can't be learned from.
    """
    labels = target_values(contract, table)
    split = split_rows(table, contract, labels, config)
    train_rows = split.train_rows
    typed = Conformer(contract).table(table.take(pa.array(train_rows))).table
    features = fit_features(typed)
    label_encoder, target_scaler = None, None
    if contract.task == "classification":
        label_encoder = LabelEncoder().fit(labels)
        y = np.asarray(label_encoder.transform(labels[train_rows]))
    else:
        refuse_enormous(labels, contract.target_column)
        target_scaler = _fit_target_scaler(labels[train_rows], contract.target_column)
        y = np.asarray(target_scaler.transform(labels[train_rows, None]))[:, 0]
    return TrainingData(contract, features, label_encoder, target_scaler, y, split, labels)


def prepare_for_student(table: pa.Table, teacher: ModelBundle, config: TrainingConfig) -> TrainingData:
    """The same with everything that is fitted taken from a teacher, and its answers to the training rows.

    Raises:
        UsageError: the teacher has no input contract, another target, or reads a column that is excluded; or the config
            names a column that isn't there.
        DataRefused: the table doesn't meet the teacher's contract, or has a class that it doesn't know.
    """
    contract = teacher.contract
    if contract is None:
        raise UsageError("the teacher has no input contract: only a bundle with a manifest can teach")
    if contract.target_column != config.target_column:
        raise UsageError(f"the teacher predicts {contract.target_column!r}, the student {config.target_column!r}")
    if config.task not in ("auto", teacher.task):
        raise UsageError(f"the teacher does {teacher.task}, the student {config.task}")
    check_column_options(table.column_names, config)
    read = [column.name for column in contract.columns if column.name in config.exclude_columns]
    if read:
        raise UsageError(f"the teacher reads column {read[0]!r}, which exclude_columns leaves out: train without it")
    _refuse_unknown_classes(target_values(contract, table), teacher)
    find_task(table, dataclasses.replace(config, task=teacher.task))
    labels = target_values(contract, table)
    # A row's cells are those that the teacher reads: whether they are all there is asked before they are hashed.
    Conformer(contract).table(table.slice(0, 0))
    split = split_rows(table, contract, labels, config)
    train_rows = split.train_rows
    scorer = Scorer(teacher, device="cpu")
    part = table.take(pa.array(train_rows))
    matrix = scorer.matrix(part)
    scaled, raw = scorer.scaled(matrix), scorer.score_matrix(matrix).raw
    encoder, target_scaler = teacher.label_encoder, teacher.target_scaler
    if encoder is not None:
        y, answers = np.asarray(encoder.transform(labels[train_rows])), scorer.probabilities(raw)
    else:
        refuse_enormous(labels, contract.target_column)
        values = labels[train_rows, None]
        y = np.asarray(values if target_scaler is None else target_scaler.transform(values))[:, 0]
        answers = raw
    medians = np.zeros(matrix.shape[1]) if teacher.feature_medians is None else teacher.feature_medians
    features = FittedFeatures(teacher.vectorizer, teacher.scaler, medians, scaled)
    fitted = (encoder, target_scaler, y, split, labels)
    # Its inputs are the teacher's; the labels are those of its own table.
    contract = dataclasses.replace(contract, target=record_target(contract, labels))
    return TrainingData(contract, features, *fitted, answers.astype(np.float32))


def overridden_column_options(contract: InputContract, config: TrainingConfig) -> list[str]:
    """What a config says of columns and a teacher's contract says otherwise: `category_columns 'zip'`."""
    kinds = {column.name: column.kind for column in contract.columns}
    wishes = {
        "date_columns": ("date", tuple(map(date_name, config.date_columns))),
        "category_columns": ("category", config.category_columns),
        "number_columns": ("number", config.number_columns),
    }
    overruled = [
        f"{option} {name!r}" for option, (kind, names) in wishes.items() for name in names if kinds.get(name) != kind
    ]
    return overruled + [f"keep_columns {name!r}" for name in config.keep_columns if name not in kinds]


def _fit_target_scaler(values: np.ndarray, name: str) -> StandardScaler:
    """Scaler of `(n_rows,)` float64, which takes values that differ by next to nothing for one and the same."""
    scaler = StandardScaler().fit(values[:, None])
    least, largest = float(values.min()), float(values.max())
    if least != largest and not np.array_equal(np.asarray(scaler.scale_), np.sqrt(np.asarray(scaler.var_))):
        raise DataRefused(
            f"target {name!r} goes from {least!r} to {largest!r}, which is too little to tell its values apart in "
            "float64: give it in another unit, or without the part that all rows have in common"
        )
    return scaler


def _refuse_unknown_classes(labels: np.ndarray, teacher: ModelBundle) -> None:
    if teacher.class_names is None:
        return
    unknown = sorted({str(label) for label in labels} - set(teacher.class_names))
    if unknown:
        further = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise DataRefused(f"the teacher doesn't know the class {unknown[0]!r} of the target{further}: train without it")
