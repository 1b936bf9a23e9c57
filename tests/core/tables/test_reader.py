from __future__ import annotations

import datetime as dt
import gzip
import io
import sqlite3
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_forms import shop_table
from workbook import write_workbook

from ai.ml.core.errors import DataNotFound, DataRefused, UsageError
from ai.ml.core.tables import ReadOptions, fingerprint, read_batches, read_table, write_table


def read_bytes(folder: Path, data: bytes, name: str = "t.csv", **options: str) -> dict[str, list[object]]:
    path = folder / name
    path.write_bytes(data)
    return read_table(path, ReadOptions(**options)).to_pydict()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"a,\xc3\xb6\n1,x\n", "t.csv"),
        (b"\xef\xbb\xbfa,\xc3\xb6\r\n1,x\r\n", "t.csv"),
        ("a;ö\n1;x\n".encode(), "t.csv"),
        ("a|ö\n1|x\n".encode("latin-1"), "t.txt"),
        ("a\tö\n1\tx\n".encode("utf-16"), "t.tsv"),
        ("a,ö\n1,x\n".encode("utf-16-le"), "t.csv"),
        ("'a','ö'\n'1','x'\n".encode(), "t.csv"),
        ('"a" ,ö \n"1","x"\n'.replace('" ,', '",').encode(), "t.csv"),
        (gzip.compress("a,ö\n1,x\n".encode(), mtime=0), "t.csv.gz"),
        (gzip.compress("a,ö\n1,".encode(), mtime=0) + gzip.compress(b"x\n", mtime=0), "t.gz"),
    ],
)
def test_one_csv_in_many_forms(tmp_path: Path, data: bytes, name: str) -> None:
    assert read_bytes(tmp_path, data, name) == {"a": ["1"], "ö": ["x"]}


def test_cells_stay_the_texts_that_the_file_holds(tmp_path: Path) -> None:
    data = b'a,b,c\n00123, x ,"1,5\nz"\nNA,,true\n'
    assert read_bytes(tmp_path, data) == {"a": ["00123", "NA"], "b": [" x ", ""], "c": ["1,5\nz", "true"]}


def test_a_blank_line_in_a_single_column_is_a_cell(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, b"a\n1\n\n3\n") == {"a": ["1", "", "3"]}


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("1;Łódź\n2;Gdańsk\n", "cp1250"),
        ("1;Москва\n2;Нижний Новгород\n3;Казань\n", "cp1251"),
        ("1;東京\n2;大阪市\n", "shift_jis"),
        ("1;Αθήνα\n2;Θεσσαλονίκη\n", "cp1253"),
        ("1;Münster\n2;Zoë\n", "latin-1"),
    ],
)
def test_encodings_are_told_apart(tmp_path: Path, text: str, codec: str) -> None:
    expected = [line.split(";")[1] for line in text.splitlines()]
    assert read_bytes(tmp_path, ("a;b\n" + text).encode(codec))["b"] == expected


def test_decimal_comma_and_thousands_marks(tmp_path: Path) -> None:
    data = b"a;b\n1.234,5;x,y\n-12;1.2\n,5;1.234.567\n;.\n"
    came = read_bytes(tmp_path, data, decimal=",", thousands=".")
    assert came == {"a": ["1234.5", "-12", ".5", ""], "b": ["x,y", "1.2", "1234567", "."]}


@pytest.mark.parametrize(
    ("data", "name", "options", "sentence"),
    [
        (b"", "t.csv", {}, "t.csv is empty"),
        (b"a,a\n1,2\n", "t.csv", {}, "more than one column is called 'a'"),
        (b"a,a \n1,2\n", "t.csv", {}, "more than one column is called 'a'"),
        (b"a,b\n1,2\n1\n", "t.csv", {}, "Row #3: Expected 2 columns, got 1"),
        (b"a,b\n1,\xff\n", "t.csv", {"encoding": "utf-8"}, "byte 6 is 0xff; name its encoding"),
        (b"a,b\n", "t.csv", {"encoding": "utf-99"}, "unknown encoding 'utf-99'"),
        (gzip.compress(b"a,b\n1,2\n" * 999, mtime=0)[:-20], "t.csv.gz", {}, "cut off or damaged"),
        (b"a,b\n1,2\n", "t.csv.gz", {}, "not a gzip file"),
        (b"PAR1", "t.parquet", {}, "can't be read as Parquet"),
        (b"PK", "t.xlsx", {}, "can't be read as a workbook"),
        (b"a", "t.foo", {}, "unknown kind of file"),
    ],
)
def test_what_is_no_table_gets_one_sentence(
    tmp_path: Path, data: bytes, name: str, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(DataRefused, match=sentence) as caught:
        read_bytes(tmp_path, data, name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"a,b", b"\xef\xbb\xbfa,b", "a,b".encode("utf-16"), b"a,b\n"])
