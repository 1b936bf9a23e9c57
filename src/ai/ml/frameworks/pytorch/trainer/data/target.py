"""The target of a training: its values row by row, and the encoding in which a network learns them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import LabelEncoder, StandardScaler

from ai.ml.core.errors import DataRefused
from ai.ml.core.types import ModelBundle, TaskType
from ai.ml.frameworks.pytorch.features.fit import refuse_enormous


@dataclass(frozen=True)
class Target:
    """A table's target, read and encoded once for a whole training."""

    task: TaskType
    values: np.ndarray
    """`(n_rows,)` of the whole table: object of labels, or float64."""
    label_encoder: LabelEncoder | None
    """Of a classification: labels to class indices."""
    scaler: StandardScaler | None
    """Of a regression; None where a teacher has none."""

    @classmethod
    def fit(cls, task: TaskType, values: np.ndarray, train_rows: np.ndarray, name: str) -> Target:
        """Fit the encoder on all labels, or the scaler on the training rows' values.

        Args:
            task: of the contract.
            values: `(n_rows,)` of the whole table.
            train_rows: `(n_train,)` int64.
            name: of the column, for messages.

        Raises:
            DataRefused: the values are too large, or too close together, to be scaled.
        """
        if task == "classification":
            return cls(task, values, LabelEncoder().fit(values), None)
        refuse_enormous(values, name)
        return cls(task, values, None, _fit_scaler(values[train_rows], name))

    @classmethod
    def of_teacher(cls, teacher: ModelBundle, values: np.ndarray, name: str) -> Target:
        """Encode as a teacher does.

        Raises:
            DataRefused: the values are too large.
        """
        if teacher.label_encoder is None:
            refuse_enormous(values, name)
        return cls(teacher.task, values, teacher.label_encoder, teacher.target_scaler)

    @property
    def output_dim(self) -> int:
        """Number of classes, or 1 for regression."""
        return 1 if self.label_encoder is None else len(np.asarray(self.label_encoder.classes_))

    @property
    def class_names(self) -> list[str] | None:
        """The labels as texts, in the encoder's order; None for regression."""
        return None if self.label_encoder is None else [str(label) for label in np.asarray(self.label_encoder.classes_)]

    def encoded(self, rows: np.ndarray) -> np.ndarray:
        """`(len(rows),)` of the table's rows with these numbers: class indices int64, or scaled values float64."""
        values = self.values[rows]
        if self.label_encoder is not None:
            return np.asarray(self.label_encoder.transform(values))
        return values if self.scaler is None else np.asarray(self.scaler.transform(values[:, None]))[:, 0]


def _fit_scaler(values: np.ndarray, name: str) -> StandardScaler:
    """Scaler of `(n_rows,)` float64, which treats values that differ by rounding only as equal."""
    scaler = StandardScaler().fit(values[:, None])
    smallest, largest = float(values.min()), float(values.max())
    if smallest != largest and not np.array_equal(np.asarray(scaler.scale_), np.sqrt(np.asarray(scaler.var_))):
        raise DataRefused(
            f"target {name!r} goes from {smallest!r} to {largest!r}, which is too little to tell its values apart in "
            "float64: give it in another unit, or without the part that all rows have in common"
        )
    return scaler
