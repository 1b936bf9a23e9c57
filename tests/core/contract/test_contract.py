from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from builders import mixed_table
from hypothesis import given, settings
from hypothesis import strategies as st
from table_forms import SOURCES, shop_table

from ai.ml.core.contract import (
    STRICT,
    Conformer,
    ContractCounts,
    InputContract,
    Limits,
    derive_contract,
)
from ai.ml.core.errors import BundleRefused, DataRefused
from ai.ml.core.files.atomic import dump_json
from ai.ml.core.types import TrainingConfig

RNG = np.random.default_rng(11)


def shop_contract() -> tuple[InputContract, pa.Table]:
    table = shop_table()
    return derive_contract(table, TrainingConfig("sold", category_columns=("zip",))).contract, table


def typed_texts(table: pa.Table) -> dict[str, object]:
    return {
        name: table[name].cast(pa.string()).to_pylist()
        if pa.types.is_dictionary(table[name].type)
        else table[name].to_numpy().tobytes()
        for name in table.column_names
    }


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("trained_on", ["Parquet", "CSV"])
def test_one_table_through_every_source(source: str, trained_on: str, tmp_path: Path) -> None:
    config = TrainingConfig("sold", date_columns=("since",), category_columns=("zip", "active"))
    training = SOURCES[trained_on](shop_table(200), tmp_path)
    contract = derive_contract(training, config).contract
    table = shop_table(60, seed=1)
    came = Conformer(contract).table(SOURCES[source](table, tmp_path))
    assert typed_texts(came.table) == typed_texts(Conformer(contract).table(SOURCES[trained_on](table, tmp_path)).table)
    assert all(c.coerced == c.unseen == c.missing == 0 for c in came.counts.columns.values())


def forms(table: pa.Table) -> dict[str, pa.Table]:
    frame = table.to_pandas()
    return {
        "column order": table.select(table.column_names[::-1]),
        "extra columns": table.append_column("extra", pa.array(["x"] * table.num_rows)),
        "whole floats": table.set_column(0, "age", table["age"].cast(pa.float64())),
        "small ints": table.set_column(0, "age", table["age"].cast(pa.int8())),
        "decimals": table.set_column(0, "age", table["age"].cast(pa.decimal128(24, 2))),
        "numbers as texts": table.set_column(0, "age", pa.array([f" {v}.0" for v in table["age"].to_pylist()])),
        "large strings": table.set_column(2, "city", table["city"].cast(pa.large_string())),
        "string views": table.set_column(2, "city", table["city"].cast(pa.string_view())),
        "dictionary": table.set_column(2, "city", table["city"].dictionary_encode()),
        "booleans as texts": table.set_column(
            5, "active", pa.array([str(v).upper() for v in table["active"].to_pylist()])
        ),
        "chunks": pa.concat_tables([table.slice(0, 7), table.slice(7, 1), table.slice(8)]),
        "one batch": table.combine_chunks().to_batches()[0],
        "nullable pandas": pa.Table.from_pandas(frame.convert_dtypes(), preserve_index=False),
        "a shuffled index": pa.Table.from_pandas(frame.set_index(frame.index[::-1] * 3), preserve_index=True),
    }


@pytest.mark.parametrize("form", forms(shop_table()))
def test_harmless_forms_are_the_same_table(form: str) -> None:
    contract, table = shop_contract()
    conformer = Conformer(contract)
    assert typed_texts(conformer.table(forms(table)[form]).table) == typed_texts(conformer.table(table).table)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 59), min_size=1, max_size=60), st.integers(1, 60))
def test_a_row_reads_the_same_in_any_company(order: list[int], cut: int) -> None:
    contract, table = shop_contract()
    conformer = Conformer(contract)
    whole = conformer.table(table).table.take(order)
    taken = table.take(order)
    pieces = [conformer.table(taken.slice(start, cut)).table for start in range(0, len(order), cut)]
    assert typed_texts(pa.concat_tables(pieces, promote_options="permissive")) == typed_texts(whole)


def test_rows_and_tables_agree() -> None:
    contract, table = shop_contract()
    rows = table.drop_columns(["sold"]).to_pylist()
    copy = json.dumps(rows, default=str)
    assert typed_texts(Conformer(contract).rows(rows).table) == typed_texts(Conformer(contract).table(table).table)
    assert json.dumps(rows, default=str) == copy


def test_an_absent_key_a_null_and_a_blank_are_one_thing() -> None:
    contract = derive_contract(mixed_table(), TrainingConfig("y")).contract
    row = {"age": 30.0, "income": 10.0, "city": "Oslo", "plan": "pro", "signup": "2020-05-05"}
    for name in row:
        absent = {key: value for key, value in row.items() if key != name}
        forms_of_it = [absent, *({**row, name: cell} for cell in (None, "", " ", "n/a", float("nan"), pd.NA))]
        results = [Conformer(contract).rows([form]) for form in forms_of_it]
        assert all(typed_texts(r.table) == typed_texts(results[0].table) for r in results)
        assert {r.counts.columns[name].missing for r in results} == {1}