def test_a_header_alone_is_a_table_without_rows(tmp_path: Path, data: bytes) -> None:
    assert read_bytes(tmp_path, data) == {"a": [], "b": []}
    assert not list(read_batches(tmp_path / "t.csv"))


def test_a_name_that_comes_twice_is_refused_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b,a\n1,2,3\n")
    twice = pa.Table.from_arrays([pa.array([1])] * 3, names=["a", "b", "a"])
    pq.write_table(twice, tmp_path / "t.parquet")
    write_workbook(tmp_path / "t.xlsx", {"s": twice})
    for name in ("t.csv", "t.parquet", "t.xlsx"):
        with pytest.raises(DataRefused, match=r"t\.\w+.*(more than one column is called 'a'|duplicate field names)"):
            read_table(tmp_path / name)
        with pytest.raises(DataRefused, match="more than one column is called 'a'"):
            list(read_batches(tmp_path / name, ReadOptions(numbers=frozenset({"a"}))))


@pytest.mark.parametrize("encoding", ["hex", "rot13", "zip", "a\0b", "nothing"])
def test_an_encoding_that_makes_no_text_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataRefused, match="unknown encoding"):
        read_bytes(tmp_path, b"a,b\n1,2\n", encoding=encoding)


@pytest.mark.parametrize("delimiter", ["ü", "\0", "\n", "\r", '"', "'", "", ";;"])
def test_a_delimiter_is_one_plain_character(delimiter: str) -> None:
    with pytest.raises(UsageError, match="delimiter must be one ASCII character"):
        ReadOptions(delimiter=delimiter)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "churn.csv").write_text("a\n1\n")
    with pytest.raises(DataNotFound, match="did you mean churn"):
        read_table(tmp_path / "chrun.csv")


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    table = shop_table().append_column("note", pa.array(['a "b", c\td\n'] * 60).dictionary_encode())
    write_table(table, tmp_path / name)
    came = read_table(tmp_path / name)
    if name.endswith("parquet"):
        assert fingerprint(came) == fingerprint(table)
    assert [float(x) for x in came["income"].to_pylist()] == table["income"].to_pylist()
    assert came["note"].to_pylist() == table["note"].to_pylist()


def test_a_flipped_bit_in_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(pa.table({"x": list(range(1000))}), path)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataRefused, match="damaged"):
        read_table(path)


def test_a_partitioned_folder_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, table in {
        "g=u/b.parquet": pa.table({"x": [1.5]}),
        "g=u/a.parquet": pa.table({"x": [1, 2]}),
        "g=v/a.parquet": pa.table({"x": pa.nulls(1)}),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / name)
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "g=u" / "_tmp.parquet").write_bytes(b"junk")
    assert read_table(tmp_path).to_pydict() == {"x": [1.0, 2.0, 1.5, None], "g": ["u", "u", "u", "v"]}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataNotFound, match=r"no \.parquet file"):
        read_table(tmp_path / "empty")


def test_the_index_of_a_pandas_file_is_no_column(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1, 2]}, index=[5, 9]).to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").column_names == ["x"]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.xlsx", "t.db"])
@pytest.mark.parametrize("batch_rows", [1, 7, 60, 1000])
def test_batches_are_the_table(tmp_path: Path, name: str, batch_rows: int) -> None:
    table = shop_table().drop_columns(["since", "active"])
    source, options = str(tmp_path / name), ReadOptions()
    if name.endswith("xlsx"):
        write_workbook(tmp_path / name, {"s": table})
    elif name.endswith("db"):
        with sqlite3.connect(tmp_path / name) as connection:
            table.to_pandas().to_sql("t", connection, index=False)
        connection.close()
        source, options = f"sqlite:///{tmp_path / name}", ReadOptions(query="select * from t")
    else:
        write_table(table, tmp_path / name)
    batches = list(read_batches(source, options, batch_rows))
    assert [batch.num_rows for batch in batches[:-1]] == [batch_rows] * (len(batches) - 1)
    assert pa.Table.from_batches(batches).to_pydict() == read_table(source, options).to_pydict()


