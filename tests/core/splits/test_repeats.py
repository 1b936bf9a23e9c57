from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from builders import mixed_table

from ai.ml.core.contract.derive import derive_contract
from ai.ml.core.contract.target import target_values
from ai.ml.core.split_config import SplitConfig
from ai.ml.core.splits.repeats import find_repeats
from ai.ml.core.splits.row_keys import row_keys
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.trainer.data.split import split_rows

TABLE = mixed_table(300)


def said(table: pa.Table, by: str) -> list[str]:
    config = TrainingConfig("y", split=SplitConfig(by))  # type: ignore[arg-type]
    contract = derive_contract(table, config).contract
    split = split_rows(table, contract, target_values(contract, table), config)
    return [finding.message for finding in split.findings if finding.kind == "repeats"]


@pytest.mark.parametrize("by", ["hash", "random"])
def test_rows_that_a_join_made_four_times_are_counted_and_those_over_the_split_too(by: str) -> None:
    assert said(TABLE, by) == []
    (message,) = said(pa.concat_tables([TABLE] * 4), by)
    assert message.startswith("900 of 1,200 rows repeat others in all that the model reads, label included: ")
    if by == "hash":
        assert message.endswith(": equal rows are on one side of the split")
    else:
        assert "held-out rows were learned from, so the metrics flatter; --split hash keeps" in message


def test_equal_cells_with_other_labels_are_told_apart() -> None:
    labels = pa.array(["no" if label == "yes" else "yes" for label in TABLE["y"].to_pylist()])
    both = pa.concat_tables([TABLE, TABLE.set_column(TABLE.num_columns - 1, "y", labels)])
    (message,) = said(both, "hash")
    assert message.startswith(
        "300 of 600 rows repeat others in all that the model reads, 0 of them with the same label"
    )


def test_numbers_are_labels_as_well() -> None:
    table = mixed_table(100, task="regression")
    contract = derive_contract(table, TrainingConfig("y")).contract
    twice = pa.concat_tables([table, table])
    values = target_values(contract, twice)
    keys = row_keys(twice, [column.name for column in contract.columns])[0]
    (found,) = find_repeats(keys, values, np.arange(150), np.arange(150, 200))
    assert found.message.endswith(
        "50 of the 50 held-out rows were learned from, so the metrics flatter; --split hash keeps equal rows on one "
        "side"
    )
