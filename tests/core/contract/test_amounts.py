"""Numbers with a unit or a sign of money are read as numbers, said, and read by the same rule at scoring."""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa
import pytest

from ai.ml.core.contract import Derived, InputContract, derive_contract
from ai.ml.core.contract.casting import Conformer
from ai.ml.core.types import TrainingConfig

ROWS = 60
VALUES = [round(row * 137.25 + 1, 2) for row in range(ROWS)]


def derived(cells: list[str], **wishes: tuple[str, ...]) -> Derived:
    table = pa.table({"x": cells, "y": ["a", "b"] * (len(cells) // 2)})
    return derive_contract(table, TrainingConfig("y", **wishes))


WRITTEN: dict[str, Callable[[float], str]] = {
    "percent": lambda value: f"{value}%",
    "kilograms": lambda value: f"{value} kg",
    "dollars": lambda value: f"${value:,.2f}",
    "euro": lambda value: f"{value:,.2f} €".replace(",", "_").replace(".", ",").replace("_", "."),
    "francs": lambda value: f"CHF {value:,.2f}".replace(",", "'"),
    "millions": lambda value: f"{value / 1e6:.8f}M",
    "brackets": lambda value: f"({value})" if value > 4000 else f"{value}",
}


@pytest.mark.parametrize("form", WRITTEN)
def test_amounts_are_read_as_the_numbers_that_they_are(form: str) -> None:
    cells = [WRITTEN[form](value) for value in VALUES]
    found = derived(cells)
    (column,) = found.contract.columns
    assert column.kind == "number"
    (finding,) = found.findings
    assert "'x' holds numbers with" in finding.message
    assert "--category 'x' keeps the texts" in finding.message
    assert json.loads(json.dumps(found.contract.to_json()))["format"] == 2
    contract = InputContract.from_json(json.loads(json.dumps(found.contract.to_json())))
    assert contract == found.contract
    read = Conformer(contract).table(pa.table({"x": cells}))
    sign = [-1 if form == "brackets" and value > 4000 else 1 for value in VALUES]
    assert read.table["x"].to_pylist() == pytest.approx([value * one for value, one in zip(VALUES, sign, strict=True)])
    assert read.counts.columns["x"].coerced == 0


def test_thousands_and_millions_in_one_column_are_told_apart() -> None:
    cells = [f"{row + 1.5}k" for row in range(40)] + [f"{row + 1}M" for row in range(20)]
    (column,) = derived(cells).contract.columns
    assert (column.kind, column.minimum, column.maximum) == ("number", 1500, 20_000_000)


def test_another_unit_at_scoring_is_counted_and_a_cell_without_one_is_read() -> None:
    conformer = Conformer(derived([f"{value} kg" for value in VALUES]).contract)
    read = conformer.table(pa.table({"x": ["5 kg", "6", "7 lb", "", "?", "n/a"]}))
    assert read.table["x"].to_pylist() == [5, 6, None, None, None, None]
    assert (read.counts.columns["x"].coerced, read.counts.columns["x"].missing) == (1, 3)
    assert conformer.table(pa.table({"x": [5.5, None]})).table["x"].to_pylist() == [5.5, None]


@pytest.mark.parametrize(
    "cells",
    [
        [f"{row} kg" if row % 2 else f"{row} lb" for row in range(ROWS)],
        [f"{row}%" if row % 2 else f"{row / 100}" for row in range(ROWS)],
        [f"A{row}" for row in range(ROWS)],
        [f"10:{row:02}" for row in range(ROWS)],
        [f"{row}-{row + 1}" for row in range(ROWS)],
        ["12 V", "24 V"] * 30,
    ],
    ids=["two units", "half without", "codes", "times", "ranges", "few names"],
)
def test_what_may_be_something_else_stays_text(cells: list[str]) -> None:
    columns = derived(cells, keep_columns=("x",)).contract.columns
    assert [column.kind for column in columns] == ["category"]


def test_who_wants_texts_says_so_and_who_wants_few_amounts_too() -> None:
    cells = [WRITTEN["percent"](value) for value in VALUES]
    (column,) = derived(cells, category_columns=("x",)).contract.columns
    assert column.kind == "category"
    (column,) = derived(["12 V", "24 V"] * 30, number_columns=("x",)).contract.columns
    assert (column.kind, column.maximum) == ("number", 24)


def test_marks_for_missing_cells_among_amounts_are_missing() -> None:
    cells = ["?" if row % 6 == 0 else f"${value:,.2f}" for row, value in enumerate(VALUES)]
    (column,) = derived(cells).contract.columns
    assert column.kind == "number"
    assert column.missing_share == pytest.approx(1 / 6)
