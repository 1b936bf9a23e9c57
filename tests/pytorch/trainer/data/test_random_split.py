"""The random split: small tables, rare classes, and validation parts that leave nothing to learn from."""

from __future__ import annotations

import numpy as np
import pytest
from builders import mixed_table
from bundles import config

from ai.ml.core.errors import DataRefused
from ai.ml.core.types import TaskType
from ai.ml.frameworks.pytorch.trainer.data.random_split import split_validation
from ai.ml.frameworks.pytorch.trainer.training import train


def test_the_only_row_of_a_class_is_learned_from_and_the_others_are_judged_by() -> None:
    y = np.array([0] * 500 + [1] * 498 + [2] + [3])
    fitting, validation = split_validation("classification", y, 0.1, 0) or ((), ())
    assert sorted([*fitting, *validation]) == list(range(1000))
    assert {998, 999} <= set(fitting)
    assert len(validation) == 100
    assert np.bincount(y[validation]).tolist() == [50, 50]
    crowd = np.repeat(np.arange(150), 2)
    assert split_validation("classification", crowd, 0.1, 0) is not None, "more classes than validation rows"


@pytest.mark.parametrize(("task", "least"), [("classification", 20), ("regression", 50)])
def test_small_tables_are_judged_by_ten_rows_and_tiny_ones_by_none(task: TaskType, least: int) -> None:
    for rows, held in ((least - 1, None), (least, 10), (60, 10), (91, 10), (120, 12)):
        parts = split_validation(task, np.arange(rows) % 2, 0.1, 0)
        assert (parts and len(parts[1])) == held
        assert parts is None or sorted([*parts[0], *parts[1]]) == list(range(rows))
    assert split_validation("classification", np.arange(40), 0.5, 0) is None, "each class has one row, to learn from"
    assert split_validation(task, np.arange(40) % 2, 0.0, 0) is None, "none is wanted"


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_validation_part_that_leaves_nothing_to_learn_from_is_refused(task: TaskType) -> None:
    for size in (0.995, 0.9999999):
        with pytest.raises(DataRefused, match=r"validation_size=.* leaves [01] of 160 training rows to learn from"):
            train(mixed_table(200, task=task), config(validation_size=size))


def test_more_classes_than_rows_to_learn_from_are_split_without_shares() -> None:
    crowd = np.repeat(np.arange(40), 6)
    fitting, validation = split_validation("classification", crowd, 0.9, 0) or ((), ())
    assert (len(fitting), len(validation)) == (24, 216)