def test_no_rows_keep_the_columns() -> None:
    contract, table = shop_contract()
    assert Conformer(contract).rows([]).table.schema == Conformer(contract).table(table).table.schema
    assert Conformer(contract).table(table.slice(0, 0)).table.num_rows == 0


def test_a_digits_only_chunk_stays_a_category() -> None:
    contract = derive_contract(
        pa.table({"c": ["a", "12", "b", "a"] * 9, "y": ["p", "q"] * 18}), TrainingConfig("y")
    ).contract
    came = Conformer(contract).table(pa.table({"c": [12, 12]})).table
    assert came["c"].to_pylist() == ["12", "12"]
    assert Conformer(contract).table(pa.table({"c": [12.0, 12.0]})).table["c"].to_pylist() == ["12", "12"]


def test_counts_per_column() -> None:
    contract = derive_contract(mixed_table(), TrainingConfig("y")).contract
    table = pa.table(
        {
            "age": ["30", "old", "inf", "", "1e39", "True"],
            "income": pa.array([1e4, None, np.nan, np.inf, -np.inf, 1e4]),
            "city": ["Oslo", "oslo", None, "NA", "Bergen", "Oslo "],
            "plan": ["pro"] * 6,
            "signup": ["2020-05-05", "soon", None, "1999-01-01", "2020-05-05 10:00", ""],
        }
    )
    counts = Conformer(contract).table(table).counts
    found = {n: (c.missing, c.unseen, c.coerced, c.out_of_range) for n, c in counts.columns.items()}
    assert found == {
        "age": (1, 0, 3, 2),
        "income": (2, 0, 2, 0),
        "city": (2, 2, 0, 0),
        "plan": (0, 0, 0, 0),
        "signup": (2, 0, 1, 1),
    }
    twice = counts.merge(counts)
    assert twice.rows == 12
    assert twice.columns["age"].coerced == 6
    assert ContractCounts.from_json(json.loads(dump_json(twice.to_json()))) == twice


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            {"Age": [1], "incom": [2], "plan": ["a"], "signup": ["2020-01-01"]},
            r"'age' \(is it 'Age'\?\), 'income' \(is it",
        ),
        ({"age": ["1,5"] * 10}, r"'age' was a number.*'1,5'.*--decimal ,"),
        ({"age": ["x"] * 10}, r"'age' was a number"),
        ({"age": pa.array([0] * 10, pa.timestamp("s"))}, r"'age' was a number.*timestamp"),
        ({"city": [1.5] * 10}, r"'city' was a category.*'1.5'"),
        ({"city": ["7"] * 10}, r"'city' was a category"),
        ({"signup": [20200101] * 9 + [0]}, r"'signup' was a date.*20200101"),
        ({"signup": ["soon"] * 10}, r"'signup' was a date.*'soon'"),
    ],
)
def test_what_scoring_refuses(table: dict[str, object], sentence: str) -> None:
    contract = derive_contract(mixed_table(), TrainingConfig("y")).contract
    base = mixed_table(10, seed=3)
    came = pa.table(table)
    if "Age" not in table:
        (name,) = table
        came = base.set_column(base.schema.get_field_index(name), name, came[name])
    with pytest.raises(DataRefused, match=sentence):
        Conformer(contract).table(came)


ZIPS = [f"{number:05d}" for number in range(480, 520)] + ["10001", "90210"]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ([int(code) for code in ZIPS], "'480' for '00480' and the like in 40 of 42 cells"),
        ([float(code) for code in ZIPS[:20]], "'480' for '00480' and the like in 20 of 20 cells"),
        ([str(int(code)) for code in ZIPS], "written otherwise"),
        ([*ZIPS[:20], "501"], None),
        ([int(code) for code in ZIPS[:9]], None),
        ([70001 + row for row in range(30)], None),
    ],
    ids=["whole numbers", "floats", "texts", "one of many", "few", "other codes"],
)
def test_codes_without_their_leading_zeros_are_refused_and_new_codes_counted(
    cells: list[object], says: str | None
) -> None:
    table = pa.table({"zip": ZIPS * 10, "x": RNG.normal(size=420), "y": ["a", "b"] * 210})
    contract = derive_contract(table, TrainingConfig("y")).contract
    came = pa.table({"zip": pa.array(cells), "x": [0.5] * len(cells)})
    if says is None:
        assert Conformer(contract).table(came).counts.columns["zip"].missing == 0
        return
    with pytest.raises(DataRefused, match=says):
        Conformer(contract).table(came)


