"""Tables from a real PostgreSQL server: types, streaming, the same bits as from a file, and sentences."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
from postgresql_server import PASSWORD, Server, postgresql
from table_forms import shop_table

from ai.ml.core.contract import Conformer, derive_contract
from ai.ml.core.errors import BundlegateError, DataRefused, StorageFailed
from ai.ml.core.tables.reader import ReadOptions, read_batches, read_table
from ai.ml.core.types import TrainingConfig

pytestmark = pytest.mark.needs("postgresql")

ODD = """
create table odd (
    n numeric(8, 2), free numeric, i smallint, big bigint, r real, d double precision, ok boolean, day date,
    at timestamp, zoned timestamptz, t text, v varchar(9), c char(5), u uuid, j jsonb, a int[]
);
insert into odd values
    (12.50, 0.1, 1, 9007199254740993, 0.1, 0.1, true, '2024-02-29', '2024-02-29 23:59:59.5', '2024-02-29 12:00+02',
     'Łódź', 'v', 'c', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": 1}', '{1,2}'),
    (null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
    ('NaN', 'NaN', -1, -1, 'NaN', 'Infinity', false, '0001-01-01', '1969-12-31', '1969-12-31 00:00+00', '', '', '',
     null, null, null);
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgresql() as server:
        with server.connect() as connection:
            connection.execute(ODD)
            connection.execute(
                "create table wide as select i, i / 7.0 as x, case when i > 150000 then 'late' end as word, "
                "repeat('x', 200) as filler from generate_series(1, 200000) i"
            )
        yield server


def url(server: Server, password: str = PASSWORD, host: str = "127.0.0.1") -> str:
    return f"postgresql://ada:{quote(password, safe='')}@{host}:{server.port}/postgres"


def test_types_are_the_servers(server: Server) -> None:
    table = read_table(url(server), ReadOptions(query="select * from odd"))
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {
        "n": "decimal128(8, 2)", "free": "double", "i": "int64", "big": "int64", "r": "double", "d": "double",
        "ok": "bool", "day": "date32[day]", "at": "timestamp[us]", "zoned": "timestamp[us, tz=UTC]", "t": "string",
        "v": "string", "c": "string", "u": "string", "j": "struct<a: int64>", "a": "list<item: int64>",
    }  # fmt: skip
    assert [table[name].null_count for name in ("n", "free", "big", "day", "t", "u")] == [2, 2, 1, 1, 1, 2]
    assert table["big"][0].as_py() == 9007199254740993
    assert table["free"][0].as_py() == 0.1


@pytest.mark.slow(4)
def test_nulls_in_the_first_batch_keep_their_type(server: Server) -> None:
    options = ReadOptions(query="select * from wide order by i;")
    batches = list(read_batches(url(server), options, 5_000))
    assert len(batches) == 40
    assert {str(batch.schema.field("word").type) for batch in batches} == {"string"}
    assert sum(batch.num_rows for batch in batches) == 200_000
    assert read_table(url(server), options)["word"].null_count == 150_000


def test_rows_are_streamed(server: Server, tmp_path: Path) -> None:
    script = tmp_path / "stream.py"
    script.write_text(
        "import resource, sys\n"
        "from ai.ml.core.tables.reader import ReadOptions, read_batches\n"
        "def peak(query):\n"
        "    rows = sum(b.num_rows for b in read_batches(sys.argv[1], ReadOptions(query=query), 10000))\n"
        "    return rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "few, base = peak('select * from wide limit 40000')\n"
        "many, most = peak('select * from wide')\n"
        "print(few, many, most - base)\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, script, url(server)], capture_output=True, text=True, check=True)
    few, many, growth_kib = map(int, done.stdout.split())
    assert (few, many) == (40_000, 200_000)
    # The 160,000 further rows hold 32 MB of text alone.
    assert growth_kib < 16_000


def test_a_table_gives_the_same_bits_as_from_memory(server: Server) -> None:
    table = shop_table(200)
    with server.connect() as connection:
        connection.execute("drop table if exists shop")
        connection.execute(
            "create table shop (age int, income numeric(12, 2), city text, member text, zip char(5), active boolean, "
            "since date, sold text)"
        )
        with connection.cursor().copy("copy shop from stdin") as copy:
            for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
                copy.write_row(row)
    came = read_table(
        url(server), ReadOptions(query="select sold, since, age, income, city, member, zip, active from shop")
    )
    contract = derive_contract(table, TrainingConfig("sold")).contract
    assert derive_contract(came.select(table.column_names), TrainingConfig("sold")).contract == contract
    expected, found = (Conformer(contract).table(form).table for form in (table, came))
    for name in expected.column_names:
        left, right = expected[name].combine_chunks(), found[name].combine_chunks()
        if pa.types.is_floating(left.type):
            assert np.array_equal(left.to_numpy(zero_copy_only=False), right.to_numpy(zero_copy_only=False))
        else:
            assert left.to_pylist() == right.to_pylist(), name


@pytest.mark.parametrize(
    ("password", "host", "query", "sentence"),
    [
        ("wr0ng-one", "127.0.0.1", "select 1", 'password authentication failed for user "ada"'),
        (PASSWORD, "127.0.0.1", "select * from nowhere", 'relation "nowhere" does not exist'),
        (PASSWORD, "127.0.0.1", "selec 1", "syntax error"),
        (PASSWORD, "127.0.0.1", "select pg_sleep(0), 1/0", "division by zero"),
        (PASSWORD, "127.0.0.1", "delete from odd returning n", "DELETE|read-only|syntax"),
        (PASSWORD, "127.0.0.1", "select 1 as a, 2 as a", "more than one column is called 'a'"),
    ],
)
def test_mistakes_are_sentences_without_the_password(
    server: Server, password: str, host: str, query: str, sentence: str
) -> None:
    with pytest.raises(DataRefused, match=sentence) as caught:
        read_table(url(server, password, host), ReadOptions(query=query))
    for secret in (password, quote(password, safe="")):
        assert secret not in str(caught.value)
    assert "ada" in str(caught.value) or "called" in str(caught.value)
    assert isinstance(caught.value, BundlegateError)


@pytest.mark.parametrize(
    ("host", "sentence"), [("127.0.0.2", "connection failed"), ("no-such-host.invalid", "resolve host")]
)
def test_a_server_that_is_away_is_no_fault_of_the_data(server: Server, host: str, sentence: str) -> None:
    with pytest.raises(StorageFailed, match=sentence) as caught:
        read_table(url(server, PASSWORD, host), ReadOptions(query="select 1"))
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in str(caught.value)
    assert "ada" in str(caught.value)


def test_percent_signs_colons_and_casts_are_the_querys_own(server: Server) -> None:
    query = "select '10:30' as a, 5 % 3 as b, 'x'::text as c, ':name' as d where 'abc' like 'a%'"
    assert read_table(url(server), ReadOptions(query=query)).to_pylist() == [
        {"a": "10:30", "b": 2, "c": "x", "d": ":name"}
    ]