def test_a_sheet_by_name(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "t.xlsx", {"one": pa.table({"a": [1]}), "two": pa.table({"a": ["x", "5", None]})})
    assert read_table(path).to_pydict() == {"a": [1.0]}
    assert read_table(path, ReadOptions(sheet="two")).to_pydict()["a"][:2] == ["x", "5"]
    with pytest.raises(DataNotFound, match=r"no sheet 'tow'; did you mean 'two'"):
        read_table(path, ReadOptions(sheet="tow"))


@pytest.mark.parametrize(
    ("url", "query", "error", "sentence"),
    [
        ("sqlite:///{folder}/none.db", "select 1", DataNotFound, "no SQLite file"),
        ("sqlite:///{folder}/t.db", "select * from nope", DataRefused, "no such table: nope"),
        ("sqlite:///{folder}/t.db", None, UsageError, "--query"),
        ("sqlite:///{folder}/t.db", "create table u(a)", DataRefused, "readonly"),
        ("nonsense://user:sekrit@host/x", "select 1", UsageError, r"nonsense://user:\*\*\*@host/x"),
        ("mysql+pymysql://user:sekrit@host/x", "select 1", UsageError, "driver"),
        ("post gres://user:sekrit@host:port/x", "select 1", UsageError, "no database URL"),
    ],
)
def test_a_database_that_refuses(
    tmp_path: Path, url: str, query: str | None, error: type[Exception], sentence: str
) -> None:
    sqlite3.connect(tmp_path / "t.db").close()
    (tmp_path / "t.db").touch()
    with pytest.raises(error, match=sentence) as caught:
        read_table(url.format(folder=tmp_path), ReadOptions(query=query))
    assert "sekrit" not in str(caught.value)


def test_a_quote_that_is_never_closed_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n1,"x\n' + "2,y\n" * 1_500_000, encoding="utf-8")
    with pytest.raises(DataRefused, match="the quote opened on line 2 is never closed"):
        read_table(tmp_path / "t.csv")


def test_objects_of_several_types_become_their_texts() -> None:
    frame = pd.DataFrame({"o": [1, "x", None, 2.5]})
    assert read_table(frame).to_pydict() == {"o": ["1", "x", None, "2.5"]}
    rows = [{"o": 1, "a": 1}, {"o": "x"}, {"o": None, "b": 10**30}]
    assert read_table(rows).to_pydict()["o"] == ["1", "x", None]


def test_the_fingerprint_is_of_the_content() -> None:
    table = pa.table({"x": pa.chunked_array([[1, 2], [3, None]]), "s": pa.chunked_array([["a"], ["b", None, "cc"]])})
    own = fingerprint(table)
    assert fingerprint(table.combine_chunks()) == own
    assert fingerprint(table.set_column(1, "s", table["s"].dictionary_encode())) == own
    assert fingerprint(pa.concat_tables([table.slice(0, 1), table.slice(1)])) == own
    assert fingerprint(table.slice(1)) == fingerprint(pa.table({"x": [2, 3, None], "s": ["b", None, "cc"]}))
    others = [
        table.slice(1),
        table.rename_columns(["x", "t"]),
        table.select(["s", "x"]),
        table.set_column(0, "x", pa.array([1, 2, 3, 0])),
        table.set_column(0, "x", pa.array([1.0, 2.0, 3.0, None])),
        table.set_column(1, "s", pa.array(["a", "b", "", "cc"])),
        table.set_column(1, "s", pa.array(["a", "bc", None, "c"])),
    ]
    assert len({own, *map(fingerprint, others)}) == len(others) + 1


def test_options_are_checked() -> None:
    for wrong in ({"decimal": ";"}, {"thousands": "x"}, {"decimal": ",", "thousands": ","}, {"delimiter": "ab"}):
        with pytest.raises(UsageError):
            ReadOptions(**wrong)
    with pytest.raises(UsageError, match="BytesIO"):
        read_table(io.BytesIO())


def database(path: Path, cells: list[object]) -> str:
    """A SQLite table `t` of one column `x` without a type."""
    connection = sqlite3.connect(path)
    connection.execute("create table t (x)")
    connection.executemany("insert into t values (?)", [(cell,) for cell in cells])
    connection.commit()
    connection.close()
    return f"sqlite:///{path}"


