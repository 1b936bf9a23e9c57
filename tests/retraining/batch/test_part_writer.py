"""Parts whose columns change their type on the way: every cell stays what it was."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from ai.ml.retraining.batch.part_writer import write_part


@pytest.mark.parametrize(
    ("pieces", "kind", "expected"),
    [
        ([[None, None], ["late", None], [None]], pa.string(), [None, None, "late", None, None]),
        ([[1, 2], [2.5], [7]], pa.float64(), [1, 2, 2.5, 7]),
        ([[2**53 + 1], [2.5]], pa.string(), [str(2**53 + 1), "2.5"]),
        ([[2.5], [2**53 + 1]], pa.string(), ["2.5", str(2**53 + 1)]),
        ([[None], [1], [2.5], ["x"], [3]], pa.string(), [None, "1", "2.5", "x", "3"]),
    ],
)
def test_a_column_takes_the_type_that_holds_all_its_cells(
    tmp_path: Path, pieces: list[list[Any]], kind: pa.DataType, expected: list[Any]
) -> None:
    tables = [pa.table({"n": list(range(len(cells))), "k": cells}) for cells in pieces]
    content = write_part(tmp_path / "p.parquet", tables)
    assert hashlib.sha256((tmp_path / "p.parquet").read_bytes()).hexdigest() == content.sha256
    written = pq.read_table(tmp_path / "p.parquet")
    assert (written["k"].type, written["k"].to_pylist()) == (kind, expected)
    assert written["n"].to_pylist() == [n for cells in pieces for n in range(len(cells))]
    content = write_part(tmp_path / "p.csv", tables)
    assert hashlib.sha256((tmp_path / "p.csv").read_bytes()).hexdigest() == content.sha256
    options = pcsv.ConvertOptions(column_types={"k": pa.string()}, strings_can_be_null=False)
    printed = pcsv.read_csv(tmp_path / "p.csv", convert_options=options)["k"].to_pylist()
    assert printed == ["" if cell is None else str(cell) for cell in expected]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv", "p.parquet"]
