"""A raw table into `TrainingData`: read by a contract of its own or a teacher's, split, and fitted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ai.ml.core.contract import Conformer, Finding, InputContract, derive_contract
from ai.ml.core.types import ModelBundle, TrainingConfig
from ai.ml.frameworks.pytorch.features.fit import fit_features
from ai.ml.frameworks.pytorch.trainer.config_check import check_task, check_teachable
from ai.ml.frameworks.pytorch.trainer.data.dataset import TrainingData
from ai.ml.frameworks.pytorch.trainer.data.split import split_rows
from ai.ml.frameworks.pytorch.trainer.data.student import prepare_for_student, student_findings
from ai.ml.frameworks.pytorch.trainer.data.target import Target


def prepare_dataset(
    table: pa.Table, config: TrainingConfig, teacher: ModelBundle | None
) -> tuple[TrainingData, list[Finding]]:
    """The table as numbers, by a contract of its own or the teacher's, and findings for the user.

    Raises:
        UsageError: a setting doesn't fit the table or the teacher.
        DataRefused: the table can't be learned from.
    """
    if teacher is not None:
        check_task(config, teacher.task)
        check_teachable(config)
        data = prepare_for_student(table, teacher, config)
        return data, [*student_findings(data.contract, config, teacher), *data.split.findings]
    derived = derive_contract(table, config)
    check_task(config, derived.contract.task)
    data = _prepare(table, derived.contract, derived.target, config)
    return data, [*derived.findings, *data.split.findings]


def _prepare(table: pa.Table, contract: InputContract, values: np.ndarray, config: TrainingConfig) -> TrainingData:
    """Split, and fit vectorizer, medians, scaler and target encoding on the training rows."""
    split = split_rows(table, contract, values, config)
    features = fit_features(Conformer(contract).table(table.take(pa.array(split.train_rows))).table)
    target = Target.fit(contract.task, values, split.train_rows, contract.target_column)
    return TrainingData(contract, features, target, split, target.encoded(split.train_rows))
