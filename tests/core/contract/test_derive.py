from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from builders import mixed_table

from ai.ml.core.contract import Conformer, Derived, derive_contract, target_values
from ai.ml.core.contract.target import with_known_target
from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.types import TrainingConfig

N = 60
Y = ["no", "yes"] * (N // 2)
RNG = np.random.default_rng(0)


def derive(columns: dict[str, object], **config: object) -> Derived:
    return derive_contract(pa.table({**columns, "y": Y}), TrainingConfig("y", **config))


def kinds(derived: Derived) -> dict[str, str]:
    return {column.name: column.kind for column in derived.contract.columns}


def found(derived: Derived) -> set[tuple[str, str | None]]:
    return {(finding.kind, finding.column) for finding in derived.findings}


NUMBERS = RNG.normal(size=N).round(3).tolist()
COLOURS = RNG.choice(["red", "green", "blue"], N).tolist()


@pytest.mark.parametrize(
    ("cells", "kind", "finding"),
    [
        (NUMBERS, "number", None),
        ([str(v) for v in NUMBERS], "number", None),
        ([str(v) for v in NUMBERS[:-3]] + ["", "NA", None], "number", None),
        ([str(v) for v in NUMBERS[:-2]] + ["old", "?"], "number", "mixed"),
        ([str(v) for v in NUMBERS[: N // 2]] + COLOURS[: N // 2], "category", None),
        (COLOURS, "category", None),
        (RNG.choice(["00123", "98103", "10115"], N).tolist(), "category", "codes"),
        (RNG.choice([98101, 98103, 98107], N).tolist(), "number", "maybe_codes"),
        (RNG.choice([1, 2, 3], N).tolist(), "number", None),
        (RNG.random(N) < 0.5, "category", None),
        (np.datetime64("2020-01-01") + RNG.integers(0, 900, N), "date", None),
        (RNG.choice(["2020-01-01", "2020-01-02"], N).tolist(), "category", "maybe_dates"),
        ([f"2020-01-{d:02}" for d in range(1, 32)] + [f"2020-03-{d:02}" for d in range(1, 30)], None, "maybe_dates"),
        ([f"{d:02}.03.2024" for d in range(1, 31)] * (N // 30 - 1) + ["-"] * 30, "category", "maybe_dates"),
        ([f"{i % 37},5" for i in range(N)], "category", "maybe_numbers"),
        ([f"{i % 9 + 1}.{i:03},50" for i in range(N)], None, "maybe_numbers"),
        ([f"{i % 30 + 1},000" for i in range(N - 30)] + [str(i) for i in range(30)], None, "maybe_numbers"),
        (RNG.choice(["1,5", "2,5"], N).tolist(), "category", None),
        ([None] * N, None, "all_missing"),
        (["", "NA", " "] * (N // 3), None, "all_missing"),
        ([f"customer {i}" for i in range(N)], None, "identifier"),
        (list(range(N)), None, "identifier"),
        ([str(1000 + i) for i in range(N)], None, "identifier"),
    ],
)
def test_kinds(cells: object, kind: str | None, finding: str | None) -> None:
    derived = derive({"x": cells, "other": COLOURS[::-1]})
    assert kinds(derived).get("x") == kind
    assert {f for f, column in found(derived) if column == "x"} == ({finding} if finding else set())


@pytest.mark.parametrize(
    ("name", "values", "kind", "finding"),
    [
        ("store", [1, 2, 3, 4], "category", "codes"),
        ("product_id", range(1, 9), "category", "codes"),
        ("countryCode", [7, 44, 49], "category", "codes"),
        ("area", [408, 415, 510], "category", "codes"),
        ("zip", range(98101, 98131), "number", "maybe_codes"),
        ("bedrooms", range(9), "number", None),
        ("year", [2007, 2008, 2009], "number", None),
        ("rating", [1, 2, 3, 4, 5], "number", None),
        ("price", [199, 299, 599], "number", None),
        ("height", range(150, 180), "number", None),
        ("stores", [1, 2, 3], "number", None),
        ("valid", [0, 1], "number", None),
        ("score", [-408, 415, 510], "number", None),
    ],
)
@pytest.mark.parametrize("written", ["int", "float", "text"])
def test_numbers_that_are_codes(name: str, values: Sequence[int], kind: str, finding: str | None, written: str) -> None:
    cells = [values[place % len(values)] for place in RNG.permutation(N)]
    cells = cells if written == "int" else [float(v) if written == "float" else str(v) for v in cells]
    derived = derive({name: cells, "other": COLOURS})
    assert kinds(derived)[name] == kind
    assert {f for f, column in found(derived) if column == name} == ({finding} if finding else set())
    if kind == "category":
        assert set(derived.contract.columns[0].levels or ()) == {str(value) for value in values}
    assert kinds(derive({name: cells, "other": COLOURS}, number_columns=(name,)))[name] == "number"
    assert kinds(derive({name: cells, "other": COLOURS}, category_columns=(name,)))[name] == "category"


def test_texts_said_to_be_numbers() -> None:
    codes = RNG.choice(["00123", "98103", "10115"], N).tolist()
    column = derive({"x": codes, "other": COLOURS}, number_columns=("x",)).contract.columns[0]
    assert (column.kind, column.minimum) == ("number", 123)
    with pytest.raises(DataRefused, match="'x' was named as numbers, but no cell is one, such as"):
        derive({"x": COLOURS}, number_columns=("x",))


def test_an_identifier_by_its_name_and_how_to_keep_it() -> None:
    spread = (np.arange(N) * 977 % 7919).tolist()
    columns = {"customer_id": spread, "amount": spread[::-1]}
    derived = derive(columns)
    assert kinds(derived) == {"amount": "number"}
    assert "--keep-column 'customer_id'" in derived.findings[0].message
    assert kinds(derive(columns, keep_columns=("customer_id",))) == {"customer_id": "number", "amount": "number"}


def test_wishes_win() -> None:
    columns = {"code": [1, 2, 3] * 20, "day": ["11/02/2020", "01/02/2020"] * 30, "x": NUMBERS}
    derived = derive(columns, category_columns=("code",), date_columns=("day:%d/%m/%Y",), exclude_columns=("x",))
    assert kinds(derived) == {"code": "category", "day": "date"}
    typed = Conformer(derived.contract).table(pa.table(columns)).table
    assert typed["day_month"].to_pylist()[:2] == [2.0, 2.0]
    assert typed["code"].to_pylist()[:3] == ["1", "2", "3"]
    assert "day" not in typed.column_names


def test_the_figures() -> None:
    derived = derive({"x": [1.0, 3.0, None, np.inf, 2.0] * 12, "c": ["b", "a", "", "a", "n/a"] * 12})
    x, c = derived.contract.columns
    assert (x.minimum, x.maximum, x.quantiles[0], x.quantiles[50], x.quantiles[100]) == (1, 3, 1, 2, 3)
    assert x.missing_share == pytest.approx(0.4)
    assert (c.levels, c.missing_share) == ({"a": 24, "b": 12}, pytest.approx(0.4))
    assert list(c.levels) == ["a", "b"]


@pytest.mark.parametrize(
    ("columns", "config", "sentence"),
    [
        ({"a": COLOURS, "a=red": NUMBERS}, {}, r"'a=red' has the name that the category 'red' of column 'a'"),
        ({"d": np.datetime64("2020-01-01") + RNG.integers(0, 99, N), "d_year": NUMBERS}, {}, "both become 'd_year'"),
        ({"x": [[1]] * N}, {}, "'x' holds list"),
        ({"x": [None] * N}, {}, "no column is left to learn from: 'x' holds nothing"),
        ({"d": COLOURS}, {"date_columns": ("d",)}, "'d' was named as dates, but cells such as"),
        ({"d": ["11/02/2020", "01/02/2020"] * 30}, {"date_columns": ("d",)}, "both as"),
    ],
)
def test_what_training_refuses(columns: dict[str, object], config: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataRefused, match=sentence):
        derive(columns, **config)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"exclude_columns": ("y",)}, "target 'y' can't be excluded"),
        ({"exclude_columns": ("xx",)}, "exclude_columns names 'xx'.*did you mean 'x'"),
        ({"keep_columns": ("zebra",)}, "there are 'x', 'y'"),
        ({"date_columns": ("x:%d",)}, "the format must hold a year"),
        ({"number_columns": ("x",), "category_columns": ("x",)}, "'x' is said to be numbers and something else"),
    ],
)
def test_wishes_that_cannot_be(config: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        derive({"x": NUMBERS}, **config)


def test_a_one_hot_that_is_too_wide() -> None:
    rows = 24_000
    table = pa.table({"tag": [f"t{i % 12_000}" for i in range(rows)], "c": ["u", "v"] * 12_000, "y": Y * (rows // N)})
    with pytest.raises(DataRefused, match=r"12,002 features, the limit is 10,000; the widest: 'tag' 12,000.*--exclude"):
        derive_contract(table, TrainingConfig("y"))


@pytest.mark.parametrize(
    ("target", "task", "sentence"),
    [
        (["a"] * N, "auto", "'y' is 'a' in all 60 rows"),
        (["a", None] * 30, "auto", "missing in 30 of 60 rows, first in row 1 .blank."),
        (["a", "none"] * 30, "auto", "'none' counts as missing"),
        (["a", "b"] * 29 + ["rare", "b"], "auto", "at least 2 rows, these have one: 'rare'"),
        (["a", "b"] * 30, "regression", "finite number for a regression: 60 of 60 rows aren't, first row 0 with 'a'"),
        ([float(i) for i in range(59)] + [float("inf")], "regression", "first row 59"),
        ([float(i) for i in range(N)], "classification", "say --task regression"),
    ],
)
def test_targets_that_are_refused(target: list[object], task: str, sentence: str) -> None:
    with pytest.raises(DataRefused, match=sentence):
        derive_contract(pa.table({"x": NUMBERS, "y": target}), TrainingConfig("y", task=task))


def test_a_missing_target_names_its_neighbour() -> None:
    with pytest.raises(DataRefused, match="no target column 'churnd'; did you mean 'churned'"):
        derive_contract(pa.table({"churned": Y}), TrainingConfig("churnd"))


@pytest.mark.parametrize(
    "target", [["yes", None, "N/A", "no", " "], [1.5, None, float("nan"), 2.5, None], [1, None, None, 2, None]]
)
def test_rows_without_a_target_can_be_left_out(target: list[object]) -> None:
    table = pa.table({"x": [1, 2, 3, 4, 5], " y": target})
    assert with_known_target(table, "y")["x"].to_pylist() == [1, 4]
    known = table.slice(0, 1)
    assert with_known_target(known, "y") is known
    with pytest.raises(DataRefused, match="'y' is missing in all 2 rows"):
        with_known_target(table.slice(1, 2), "y")
    with pytest.raises(DataRefused, match="'y' holds list<item: int64>, expected numbers or texts"):
        with_known_target(pa.table({"y": [[1], None]}), "y")
    with pytest.raises(DataRefused, match="--missing-target drop leaves them out"):
        derive_contract(table, TrainingConfig("y", task="classification"))


def test_an_empty_table_and_duplicate_names() -> None:
    with pytest.raises(DataRefused, match="no rows, only the names 'x', 'y'"):
        derive_contract(pa.table({"x": pa.array([], pa.string()), "y": pa.array([], pa.string())}), TrainingConfig("y"))
    twice = pa.Table.from_arrays([pa.array(NUMBERS)] * 2 + [pa.array(Y)], names=["x", "x", "y"])
    with pytest.raises(DataRefused, match="more than one column is called 'x'"):
        derive_contract(twice, TrainingConfig("y"))


@pytest.mark.parametrize(
    ("target", "task", "classes"),
    [
        (Y, "classification", ["no", "yes"]),
        ([1, 2, 10] * 20, "classification", ["1", "10", "2"]),
        ([1.0, 0.0] * 30, "classification", ["0", "1"]),
        (["1.0", "0"] * 30, "classification", ["0", "1"]),
        ([True, False] * 30, "classification", ["False", "True"]),
        ([float(i // 2) for i in range(N)], "regression", None),
        ([str(i / 2) for i in range(N)], "regression", None),
        ([i % 20 for i in range(N)], "classification", sorted(map(str, range(20)))),
        ([i % 21 for i in range(63)][:N], "regression", None),
    ],
)
def test_the_task_and_its_labels(target: list[object], task: str, classes: list[str] | None) -> None:
    table = pa.table({"x": NUMBERS, "y": target})
    contract = derive_contract(table, TrainingConfig("y")).contract
    assert (contract.task, contract.classes) == (task, classes)
    values = target_values(contract, table)
    if task == "regression":
        assert values.dtype == np.float64
        assert values.tolist() == [float(v) for v in target]
    else:
        assert values.dtype == object
        assert set(values) == set(classes or [])


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_columns_that_give_the_target_away_are_reported(task: str) -> None:
    table = mixed_table(400, task=task)
    assert not [f for f in derive_contract(table, TrainingConfig("y")).findings if f.kind == "leak"]
    if task == "classification":
        is_yes = np.array(table["y"].to_pylist()) == "yes"
        leaks = {
            "refund": np.where(is_yes, "paid", "open"),
            "score": np.where(is_yes, 5.0, 0.0) + RNG.random(400),
            "closed_on": pa.array(RNG.random(400), mask=~is_yes),
        }
    else:
        leaks = {"gross": np.array(table["y"].to_pylist()) * 1.2 + 3}
    for name, cells in leaks.items():
        table = table.append_column(name, pa.array(cells))
    derived = derive_contract(table, TrainingConfig("y"))
    assert {f.column for f in derived.findings if f.kind == "leak"} == set(leaks)
    assert set(leaks) <= set(kinds(derived))


@pytest.mark.parametrize("strange", [0, 1, 15])
def test_a_number_that_nearly_tells_the_target_is_no_leak_of_all_of_it(strange: int) -> None:
    """Each row on the wrong side makes runs of its own, which are pure and say nothing of other rows."""
    rng = np.random.default_rng(strange)
    debt = rng.uniform(0, 2000, 2000)
    is_late = debt > 1200
    is_late[rng.permutation(2000)[:strange]] ^= True
    table = pa.table({"debt": debt, "x": rng.normal(size=2000), "y": np.where(is_late, "yes", "no")})
    found = [f.message for f in derive_contract(table, TrainingConfig("y")).findings if f.kind == "leak"]
    assert len(found) == (strange < 15)
    assert all("'debt' alone gives the target away (100.0% of it)" in message for message in found)


@pytest.mark.parametrize("rare", [2, 20, 50])
def test_a_rare_class_makes_no_number_a_leak_but_one_that_tells_it(rare: int) -> None:
    is_fraud = RNG.permutation(400) < rare
    cells = {"amount": RNG.normal(size=400), "balance": RNG.exponential(size=400)}
    told = {"score": np.where(is_fraud, 5.0, 0.0) + RNG.random(400)} if rare > 2 else {}
    table = pa.table({**cells, **told, "y": np.where(is_fraud, "fraud", "fine")})
    found = [f.column for f in derive_contract(table, TrainingConfig("y")).findings if f.kind == "leak"]
    assert found == list(told)
