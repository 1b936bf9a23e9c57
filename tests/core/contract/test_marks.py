"""A mark for missing cells doesn't turn a column of numbers into a category, and what looks like amounts is said."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ai.ml.core.contract import Derived, derive_contract
from ai.ml.core.contract.casting import Conformer
from ai.ml.core.contract.marks import MISSING_MARKS
from ai.ml.core.types import TrainingConfig

ROWS = 120


def derived(cells: list[str]) -> Derived:
    table = pa.table({"size": cells, "y": ["a", "b"] * (len(cells) // 2)})
    return derive_contract(table, TrainingConfig("y"))


def sizes(mark: str, every: int, decimals: int = 2) -> list[str]:
    return [mark if row % every == 0 else f"{row * 1.37:.{decimals}f}" for row in range(ROWS)]


@pytest.mark.parametrize("mark", ["?", "-", "\\N", "#N/A", "<NA>", "Unknown", "n.a.", "#DIV/0!", "<0.5", "Keine"])
@pytest.mark.parametrize("every", [3, 6, 40])
def test_a_mark_among_numbers_counts_as_missing_and_is_said(mark: str, every: int) -> None:
    found = derived(sizes(mark, every))
    (column,) = found.contract.columns
    assert column.kind == "number"
    assert column.missing_share == pytest.approx(len(range(0, ROWS, every)) / ROWS)
    (finding,) = found.findings
    assert f"{len(range(0, ROWS, every))} texts such as {mark!r} count as missing" in finding.message


def test_few_whole_numbers_with_a_known_mark_are_numbers() -> None:
    (column,) = derived([str(row % 7) if row % 10 else "?" for row in range(ROWS)]).contract.columns
    assert column.kind == "number"


def test_several_words_among_numbers_make_a_category_that_is_said() -> None:
    found = derived([f"{row * 1.37:.1f}" if row % 3 else ("low", "high")[row % 2] for row in range(ROWS)] * 2)
    (column,) = found.contract.columns
    assert column.kind == "category"
    (finding,) = found.findings
    assert "'size' is 67% numbers, but 80 cells are texts" in finding.message
    assert "--number 'size'" in finding.message


def test_a_known_mark_is_a_missing_cell_at_scoring_and_a_word_is_coerced() -> None:
    conformer = Conformer(derived(sizes("", 10)).contract)
    counts = conformer.table(pa.table({"size": ["1.5", "?", "#N/A", "red", ""]})).counts.columns["size"]
    assert (counts.missing, counts.coerced) == (3, 1)


def test_in_a_category_every_mark_is_a_level() -> None:
    found = derived(["red", "unknown", "?", "blue"] * 30)
    (column,) = found.contract.columns
    assert list(column.levels or ()) == ["?", "blue", "red", "unknown"]
    assert {"?", "unknown"} <= MISSING_MARKS


@pytest.mark.parametrize("form", ["{}%", "${}", "{} kg", "({})", "€ {}", "{}M"])
def test_numbers_with_a_unit_are_said(form: str) -> None:
    cells = [form.format(f"{row * 1.37:.1f}") for row in range(ROWS)]
    (finding,) = (found for found in derived_beside(cells).findings if found.column == "size")
    assert "holds numbers with" in finding.message
    assert "is read as" in finding.message


def test_blanks_between_thousands_are_named() -> None:
    cells = [f"{1000 + row * 37:,}".replace(",", " ") for row in range(ROWS)]
    (finding,) = (found for found in derived_beside(cells).findings if found.column == "size")
    assert "--thousands ' '" in finding.message


def derived_beside(cells: list[str]) -> Derived:
    """With a column of its own that stays, since texts that all differ are left out."""
    table = pa.table({"size": cells, "x": [row % 5 for row in range(ROWS)], "y": ["a", "b"] * (ROWS // 2)})
    return derive_contract(table, TrainingConfig("y"))
