"""A folder of parts is one table; parts of other kinds or columns are refused by name."""

from __future__ import annotations

import uuid
from pathlib import Path

import pyarrow as pa
import pytest

from ai.ml.core.errors import DataNotFound, DataRefused
from ai.ml.core.files.bucket import open_objects
from ai.ml.core.tables import ReadOptions, read_batches, read_table, write_table

PART = pa.table({"x": pa.array([1, 2]), "city": ["Oslo", "Bergen"]})


def folder_of(root: Path, suffix: str) -> Path:
    for index, place in enumerate(("land=NO", "land=SE")):
        (root / place).mkdir(parents=True)
        part = PART if index else PART.select(["city", "x"])
        write_table(part, root / place / f"part{suffix}")
    (root / "_SUCCESS").write_text("")
    return root


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_parts_in_any_order_of_columns_are_one_table_by_either_way(tmp_path: Path, suffix: str) -> None:
    root = folder_of(tmp_path / "t", suffix)
    table = read_table(root)
    assert table["city"].to_pylist() == ["Oslo", "Bergen"] * 2
    assert [int(cell) for cell in table["x"].to_pylist()] == [1, 2] * 2
    assert table["land"].to_pylist() == ["NO", "NO", "SE", "SE"]
    pieces = pa.Table.from_batches([batch for batch in read_batches(root) if batch.num_rows])
    assert pieces.select(table.column_names).to_pydict() == table.to_pydict()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("part", "said"),
    [
        (PART.drop_columns(["x"]), r"land=SE/other\S+ lacks 'x' \(1 of 3 parts"),
        (PART.append_column("y", pa.array([1, 2])), r"land=SE/other\S+ has 'y' more \(1 of 3 parts"),
        (PART.rename_columns(["X", "city"]), r"land=SE/other\S+ lacks 'x' and has 'X' more"),
    ],
    ids=["fewer", "more", "others"],
)
def test_parts_of_other_columns_are_refused_by_name(tmp_path: Path, suffix: str, part: pa.Table, said: str) -> None:
    root = folder_of(tmp_path / "t", suffix)
    write_table(part, root / "land=SE" / f"other{suffix}")
    with pytest.raises(DataRefused, match=said):
        read_table(root)
    if suffix == ".csv":
        with pytest.raises(DataRefused, match=r"land=SE/other\.csv"):
            list(read_batches(root))


def test_parts_of_two_kinds_and_files_that_are_no_parts_are_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "t", ".csv")
    write_table(PART, root / "late.parquet")
    with pytest.raises(DataRefused, match=r"parts of two kinds, such as land=NO/part\.csv \(2 of \.csv\)"):
        read_table(root)
    (root / "late.parquet").unlink()
    (root / "notes.docx").write_text("")
    with pytest.raises(DataRefused, match=r"no parts \(notes\.docx\).*let their names begin with _"):
        read_table(root)
    (root / "notes.docx").rename(root / "_notes.docx")
    assert read_table(root).num_rows == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataNotFound, match="holds no"):
        read_table(tmp_path / "empty")


def test_what_was_told_of_reading_holds_for_every_part(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("made by hand\nx;y\n1,5;?\n", encoding="utf-8")
    told = ReadOptions(skip_lines=1, decimal=",", missing_marks=("?",))
    assert read_table(tmp_path, told).to_pydict() == {"x": ["1.5"] * 2, "y": [None] * 2}


@pytest.fixture
def bucket_url(monkeypatch: pytest.MonkeyPatch, s3_bucket: dict[str, str]) -> str:
    for name, value in s3_bucket.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_bucket['BUCKET']}/{uuid.uuid4().hex}"


def test_a_bucket_is_read_as_the_file_or_the_folder_that_it_holds(tmp_path: Path, bucket_url: str) -> None:
    root = folder_of(tmp_path / "t", ".csv")
    objects = open_objects(bucket_url)
    for path in root.rglob("*"):
        if path.is_file():
            objects.put(f"lake/{path.relative_to(root).as_posix()}", path)
    objects.put("one.csv", root / "land=NO" / "part.csv")
    assert read_table(f"{bucket_url}/lake").equals(read_table(root))
    assert read_table(f"{bucket_url}/one.csv").equals(read_table(root / "land=NO" / "part.csv"))
    assert sum(batch.num_rows for batch in read_batches(f"{bucket_url}/lake/")) == 4
    with pytest.raises(DataNotFound, match="there is nothing at"):
        read_table(f"{bucket_url}/none")
