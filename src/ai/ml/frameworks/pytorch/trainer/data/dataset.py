"""A table as the numbers that a model is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ai.ml.core.contract import InputContract
from ai.ml.frameworks.pytorch.features.fit import FittedFeatures
from ai.ml.frameworks.pytorch.trainer.data.split import Split
from ai.ml.frameworks.pytorch.trainer.data.target import Target


@dataclass(frozen=True)
class TrainingData:
    """A table split into its rows' roles and encoded for a network."""

    contract: InputContract
    features: FittedFeatures
    """Of the training rows; fitted on them, or a teacher's."""
    target: Target
    split: Split
    y: np.ndarray
    """`(n_train,)` of the training rows, as `Target.encoded` gives them."""
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
    def input_dim(self) -> int:
        """Number of features."""
        return self.features.scaled.shape[1]

    @property
    def output_dim(self) -> int:
        """Number of classes, or 1 for regression."""
        return self.target.output_dim
