"""Tables for the drill, cut without a training."""

from __future__ import annotations

import pyarrow as pa
from builders import mixed_table

from ai.ml.core.contract.derive import derive_contract
from ai.ml.core.types import TaskType, TrainingConfig
from ai.ml.retraining.drill.kind import Scene

ROWS, OLD = 600, 400


def scene(task: TaskType = "classification", classes: int = 2) -> Scene:
    """Numbers, categories, a date and a target `y`; the first 400 of 600 rows are the champion's."""
    table = mixed_table(ROWS + 100, task=task)
    if classes > 2:
        labels = [f"{label}{i % 3}" if label == "yes" else label for i, label in enumerate(table["y"].to_pylist())]
        table = table.set_column(table.num_columns - 1, "y", pa.array(labels))
    tonight = table.slice(0, ROWS)
    champions = tonight.slice(0, OLD)
    contract = derive_contract(champions, TrainingConfig("y", date_columns=("signup",))).contract
    return Scene(champions, tonight, table.slice(ROWS), contract)
