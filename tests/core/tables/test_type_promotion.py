"""Types and names as other tools write them, made ours where the table is read."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ai.ml.core.contract import derive_contract
from ai.ml.core.contract.casting import Conformer
from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.tables import ReadOptions, read_batches, read_table
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.trainer import train

ROWS = 60


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view()])
def test_views_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array(["red", "blue", None] * 20).cast(pa.binary() if kind == pa.binary_view() else pa.string())
    pq.write_table(pa.table({"colour": texts.cast(kind), "y": ["a", "b"] * 30}), tmp_path / "t.parquet")
    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}[kind]
    assert read_table(tmp_path / "t.parquet").schema.field("colour").type == plain
    assert next(iter(read_batches(tmp_path / "t.parquet"))).schema.field("colour").type == plain


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["a", "b", "red", "blue"])])
def test_polars_categories_are_trained_on(kind: object) -> None:
    frame = pl.DataFrame(
        {"colour": ["red", "blue"] * 30, "size": range(ROWS), "y": ["a", "b"] * 30},
        schema_overrides={"colour": kind, "y": kind},  # type: ignore[dict-item]
    )
    result = train(read_table(frame), TrainingConfig("y", epochs=1))
    assert result.bundle.class_names == ["a", "b"]
    (colour,) = (column for column in result.bundle.contract.columns if column.name == "colour")  # type: ignore[union-attr]
    assert list(colour.levels or ()) == ["blue", "red"]


@pytest.mark.parametrize("index", [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()])
def test_unsigned_codes_of_a_dictionary_become_signed_ones(index: pa.DataType) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None], index), pa.array(["red", "blue"]))
    table = read_table(pa.table({"colour": column}))
    assert table["colour"].to_pylist() == ["red", "blue", None]
    assert pa.types.is_signed_integer(table.schema.field("colour").type.index_type)


def test_a_time_zone_that_nobody_knows_is_named() -> None:
    stamps = pa.array(range(ROWS), pa.timestamp("us", "Mars/Phobos"))
    with pytest.raises(DataRefused, match=r"column .seen. holds timestamp.*Mars/Phobos"):
        derive_contract(pa.table({"seen": stamps, "y": ["a", "b"] * 30}), TrainingConfig("y"))


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_and_categories_in_two_unicode_forms_are_the_same(forms: tuple[str, str]) -> None:
    def table(form: str) -> pa.Table:
        def text(value: str) -> str:
            return unicodedata.normalize(form, value)

        return pa.table({text("Größe"): [text("groß"), text("klein")] * 30, "y": ["a", "b"] * 30})

    contract = derive_contract(table(forms[0]), TrainingConfig("y")).contract
    for scored in (table(forms[1]), read_table(table(forms[1]))):
        counts = Conformer(contract).table(scored).counts
        (column,) = counts.columns.values()
        assert (column.missing, column.unseen) == (0, 0)


def test_flags_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    for options, said in (
        (ReadOptions(query="select 1"), "no database, so --query does nothing"),
        (ReadOptions(sheet="One"), "no workbook, so --sheet does nothing"),
    ):
        with pytest.raises(UsageError, match=said):
            read_table(tmp_path / "t.csv", options)
        with pytest.raises(UsageError, match=said):
            list(read_batches(tmp_path / "t.csv", options))
