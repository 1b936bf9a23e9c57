from __future__ import annotations

import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai.ml.core.tables.cells import as_texts, coerce, coerce_text, level_text

ODD = [
    " 12.5 ",
    "+5",
    "1e999",
    "1_0",
    "5.",
    ".5",
    "-inf",
    "nan",
    "nan(1)",
    "１２",
    "0x10",
    "1e39",
    "INF",
    "-",
    "NA",
    "N/a",
]


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (None, None),
        (float("nan"), None),
        (pd.NA, None),
        (pd.NaT, None),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3.0),
        (np.True_, 1.0),
        (decimal.Decimal("1.25"), 1.25),
        (10**400, float("inf")),
        (-(10**400), float("-inf")),
        ("Null", None),
        ("12_000", "12_000"),
    ],
)
def test_one_cell(value: object, meaning: object) -> None:
    assert coerce(value) == meaning
    assert type(coerce(value)) is type(meaning)


@pytest.mark.parametrize("text", ODD)
def test_a_column_of_one_text_reads_as_the_cell_does(text: str) -> None:
    assert_same_reading([text])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.none() | st.sampled_from(ODD) | st.floats().map(repr) | st.text(max_size=6) | st.integers().map(str),
        max_size=20,
    )
)
def test_a_column_reads_as_its_cells_do(texts: list[str | None]) -> None:
    assert_same_reading(texts)


def assert_same_reading(texts: list[str | None]) -> None:
    numbers, is_number, is_missing = coerce_text(pa.array(texts, pa.string()))
    for place, text in enumerate(texts):
        cell = coerce(text)
        assert is_missing[place] == (cell is None)
        assert is_number[place] == isinstance(cell, float)
        assert np.isnan(numbers[place]) if not isinstance(cell, float) else numbers[place] == cell


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2, None]),
        pa.array([1.0, 2.0, None]),
        pa.array([1.0, 2.0, None], pa.float32()),
        pa.array(["1", " 2.0 ", ""]),
        pa.array(["1", "2", "n/a"]).dictionary_encode(),
        pa.array(["1", "2", None], pa.large_string()),
        pa.array([decimal.Decimal("1.0"), decimal.Decimal("2.0"), None]),
    ],
    ids=lambda column: str(column.type),
)
def test_a_category_has_one_spelling_in_every_type(column: pa.Array) -> None:
    codes, texts = as_texts(column)
    assert [level_text(texts[code] or "") if code >= 0 else "" for code in codes] == ["1", "2", ""]


def test_a_float32_category_is_written_in_its_own_width() -> None:
    assert as_texts(pa.array([0.1], pa.float32()))[1] == ["0.1"]
