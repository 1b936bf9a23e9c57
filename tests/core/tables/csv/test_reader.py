"""Number columns that Arrow reads from a CSV itself mean exactly what their texts mean."""

from __future__ import annotations

import gzip
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai.ml.core.tables.cells import read_numbers
from ai.ml.core.tables.csv import reader as csv_source
from ai.ml.core.tables.reader import ReadOptions, read_batches

PLAIN = ["1", "-2.5", "0.1", "1e5", "-0", "007", "1.", ".5", "4.9e-324", "123456789012345678901", "1E-7", "inf", "-Inf"]
MISSING = ["", "NA", "n/a", "NaN", "nan", "None", "NULL", "."]
ODD = [
    "red",
    "nan(1)",
    "-nan",
    "1e400",
    "+5",
    " 12 ",
    "\t3",
    "  ",
    "1_000",
    "0x1F",
    "1,5",
    "True",
    "false",
    "1e",
    "½",
    "١",
]
cells = st.lists(st.sampled_from(PLAIN * 8 + MISSING * 4 + ODD), min_size=1, max_size=60)


def numbers_of(path: Path, **options: object) -> tuple[bytes, bytes, list[pa.DataType]]:
    """Values and odd cells of column `x` by the rules of the contract, and the types it came in."""
    columns = [batch.column("x") for batch in read_batches(path, ReadOptions(**options))]  # type: ignore[arg-type]
    found = [read_numbers(column) for column in columns]
    values = np.concatenate([numbers for numbers, _ in found])
    odd = np.concatenate([marks for _, marks in found])
    return np.where(np.isnan(values), np.nan, values).tobytes(), odd.tobytes(), [column.type for column in columns]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csv")


@given(texts=cells, quoted=st.booleans())
def test_any_cells_mean_what_their_texts_mean(
    tmp_path_factory: pytest.TempPathFactory, texts: list, quoted: bool
) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    mark = '"' if quoted else ""
    lines = [f'"{text}",a' if "," in text else f"{mark}{text}{mark},a" for text in texts]
    path.write_text("\n".join(["x,y", *lines]) + "\n", encoding="utf-8")
    assert numbers_of(path, numbers=frozenset({"x"}))[:2] == numbers_of(path)[:2]


def test_numbers_come_as_numbers_until_a_cell_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_source, "_BLOCK_BYTES", 1_000)
    path = tmp_path / "x.csv"
    texts = [str(index / 7) for index in range(2_000)]
    path.write_text("\n".join(["x,y", *(f"{text},a" for text in texts)]) + "\n")
    assert set(numbers_of(path, numbers=frozenset({"x"}))[2]) == {pa.float64()}
    texts[1_500] = "seven"
    path.write_text("\n".join(["x,y", *(f"{text},a" for text in texts)]) + "\n")
    values, odd, types = numbers_of(path, numbers=frozenset({"x"}))
    assert set(types) == {pa.float64(), pa.string()}
    assert (values, odd) == numbers_of(path)[:2]
    packed = tmp_path / "x.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert numbers_of(packed, numbers=frozenset({"x"}))[:2] == (values, odd)


def test_marks_of_other_lands_are_read_from_the_text(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("x;y\n1.234,5;a\n2;b\n")
    values, _, types = numbers_of(path, numbers=frozenset({"x"}), decimal=",", thousands=".")
    assert np.frombuffer(values).tolist() == [1234.5, 2.0]
    assert types == [pa.string()]


def test_a_known_number_is_found_by_its_name_as_macos_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(unicodedata.normalize("NFD", "größe,y\n1,a\n2,b\n"), encoding="utf-8")
    batches = list(read_batches(path, ReadOptions(numbers=frozenset({"größe"}))))
    assert {batch.schema.field("größe").type for batch in batches} == {pa.float64()}
