"""The number of a row is the same through every source, and another for every other row."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from table_forms import SOURCES, shop_table

from ai.ml.core.errors import DataRefused
from ai.ml.core.splits.row_keys import named_as, row_keys
from ai.ml.core.splits.text_hash import hash_text, hash_texts

INPUTS = [name for name in shop_table(1).column_names if name != "sold"]


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_a_row_its_number(source: str, tmp_path: Path) -> None:
    table = shop_table(60)
    keys, has_content = row_keys(table, INPUTS)
    assert has_content.all()
    assert row_keys(SOURCES[source](table, tmp_path), INPUTS)[0].tolist() == keys.tolist()


def test_order_of_rows_and_columns_chunks_and_target_do_not_count() -> None:
    table = shop_table(60)
    keys = row_keys(table, INPUTS)[0]
    order = np.random.default_rng(3).permutation(60)
    shuffled = table.take(pa.array(order)).select(table.column_names[::-1])
    relabelled = shuffled.set_column(0, "sold", pa.array(["no"] * 60))
    assert row_keys(relabelled, INPUTS[::-1])[0].tolist() == keys[order].tolist()
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7)])
    assert row_keys(chunked, INPUTS)[0].tolist() == keys.tolist()


def test_an_empty_column_changes_nothing_and_a_filled_one_does() -> None:
    table = shop_table(60)
    keys = row_keys(table, INPUTS)[0]
    cells = [None] * 30 + ["new"] * 30
    gained = row_keys(table.append_column("gained", pa.array(cells)), [*INPUTS, "gained"])[0]
    assert gained[:30].tolist() == keys[:30].tolist()
    assert not set(gained[30:]) & set(keys[30:])


def one(cell: Any, kind: pa.DataType | None = None, name: str = "x") -> int:
    return int(row_keys(pa.table({name: pa.array([cell], kind)}), [name])[0][0])


@pytest.mark.parametrize(
    ("one_form", "other_form"),
    [
        ((12, pa.int8()), ("12.0", pa.string())),
        ((0.1, pa.float32()), ("0.1", pa.string())),
        ((0.1, pa.float32()), (0.1, pa.float64())),
        ((-0.0, pa.float64()), ("0", pa.string())),
        ((Decimal("2.50"), pa.decimal128(9, 2)), ("2.5", pa.string())),
        ((True, pa.bool_()), ("TRUE", pa.string())),
        ((date(2026, 1, 31), pa.date32()), ("2026-01-31", pa.string())),
        ((datetime.fromisoformat("2026-01-31"), pa.timestamp("ns")), ("2026-01-31", pa.string())),
        (
            (datetime.fromisoformat("2026-01-31T10:20:30.500"), pa.timestamp("us")),
            ("2026-01-31T10:20:30.500+02:00", pa.string()),
        ),
        (("  Łódź ", pa.string()), ("L\u0141"[1:] + "o\u0301dz\u0301", pa.large_string())),
        (("red", pa.string()), ("red", pa.dictionary(pa.int8(), pa.string()))),
        ((None, pa.string()), (" N/A", pa.string())),
        ((None, pa.float64()), ("?", pa.string())),
        ((None, pa.int64()), ("Unknown", pa.large_string())),
        ((float("nan"), pa.float64()), ("", pa.string())),
    ],
)
def test_harmless_forms_are_one_cell(one_form: tuple[Any, pa.DataType], other_form: tuple[Any, pa.DataType]) -> None:
    assert one(*one_form) == one(*other_form)


def test_other_values_and_other_columns_are_other_cells() -> None:
    cells = [0, 1, 2, 16_777_217, 16_777_216, 0.1, 0.2, "a", "b", "ab", "ba", "a\0", "2026-02-30", "2026-02-28", None]
    numbers = [one(cell) for cell in cells] + [one("a", name="y")]
    assert len(set(numbers)) == len(numbers)
    assert one(0) != one(None), "nothing is not 0"


def test_salts_give_other_numbers_and_missing_rows_are_said() -> None:
    table = pa.table({"id": ["a", None, "nan"]})
    keys, has_content = row_keys(table, ["id"])
    assert has_content.tolist() == [True, False, False]
    assert row_keys(table, ["id"], "again")[0][0] != keys[0]


def test_numbers_are_evenly_spread() -> None:
    keys = row_keys(pa.table({"id": np.arange(100_000)}), ["id"])[0]
    assert len(np.unique(keys)) == 100_000
    for bit in range(64):
        share = ((keys >> np.uint64(bit)) & np.uint64(1)).mean()
        assert 0.49 < share < 0.51, bit


def test_texts_of_any_length_slices_and_nulls() -> None:
    texts = ["", "a", "12345678", "123456789", "x" * 1000, "x" * 1001, "ź"]
    hashes = hash_texts(pa.array(["skipped", *texts, None]).slice(1))
    assert [int(value) for value in hashes[:-1]] == [int(hash_text(text)) for text in texts]
    assert hashes[-1] == hash_text("")
    assert len(set(hashes.tolist())) == len(texts)
    # Stored rules rely on it.
    assert f"{int(hash_text('bundlegate')):016x}" == "9031f00d1ca372bb"
    assert (
        f"{one('a'):016x} {one(2.5):016x} {one('2026-01-31'):016x}"
        == "8de29fcdf338c087 17dbf5b12bcc1a15 9484530ed4dc2eb2"
    )


def test_the_company_of_a_cell_does_not_count() -> None:
    # Fullwidth digits, and what reads as NaN: a column of numbers takes both for what they mean.
    for odd in ("１２", "-nan", "12"):
        numbers, texts = (
            row_keys(pa.table({"c": [*["7"] * 300, odd]}), ["c"]),
            row_keys(pa.table({"c": [odd, "x"]}), ["c"]),
        )
        assert (numbers[0][-1], numbers[1][-1]) == (texts[0][0], texts[1][0]), odd


def test_a_name_in_another_form_names_the_same_column() -> None:
    table = pa.table({"caf\u00e9": ["a", "b"], "n": [1, 2]})
    other = pa.table({" cafe\u0301": ["a", "b"], "n ": [1, 2]})
    assert named_as(table, ("n",)) is table
    assert named_as(other, table.column_names).column_names == table.column_names
    twice = pa.table([["a"], ["b"]], names=["n ", " n"])
    assert named_as(twice, ("n",)).column_names == ["n ", " n"], "which of them isn't known"


def test_times_in_a_zone_that_nobody_knows_are_refused_in_a_sentence() -> None:
    table = pa.table({"t": pa.array([1], pa.timestamp("us", "Mars/Olympus"))})
    with pytest.raises(DataRefused, match=r"column 't' holds timestamp.us, tz=Mars/Olympus., which can't be read"):
        row_keys(table, ["t"])
