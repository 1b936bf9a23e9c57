"""Fourteen kinds of skew through every source: what the contract makes of each. Also writes docs/skew.md:

python tests/system/test_skew_table.py
"""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from table_forms import SOURCES, shop_table

from ai.ml.core.contract import Conformed, Conformer, InputContract, Limits, derive_contract
from ai.ml.core.errors import DataRefused
from ai.ml.core.tables.reader import read_table
from ai.ml.core.types import TrainingConfig

PAGE = Path(__file__).parents[2] / "docs" / "skew.md"
SHOWN = ("CSV", "Parquet", "Excel", "SQL", "pandas", "polars", "dicts")
COUNTED = ("missing", "unseen", "coerced", "out_of_range")
NOT_THERE = "—"


@dataclass(frozen=True)
class Skew:
    name: str
    change: Callable[[pa.Table], pa.Table]
    extra_rows: int = 0


def replaced(column: str, values: Callable[[pa.ChunkedArray], object]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.schema.get_field_index(column), column, pa.array(values(table[column])))

    return change


def renamed(names: dict[str, str]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.rename_columns([names.get(name, name) for name in table.column_names])


def some(values: list[object], other: object) -> list[object]:
    return [other if index % 5 == 0 else value for index, value in enumerate(values)]


def with_empty_rows(table: pa.Table) -> pa.Table:
    blank = pa.table({name: pa.nulls(2, table.schema.field(name).type) for name in table.column_names})
    return pa.concat_tables([table.slice(0, 30), blank, table.slice(30)])


def at_midnight(dates: pa.ChunkedArray) -> object:
    return [datetime.datetime.combine(day, datetime.time(0)) for day in dates.to_pylist()]


SKEWS = (
    Skew("empty rows", with_empty_rows, extra_rows=2),
    Skew("renamed columns", renamed({"age": "Age", "income": "incomes"})),
    Skew("headers with spaces", renamed({"age": " age", "city": "city "})),
    Skew("Yes/No read as booleans", replaced("member", lambda c: [v == "Yes" for v in c.to_pylist()])),
    Skew("other case", replaced("city", lambda c: [v.upper() for v in c.to_pylist()])),
    Skew("cents for dollars", replaced("income", lambda c: [v * 100 for v in c.to_pylist()])),
    Skew("decimal comma", replaced("income", lambda c: [f"{v:.2f}".replace(".", ",") for v in c.to_pylist()])),
    Skew("infinities", replaced("income", lambda c: some(c.to_pylist(), float("inf")))),
    Skew("1e39", replaced("income", lambda c: some(c.to_pylist(), 1e39))),
    Skew("a missing column", lambda table: table.drop_columns(["city"])),
    Skew("an unseen category", replaced("city", lambda c: some(c.to_pylist(), "Atlantis"))),
    Skew("dates as datetimes", replaced("since", at_midnight)),
    Skew("Latin-1", lambda table: table),
    Skew("trailing blanks", replaced("city", lambda c: [v + "  " for v in c.to_pylist()])),
)


def known_cities(table: pa.Table) -> pa.Table:
    """Latin-1 has no Ł."""
    return replaced("city", lambda c: [v.replace("Łódź", "Tromsø") for v in c.to_pylist()])(table)


def trained() -> tuple[InputContract, pa.Table]:
    table = known_cities(shop_table())
    config = TrainingConfig("sold", category_columns=("zip",), date_columns=())
    return derive_contract(table, config).contract, table.drop_columns(["sold"])


def arrive(skew: Skew, source: str, table: pa.Table, folder: Path) -> pa.Table | None:
    """The skewed table as it comes through a source; None where there is no such thing."""
    if skew.name == "Latin-1":
        if not source.startswith("CSV"):
            return None
        path = folder / "latin.csv"
        path.write_bytes(table.to_pandas().to_csv(index=False).encode("latin-1"))
        return read_table(path)
    if skew.name == "infinities" and source == "Excel":
        return None  # a sheet has no cell for it
    return SOURCES[source](skew.change(table), folder)


def outcome(contract: InputContract, plain: Conformed, came: pa.Table, extra_rows: int) -> str:
    """`same bits`, `counted: …` or `refused`; raises if something changed that nobody would hear of."""
    try:
        conformed = Conformer(contract).table(came)
        Limits().check(conformed.counts, contract)
    except DataRefused:
        return "refused"
    figures = {
        what: sum(getattr(c, what) for c in conformed.counts.columns.values())
        - sum(getattr(c, what) for c in plain.counts.columns.values())
        for what in COUNTED
    }
    said = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in figures.items() if count)
    same = texts(conformed.table.slice(0, plain.table.num_rows)) == texts(plain.table) and not extra_rows
    if not same:
        assert said, "the model reads other cells, and nothing says so"
    return ("same bits" if same else "") + (" and " if same and said else "") + (f"counted: {said}" if said else "")


