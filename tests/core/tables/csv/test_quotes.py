"""Stray quotes are refused with their line, and what quotes are for is read as before."""

from __future__ import annotations

import csv
import gzip
import io
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables import ReadOptions, read_batches, read_table
from ai.ml.core.tables.csv.quotes import QuoteAudit, RowShape

ROWS = 60


def lines_of(delimiter: str = ",", extra: dict[int, str] | None = None, column: int = 3) -> str:
    """A table of 60 rows; the rows of `extra` have that text in one column."""
    rows = [["age", "income", "kids", "comment", "own", "left"]]
    for row in range(ROWS):
        cells = [str(20 + row), f"{1000 + row * 7.5:.2f}", str(row % 4), "fine", "yes", "no"]
        if extra and row in extra:
            cells[column] = extra[row]
        rows.append(cells)
    return "".join(delimiter.join(cells) + "\n" for cells in rows)


def refusal(path: Path, text: str, options: ReadOptions | None = None) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataRefused) as whole:
        read_table(path, options)
    with pytest.raises(DataRefused) as streamed:
        list(read_batches(path, ReadOptions(numbers=frozenset({"age", "income"}))))
    assert str(streamed.value) == str(whole.value)
    return str(whole.value)


@pytest.mark.parametrize("column", [0, 3, 5])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("apart", [1, 30])
def test_two_open_quotes_are_refused_with_their_lines(tmp_path: Path, column: int, delimiter: str, apart: int) -> None:
    text = lines_of(delimiter, {5: '"inch', 5 + apart: '"inch'}, column)
    said = refusal(tmp_path / "t.csv", text)
    assert "line 7" in said
    assert f"line {7 + apart}" in said
    assert "--quote none" in said


@pytest.mark.parametrize("column", [0, 3, 5])
def test_rows_between_two_quotes_of_a_regular_form_are_recognised(tmp_path: Path, column: int) -> None:
    # Opened at a cell's start and closed at another's end: nothing but the content tells it from a cell of many lines.
    said = refusal(tmp_path / "t.csv", lines_of(",", {5: '"inch', 9: 'inch"'}, column))
    assert "opened on line 7 is closed on line 11" in said
    assert "looks like rows of this table" in said


def test_a_quote_that_stays_open_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path / "t.csv", lines_of(",", {58: '"never closed'}, 5))
    assert "the quote opened on line 60 is never closed" in said


def test_a_header_that_opens_a_quote_is_refused(tmp_path: Path) -> None:
    text = 'age,"income,kids\n' + "1,2,3\n" * 40_000
    assert "the header opens a quote that isn't closed within 131,072 letters" in refusal(tmp_path / "t.csv", text)


def test_text_behind_a_closing_quote_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path / "t.csv", lines_of(",", {7: '"Smith" Ltd'}))
    assert "text follows a closing quote on line 9" in said


def test_quotes_can_be_plain_letters(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(lines_of("\t", {5: '"inch', 40: '"inch'}), encoding="utf-8")
    table = read_table(path, ReadOptions(quote="none"))
    assert table.num_rows == ROWS
    assert table["comment"][5].as_py() == '"inch'


def test_line_breaks_inside_cells_are_read_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.csv"
    path.write_text(lines_of(",", {5: '"Dear Sir,\nthank you\nfor all"', 9: '"a\nb"'}), encoding="utf-8")
    with caplog.at_level(logging.INFO, "bundlegate"):
        table = read_table(path)
    assert table.num_rows == ROWS
    assert table["comment"][5].as_py() == "Dear Sir,\nthank you\nfor all"
    assert "t.csv: 2 cells hold line breaks; the longest has 3 lines, from line 7 on" in caplog.text


def test_a_quote_inside_an_unquoted_cell_is_a_letter(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(lines_of(",", {5: '5" pipe', 9: 'a"b"c'}), encoding="utf-8")
    assert read_table(path)["comment"][5].as_py() == '5" pipe'


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig"])
def test_encodings_are_audited_alike(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(lines_of(",", {3: "schön", 5: '"inch', 35: '"inch'}), encoding=encoding)
    with pytest.raises(DataRefused, match=r"line 37 \(it was opened on line 7\)"):
        read_table(path)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n", '"'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_the_last_line_needs_no_end(tmp_path: Path, ending: str, encoding: str) -> None:
    last = '5,"6' if ending == '"' else "5,6"
    for path, opened in ((tmp_path / "t.csv", Path.write_bytes), (tmp_path / "t.csv.gz", _packed)):
        opened(path, f"a,b\n1,2\n3,4\n{last}{ending}".encode(encoding))
        assert read_table(path).column("b").to_pylist() == ["2", "4", "6"]
        numbers = ReadOptions(numbers=frozenset({"a", "b"}))
        assert [sum(batch.num_rows for batch in read_batches(path, read)) for read in (None, numbers)] == [3, 3]


def _packed(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data))


cells = st.sampled_from(["", "a", "x y", 'he said "hi"', "two\nlines", "1,5", ";", '"', "line\r\nend", '5" pipe', "7"])


@given(
    rows=st.lists(st.lists(cells, min_size=3, max_size=3), max_size=8),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    ending=st.sampled_from(["\n", "\r\n"]),
    is_ended=st.booleans(),
    size=st.sampled_from([1, 2, 3, 7, 1000]),
)
def test_what_a_csv_writer_writes_passes_whatever_the_pieces(
    rows: list[list[str]], quoting: int, ending: str, is_ended: bool, size: int
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting, lineterminator=ending).writerows([["a", "b", "c"], *rows])  # type: ignore[arg-type]
    data = (text.getvalue() if is_ended else text.getvalue().removesuffix(ending)).encode()
    audit = QuoteAudit("t.csv", b",", b'"', RowShape(3))
    for start in range(0, len(data), size):
        audit.feed(data[start : start + size])
    audit.close()
    audit.close()
    assert audit.records == len(rows) + 1
    assert audit.broken_cells == sum("\n" in cell for row in rows for cell in row)


@given(row=st.integers(1, 50), apart=st.integers(1, 8), column=st.integers(0, 5), closes=st.booleans())
def test_no_pair_of_stray_quotes_swallows_a_row_of_numbers(
    tmp_path_factory: pytest.TempPathFactory, row: int, apart: int, column: int, closes: bool
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_text(lines_of(",", {row: '"x', row + apart: 'x"' if closes else '"x'}, column), encoding="utf-8")
    with pytest.raises(DataRefused, match=f"line {row + 2}"):
        read_table(path)
