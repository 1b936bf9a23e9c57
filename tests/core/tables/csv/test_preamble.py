"""Lines above the header, and headers again below it: obeyed where that is sure, else named with what to do."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ai.ml.core.contract.target import target_array
from ai.ml.core.errors import DataRefused
from ai.ml.core.tables import ReadOptions, read_batches, read_table

BODY = "age;income;left\n" + "".join(f"{20 + row};{row * 7.5};no\n" for row in range(30))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.csv"


@pytest.mark.parametrize("line", ["sep=;\n", "SEP=;\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_excels_own_first_line_is_obeyed(path: Path, line: str, encoding: str) -> None:
    path.write_bytes((line + BODY).encode(encoding))
    table = read_table(path)
    assert table.column_names == ["age", "income", "left"]
    assert table.num_rows == 30
    assert sum(batch.num_rows for batch in read_batches(path)) == 30


def test_an_unusual_delimiter_that_the_file_names_is_obeyed(path: Path) -> None:
    path.write_text("sep=^\n" + BODY.replace(";", "^"), encoding="utf-8")
    assert read_table(path).column_names == ["age", "income", "left"]


@pytest.mark.parametrize(
    ("above", "said"),
    [
        ("Customers 2024\n", "there is 1 line with fewer: if line 2 holds the names, say --skip-lines 1"),
        ("# made by hand\n# on Monday\n", "2 lines at its top begin with '#': if they are remarks, say --skip-lines 2"),
    ],
)
def test_lines_above_the_header_are_named_and_skipped_when_told(path: Path, above: str, said: str) -> None:
    path.write_text(above + BODY, encoding="utf-8")
    with pytest.raises(DataRefused) as refused:
        read_table(path)
    assert said in str(refused.value)
    told = ReadOptions(skip_lines=above.count("\n"))
    assert read_table(path, told).num_rows == 30
    assert read_table(path, told).column_names == ["age", "income", "left"]


def test_a_stray_quote_is_named_by_the_lines_of_the_whole_file(path: Path) -> None:
    path.write_text("Customers\n" + BODY.replace("25;", '"25;', 1), encoding="utf-8")
    with pytest.raises(DataRefused, match="the quote opened on line 8 is never closed"):
        read_table(path, ReadOptions(skip_lines=1))


def test_blanks_before_quotes_are_named(path: Path) -> None:
    path.write_text('a, b, c\n1, "x, y", 3\n', encoding="utf-8")
    with pytest.raises(DataRefused, match="blanks stand between ',' and a quote"):
        read_table(path)


def test_lines_that_repeat_the_header_are_left_out_and_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(BODY + BODY + "age;income;no\n", encoding="utf-8")
    with caplog.at_level(logging.INFO, "bundlegate"):
        table = read_table(path)
    assert table.num_rows == 61
    assert table["age"].to_pylist()[-1] == "age"
    assert "t.csv: 1 line like the header left out" in caplog.text
    numbers = ReadOptions(numbers=frozenset({"income"}))
    assert sum(batch.num_rows for batch in read_batches(path, numbers)) == 61


@pytest.mark.parametrize("again", [" age ; income;left", "AGE;Income;Left"])
def test_a_header_that_comes_again_in_blanks_or_other_letters_is_one(path: Path, again: str) -> None:
    path.write_text(f"{BODY}{again}\n{BODY.partition(chr(10))[2]}", encoding="utf-8")
    rows = 2 * (BODY.count("\n") - 1)
    assert read_table(path).num_rows == rows
    assert sum(batch.num_rows for batch in read_batches(path, ReadOptions(numbers=frozenset({"income"})))) == rows
    path.write_text("a;b\nx;y\nA;B\n", encoding="utf-8")
    assert read_table(path).num_rows == 2, "a narrow table may have such a row"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2,\n3,4,\n", "every line but the header ends with ',': take these out"),
        ("a,b\nx,1,2\ny,3,4\n", "one cell more than the header has names, as where rows have names"),
    ],
)
def test_lines_with_one_cell_more_than_the_header_are_no_reason_to_skip_it(path: Path, text: str, says: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataRefused) as refused:
        read_table(path)
    assert says in str(refused.value)
    assert "--skip-lines" not in str(refused.value)


def test_a_table_of_one_column_that_looks_like_many_is_named(path: Path) -> None:
    path.write_text("age   income   no\n7     2        x\n8     3        y\n", encoding="utf-8")
    table = read_table(path)
    with pytest.raises(DataRefused, match="; all of it is one column: write its cells with commas"):
        target_array(table, "no")
    two = table.rename_columns(["age"]).append_column("income", table[0])
    with pytest.raises(DataRefused, match=r"did you mean 'income'\?\Z"):
        target_array(two, "no")


def test_a_cell_too_long_for_the_detection_hides_no_delimiter(path: Path) -> None:
    path.write_text("a;b\n1;2\n3;" + "x" * 160_000 + "\n", encoding="utf-8")
    assert read_table(path).column_names == ["a", "b"]


@pytest.mark.parametrize("mark", ["#", "//"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_lines_of_comment_are_left_out_when_told(path: Path, mark: str, encoding: str) -> None:
    lines = BODY.splitlines(keepends=True)
    lines[10:10] = [f"{mark} checked: \u00e9; yes\n"]
    path.write_bytes((f"{mark} made by hand\n{mark}\n" + "".join(lines) + f"{mark} end").encode(encoding))
    plain = path.with_name("plain.csv")
    plain.write_text(BODY, encoding="utf-8")
    told = ReadOptions(comment=mark)
    assert read_table(path, told).equals(read_table(plain))
    assert sum(batch.num_rows for batch in read_batches(path, told)) == 30


def test_a_comment_in_two_bytes_a_letter_is_refused_and_lines_keep_their_numbers(path: Path) -> None:
    path.write_bytes(("# made\n" + BODY).encode("utf-16"))
    with pytest.raises(DataRefused, match="--comment can't be told of a file in utf-16"):
        read_table(path, ReadOptions(comment="#"))
    path.write_text("# made\n" + BODY.replace("25;", '"25;', 1), encoding="utf-8")
    with pytest.raises(DataRefused, match="the quote opened on line 8 is never closed"):
        read_table(path, ReadOptions(comment="#"))