def texts(table: pa.Table) -> dict[str, object]:
    """Cells as they are compared: numbers by their bits, categories by their texts."""
    return {
        name: table[name].cast(pa.string()).to_pylist()
        if pa.types.is_dictionary(table[name].type)
        else (np.nan_to_num(table[name].to_numpy(), nan=-1e300).tobytes(), table[name].null_count)
        for name in table.column_names
    }


def skew_outcomes(folder: Path) -> dict[str, dict[str, str]]:
    contract, table = trained()
    plain = Conformer(contract).table(table)
    found: dict[str, dict[str, str]] = {}
    for skew in SKEWS:
        came = {source: arrive(skew, source, table, folder) for source in SHOWN}
        found[skew.name] = {
            source: NOT_THERE if skewed is None else outcome(contract, plain, skewed, skew.extra_rows)
            for source, skewed in came.items()
        }
    return found


HEAD = """# What skewed input does

A model is trained on a small shop table (60 rows; numbers, categories, codes, a boolean, dates). Each kind of skew is
put into the same rows, which then arrive through each source. *Same bits*: the model reads exactly what it would have
read. *Counted*: the cells are scored as missing or unknown and the contract's counts say so, per column; `--strict`
turns that into a refusal. *Refused*: exit code 4, with a sentence that names the column. There is no fourth outcome: a
test fails if anything changes without being counted.

This page is written by `python tests/system/test_skew_table.py`, and a test fails when it is stale.

"""

TAIL = """
A blank cell, an absent key and a null are one thing: missing. Infinite numbers count as coerced and are scored as
missing. 1e39 is an ordinary number in `exact`; in `fast` it overflows float32, so look at the out-of-range count. In
rows given as dicts to `predict_rows` an absent key is a missing cell, but a row with no known key at all is refused.
"""


def page(found: dict[str, dict[str, str]]) -> str:
    lines = ["| skew | " + " | ".join(SHOWN) + " |", "|---" * (len(SHOWN) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(row[source] for source in SHOWN) + " |" for name, row in found.items()]
    return HEAD + "\n".join(lines) + "\n" + TAIL


def test_the_page_is_what_the_code_does(tmp_path: Path) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(skew_outcomes(tmp_path)), (
        "run python tests/system/test_skew_table.py"
    )


EXPECTED = {
    "empty rows": "refused",
    "renamed columns": "refused",
    "headers with spaces": "same bits",
    "Yes/No read as booleans": "same bits",
    "other case": "refused",
    "decimal comma": "refused",
    "infinities": "counted: 12 coerced",
    "1e39": "counted: 12 out of range",
    "a missing column": "refused",
    "an unseen category": "counted: 12 unseen",
    "dates as datetimes": "same bits",
    "trailing blanks": "same bits",
}


@pytest.mark.parametrize("source", [source for source in SOURCES if source != "pandas categories"])
@pytest.mark.parametrize("name", EXPECTED)
def test_a_skew_has_one_outcome_through_every_source(name: str, source: str, tmp_path: Path) -> None:
    contract, table = trained()
    skew = next(skew for skew in SKEWS if skew.name == name)
    came = arrive(skew, source, table, tmp_path)
    if came is not None:
        assert outcome(contract, Conformer(contract).table(table), came, skew.extra_rows) == EXPECTED[name]


def test_cents_for_dollars_are_out_of_range(tmp_path: Path) -> None:
    contract, table = trained()
    cents = next(skew for skew in SKEWS if skew.name == "cents for dollars").change(table)
    counted = Conformer(contract).table(cents).counts.columns["income"].out_of_range
    limit = contract.columns[1].maximum
    assert counted == pc.sum(pc.greater(cents["income"], limit)).as_py() > 30


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        PAGE.write_text(page(skew_outcomes(Path(work))), encoding="utf-8")
