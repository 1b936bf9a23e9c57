"""What is counted, and the limits that turn a count into a refusal."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ai.ml.core.contract import STRICT, USUAL, Conformer, Limits, derive_contract
from ai.ml.core.errors import DataRefused
from ai.ml.core.types import TrainingConfig

TRAINING = pa.table(
    {
        "income": [row * 37 % 41 + 0.5 for row in range(100)],
        "bonus": [row * 17 % 29 + 0.5 if row % 2 else None for row in range(100)],
        "y": ["a", "b"] * 50,
    }
)
CONTRACT = derive_contract(TRAINING, TrainingConfig("y")).contract


def check(limits: Limits, income: list[float | None], bonus: list[float | None] | None = None) -> None:
    table = pa.table(
        {"income": pa.array(income, pa.float64()), "bonus": pa.array(bonus or [1.0] * len(income), pa.float64())}
    )
    limits.check(Conformer(CONTRACT).table(table).counts, CONTRACT)


def test_a_column_that_was_filled_and_is_empty_now_is_refused_by_name() -> None:
    with pytest.raises(DataRefused) as refused:
        check(USUAL, [None] * 60)
    assert "'income': 100.00% of the cells are missing, the limit is 90.00%" in str(refused.value)
    assert "--allow-empty-columns" in str(refused.value)
    check(Limits(), [None] * 60)


@pytest.mark.parametrize("income", [[None] * 9, [1.0, None] * 30, [None] * 50 + [1.0] * 10])
def test_few_rows_and_many_missing_cells_are_counted_only(income: list[float | None]) -> None:
    check(USUAL, income)


def test_a_column_that_was_half_empty_at_training_may_be_empty() -> None:
    check(USUAL, [1.0] * 60, [None] * 60)


def test_strict_looks_at_a_single_row_too() -> None:
    with pytest.raises(DataRefused, match=r"'income': 100\.00% of the cells are missing"):
        check(STRICT, [None])