def test_a_category_in_other_letters_throughout_is_refused() -> None:
    contract = derive_contract(mixed_table(), TrainingConfig("y")).contract
    base = mixed_table(30, seed=3)
    plans = [plan and plan.upper() for plan in base["plan"].to_pylist()]
    place = base.schema.get_field_index("plan")
    with pytest.raises(DataRefused, match=r"'plan' is written otherwise than at training: '(BASIC|PLUS|PRO)' for "):
        Conformer(contract).table(base.set_column(place, "plan", pa.array(plans)))
    some = base.set_column(place, "plan", pa.array([*base["plan"].to_pylist()[:15], *plans[15:]]))
    assert Conformer(contract).table(some).counts.columns["plan"].unseen == 15


def test_a_mark_of_thousands_is_not_taken_for_a_decimal_one() -> None:
    amounts = RNG.integers(5_000, 70_000, 300).astype(float)
    table = pa.table({"income": amounts, "near": RNG.normal(size=300), "y": ["a", "b"] * 150})
    contract = derive_contract(table, TrainingConfig("y")).contract

    def asked(income: object, near: object = 0.5) -> pa.Table:
        return pa.table({"income": [income] * 20, "near": [near] * 20})

    with pytest.raises(DataRefused, match=r"such as '25,147' \(string\); --thousands ',' reads them$"):
        Conformer(contract).table(asked("25,147"))
    for cell in (25.147, "25.147"):
        with pytest.raises(DataRefused, match=r"'income': all 20 numbers are below .*25.147, and a thousand times"):
            Conformer(contract).table(asked(cell))
    # Out of range is no thousandth of what was: counted, as before.
    assert Conformer(contract).table(asked(90_000.0, 4e3)).counts.columns["near"].out_of_range == 20


def test_few_odd_cells_are_counted_in_any_batch() -> None:
    contract = derive_contract(mixed_table(), TrainingConfig("y")).contract
    assert Conformer(contract).rows([{"age": "old", "city": "Oslo"}]).counts.columns["age"].coerced == 1


def test_rows_without_a_known_key_are_refused() -> None:
    contract = derive_contract(mixed_table(), TrainingConfig("y")).contract
    with pytest.raises(DataRefused, match=r"row 1: .*'age' \(is it 'AGE'\?\)"):
        Conformer(contract).rows([{"age": 1}, {"AGE": 1}])
    counts = Conformer(contract).rows([{}, {"age": None}, {"age": 1}]).counts
    assert counts.empty_rows == 2
    with pytest.raises(DataRefused, match="2 of 3 rows hold nothing"):
        Limits().check(counts, contract)
    Limits(empty_rows=None).check(counts, contract)


def test_strict_names_the_column_the_figure_and_the_limit() -> None:
    contract, table = shop_contract()
    STRICT.check(Conformer(contract).table(table).counts, contract)
    unseen = table.set_column(2, "city", pa.array(["Atlantis"] + ["Oslo"] * 59))
    with pytest.raises(DataRefused, match=r"'city': 1\.67% of the cells are unseen, the limit is 1\.00%"):
        STRICT.check(Conformer(contract).table(unseen).counts, contract)
    with pytest.raises(DataRefused, match=r"'age': 100\.00% of the cells are out of range"):
        STRICT.check(Conformer(contract).table(table.set_column(0, "age", pa.array([999] * 60))).counts, contract)


def test_headers_with_spaces_are_noted() -> None:
    contract, table = shop_contract()
    came = Conformer(contract).table(table.rename_columns([f" {name} " for name in table.column_names]))
    assert typed_texts(came.table) == typed_texts(Conformer(contract).table(table).table)
    assert "column ' age ' was read as 'age'" in came.counts.notes


def test_the_contract_survives_json() -> None:
    contract, _ = shop_contract()
    assert InputContract.from_json(json.loads(dump_json(contract.to_json()))) == contract


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 99}, "format 99, this bundlegate reads 2"),
        ({"task": "ranking"}, "ranking"),
        ({"columns": [{"name": "x", "kind": "blob", "missing_share": 0}]}, "'blob'"),
        ({"columns": 5}, "can't be read"),
    ],
)
def test_a_contract_that_is_none_is_refused(change: dict[str, object], sentence: str) -> None:
    contract, _ = shop_contract()
    with pytest.raises(BundleRefused, match=sentence):
        InputContract.from_json({**contract.to_json(), **change})


@pytest.mark.parametrize("name", ["city", "since"])
@pytest.mark.parametrize(
    "cells",
    [
        pa.array([{"a": 1}] * 60),
        pa.array([[1]] * 60),
        pa.array([b"\xff"] * 60),
        pa.array([0] * 60, pa.timestamp("us", "Mars/Base")),
    ],
    ids=["structures", "lists", "bytes", "a zone"],
)
def test_cells_from_which_nothing_can_be_read_are_told(name: str, cells: pa.Array) -> None:
    contract, table = shop_contract()
    odd = table.set_column(table.column_names.index(name), name, cells)
    with pytest.raises(DataRefused, match=rf"column '{name}' holds \S+.*, from which no (category|date) can be read"):
        Conformer(contract).table(odd)
