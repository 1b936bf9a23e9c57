from __future__ import annotations

import pyarrow as pa
import pytest
from builders import mixed_table

from ai.ml.core.contract.derive import derive_contract
from ai.ml.core.contract.table_changes import table_changes
from ai.ml.core.types import TrainingConfig

TABLE = mixed_table(1_000)
CONTRACT = derive_contract(TABLE, TrainingConfig("y")).contract


@pytest.mark.parametrize("table", [TABLE, mixed_table(900, seed=3), mixed_table(2_000, seed=4)])
def test_a_good_table_gets_no_word(table: pa.Table) -> None:
    days = pa.array([max(TABLE["signup"].to_pylist())] * table.num_rows)
    assert table_changes(CONTRACT, table.set_column(4, "signup", days)) == []


def test_fewer_rows_older_dates_and_lost_digits_are_told() -> None:
    assert table_changes(CONTRACT, TABLE.slice(0, 700))[0] == "the table has 700 rows, the champion's had 1,000"
    oldest = TABLE.set_column(4, "signup", pa.array([min(TABLE["signup"].to_pylist())] * 1_000))
    (older,) = table_changes(CONTRACT, oldest)
    assert older.startswith("the newest 'signup' is 2020-")
    income = [None if value is None else float(f"{value:.0e}") for value in TABLE["income"].to_pylist()]
    (lost,) = table_changes(CONTRACT, TABLE.set_column(1, "income", pa.array(income)))
    assert lost.startswith("'income' has lost digits: 1 now, ")
    half = [value if place % 2 else income[place] for place, value in enumerate(TABLE["income"].to_pylist())]
    assert table_changes(CONTRACT, TABLE.set_column(1, "income", pa.array(half))) == [], "half of them have all digits"


def test_a_column_that_is_gone_says_nothing_here() -> None:
    assert table_changes(CONTRACT, TABLE.drop_columns(["income"])) == []
