"""Tables and settings that a training can't go through with: one sentence each, and never a traceback."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from builders import mixed_table
from bundles import config

from ai.ml.core.errors import DataRefused
from ai.ml.frameworks.pytorch.trainer import setup as assembly
from ai.ml.frameworks.pytorch.trainer.training import train


@pytest.mark.parametrize(("unit", "common"), [(1e-200, 0.0), (1e-4, 1e12)])
def test_a_target_whose_values_cannot_be_told_apart_is_refused(unit: float, common: float) -> None:
    table = mixed_table(100, task="regression")
    values = pa.array(common + unit * np.linspace(-1, 1, 100))
    with pytest.raises(DataRefused, match=r"target 'y' goes from .* too little to tell its values apart in float64"):
        train(table.set_column(table.column_names.index("y"), "y", values), config(task="regression"))


def test_a_forests_answers_go_to_the_device_as_all_other_tensors_do(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, ...]] = []
    real = assembly._to_device

    def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        sent.append(tuple(tensor.shape))
        return real(tensor, device)

    monkeypatch.setattr(assembly, "_to_device", to_device)
    train(mixed_table(200), config(training_mode="tree_teacher_distillation", validation_size=0.0))
    assert [shape for shape in sent if shape == (160, 2)], "by pinned memory, where there is a GPU"


def test_a_row_without_a_finite_answer_is_named() -> None:
    table = mixed_table(200)
    holdout = train(table, config()).holdout_rows
    ages = table["age"].to_pylist()
    ages[holdout[3]] = 1e300
    wild = table.set_column(0, "age", pa.array(ages))
    with pytest.raises(DataRefused, match=f"1 of 40 rows get no finite answer, first row {holdout[3]} of the table"):
        train(wild, config())
    assert train(wild, config(training_mode="mlp_ple")).metrics.test_loss < 1
