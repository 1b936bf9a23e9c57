"""Parts joined into one file: their columns and types have to be the same."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import bare_bundle
from small_batch import part, score

from ai.ml.core.errors import DataRefused
from ai.ml.retraining.batch.job import BatchSettings, open_job
from ai.ml.retraining.batch.pinned import pin_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_bundle(tmp_path_factory.mktemp("bundles"))


def test_parts_of_other_types_are_named_with_the_column(bundle: Path, here: Path) -> None:
    part("d/a.csv")
    part("d/x/b.parquet")
    expected = r"a\.parquet has 'key' as string and x/b\.parquet as int64: they can't become one file"
    for kept in (0, 2):
        with pytest.raises(DataRefused, match=expected):
            score(bundle, "d", "o.parquet", keep=["key"])
        assert len(list((here / ".o.parquet.parts").rglob("*.parquet"))) == 2, kept
    assert not Path("o.parquet").exists()
    score(bundle, "d", "o.parquet", overwrite=True)
    assert pq.read_table("o.parquet").num_rows == 8
    assert not Path(".o.parquet.parts").exists()
    # Numbers of two widths go into the wider; a value that it can't hold is told of its part.
    part("n/a.parquet", pa.array([1, 2, 3, 1 << 60]))
    part("n/b.parquet", pa.array([0.5] * 4))
    with pytest.raises(DataRefused, match=r"a\.parquet has 'key' as int64, others as double, and not every value fits"):
        score(bundle, "n", "n.parquet", keep=["key"])


def test_other_partition_columns_are_refused_before_the_first_row(bundle: Path, here: Path) -> None:
    part("d/a.parquet")
    part("d/country=NO/a.parquet")
    for output in ("o.csv", "o.parquet"):
        expected = r"a\.\w+ has no partition columns and country=NO/a\.\w+ has the partition columns 'country'"
        with pytest.raises(DataRefused, match=expected):
            open_job(pin_bundle(bundle), "d", output, BatchSettings())
    assert len(open_job(pin_bundle(bundle), "d", "folder", BatchSettings()).parts) == 2
    assert {path.name for path in here.iterdir()} == {"d"}