@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [
        (1, [2.5, 3], [2.5, 3]),
        (1, [None, 2], [None, 2]),
        (None, ["late", None], ["late", None]),
        (1, [2**53 + 1, 2.5], [str(2**53 + 1), "2.5"]),
        (2**53 + 1, [2.5], ["2.5"]),
        (2.5, [2**53 + 1], [str(2**53 + 1)]),
        (7, ["007", 8], ["007", "8"]),
        ("a", [b"caf\xc3\xa9", b"\xff", 1.5], ["café", "\\xff", "1.5"]),
        (b"a", ["b", b"c"], ["b", "c"]),
    ],
)
def test_no_cell_of_a_database_is_cut_whatever_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: object, late: list[object], expected: list[object]
) -> None:
    from ai.ml.core.tables import sql_reader as sql_source

    monkeypatch.setattr(sql_source, "_FETCH_ROWS", 4)
    source, options = database(tmp_path / "d.db", [early] * 4 + late), ReadOptions(query="select x from t")
    whole = read_table(source, options)["x"].to_pylist()
    assert whole[4:] == expected
    assert all(cell is None or str(cell) in (str(early), "a", "1.0") for cell in whole[:4])
    streamed = [cell for batch in read_batches(source, options, 4) for cell in batch.column(0).to_pylist()]
    # A batch without a fraction or a text is told by its own cells and those before.
    assert [str(cell).removesuffix(".0") for cell in streamed[4:]] == [str(cell) for cell in expected]
    assert streamed[:4] == [early] * 4


def test_times_among_dates_keep_their_hours() -> None:
    rows = [{"x": dt.date(2020, 1, 1)}, {"x": dt.datetime(2020, 1, 1, 5, tzinfo=dt.UTC)}]
    assert read_table(rows)["x"].to_pylist() == ["2020-01-01", "2020-01-01 05:00:00+00:00"]


def test_what_folders_say_is_the_text_that_stands_there(tmp_path: Path) -> None:
    (tmp_path / "zip=00501").mkdir()
    pq.write_table(pa.table({"x": [1], "t": ["a"]}), tmp_path / "zip=00501" / "p.parquet")
    assert read_table(tmp_path).to_pydict() == {"x": [1], "t": ["a"], "zip": ["00501"]}
    for folder in ("zip=a%20b", "zip=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / folder).mkdir()
        pq.write_table(pa.table({"x": [1], "t": ["b"]}), tmp_path / folder / "p.parquet")
    # A column of the part's own goes before what its folder says, as in scoring.
    (tmp_path / "zip=folder").mkdir()
    pq.write_table(pa.table({"x": [1], "t": ["c"], "zip": ["own"]}), tmp_path / "zip=folder" / "p.parquet")
    assert read_table(tmp_path)["zip"].to_pylist() == ["00501", None, "a b", "own"]
    assert [cell for batch in read_batches(tmp_path) for cell in batch.column("zip").to_pylist()] == [
        "00501",
        None,
        "a b",
        "own",
    ]


def test_links_are_followed_or_refused_by_name(tmp_path: Path) -> None:
    for folder in ("data", "else/g=v"):
        (tmp_path / folder).mkdir(parents=True)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "data" / "a.parquet")
    pq.write_table(pa.table({"x": [2]}), tmp_path / "else" / "g=v" / "b.parquet")
    (tmp_path / "data" / "g=v").symlink_to("../else/g=v")
    assert read_table(tmp_path / "data").to_pydict() == {"x": [1, 2], "g": [None, "v"]}
    (tmp_path / "else" / "g=v" / "up").symlink_to(tmp_path / "data")
    with pytest.raises(DataRefused, match="up is a link to a folder that holds it"):
        read_table(tmp_path / "data")
    (tmp_path / "else" / "g=v" / "up").unlink()
    (tmp_path / "data" / "gone.parquet").symlink_to("/nope")
    with pytest.raises(DataRefused, match=r"gone\.parquet is a link to /nope, which isn't there"):
        read_table(tmp_path / "data")


def test_marks_are_read_in_dictionaries_too() -> None:
    table = pa.table({"x": pa.array(["1.234,5", "a"]).dictionary_encode()})
    assert read_table(table, ReadOptions(decimal=",", thousands="."))["x"].to_pylist() == ["1234.5", "a"]
