"""Each way to break a table breaks what its name says, and leaves the rest as it was."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from drill_scenes import OLD, ROWS, scene

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables.reader import read_table
from ai.ml.retraining.drill.kind import File, Kind, NotApplicable, Scene
from ai.ml.retraining.drill.run import CATALOGUE

SCENES: dict[str, Scene] = {
    "two": scene(),
    "four": scene(classes=4),
    "values": scene("regression"),
}
KINDS = {kind.name: kind for kind in CATALOGUE}


def made(name: str, which: str = "two") -> pa.Table:
    table = KINDS[name].make(SCENES[which])
    assert isinstance(table, pa.Table)
    return table


def changed_cells(table: pa.Table, which: str = "two") -> dict[str, int]:
    """How many cells of each column are others than tonight's; rows and names are the same."""
    before = SCENES[which].tonight
    assert (table.num_rows, table.column_names) == (before.num_rows, before.column_names)
    pairs = {name: zip(table[name].to_pylist(), before[name].to_pylist(), strict=True) for name in before.column_names}
    counts = {name: sum(one != other for one, other in cells) for name, cells in pairs.items()}
    return {name: count for name, count in counts.items() if count}


def test_there_are_forty_kinds_and_more_in_all_families_each_with_a_name_of_its_own() -> None:
    broken = [kind for kind in CATALOGUE if kind.family != "good"]
    assert len(broken) >= 40
    assert len({kind.name for kind in CATALOGUE}) == len(CATALOGUE)
    assert set(Counter(kind.family for kind in CATALOGUE)) == {"good", "labels", "columns", "rows", "format", "target"}


@pytest.mark.parametrize("which", list(SCENES))
@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.name)
def test_every_kind_is_made_twice_the_same_and_differs_from_tonight(kind: Kind, which: str) -> None:
    try:
        first, second = kind.make(SCENES[which]), kind.make(SCENES[which])
    except NotApplicable:
        return
    if isinstance(first, File):
        assert isinstance(second, File)
        assert first == second
        return
    assert isinstance(second, pa.Table)
    assert first.equals(second)
    if kind.name != "more rows":
        assert not first.equals(SCENES[which].tonight)


@pytest.mark.parametrize(("name", "share"), [("5%", 0.05), ("10%", 0.1), ("30%", 0.3)])
@pytest.mark.parametrize("which", list(SCENES))
def test_as_many_labels_are_wrong_as_the_name_says(name: str, share: float, which: str) -> None:
    changed = changed_cells(made(f"{name} of the labels wrong", which), which)
    assert set(changed) == {"y"}
    assert changed["y"] == pytest.approx(share * ROWS, abs=1 if which != "values" else 3)


def labels(table: pa.Table) -> list[str]:
    return table["y"].to_pylist()


def test_labels_are_swapped_lost_shifted_spelled_and_renamed() -> None:
    tonight = labels(SCENES["two"].tonight)
    assert labels(made("labels swapped")) == ["no" if label == "yes" else "yes" for label in tonight]
    assert labels(made("labels shifted by a row")) == [tonight[-1], *tonight[:-1]]
    assert sorted(labels(made("labels shuffled"))) == sorted(tonight)
    assert len(set(labels(made("a class lost", "four")))) == 3
    assert labels(made("a new class")).count("unknown yet") == ROWS // 20
    assert set(labels(made("a class in two spellings"))) in ({"yes", "no", "NO"}, {"yes", "no", "YES"})
    assert set(labels(made("classes renamed to codes"))) == {"code 0", "code 1"}
    assert len(set(labels(made("outcomes that aren't known yet"))[OLD:])) == 1
    values = np.array(labels(SCENES["values"].tonight), dtype=float)
    turned = np.array(labels(made("labels swapped", "values")), dtype=float)
    assert np.allclose(values + turned, values.min() + values.max())
    assert max(labels(made("a class lost", "values"))) <= np.quantile(values, 2 / 3)


def test_columns_lose_what_their_kind_says() -> None:
    best = SCENES["two"].number_columns[0]
    assert best == "age", "it says most of the target"
    age = SCENES["two"].numbers("age")
    assert f"{best}_v2" in made("a column renamed").column_names
    assert best not in made("a column dropped").column_names
    assert made("a column emptied")[best].null_count == ROWS
    assert made("half a column emptied")[best].null_count >= ROWS // 2
    assert len(set(made("a column constant")[best].to_pylist())) == 1
    scaled = np.array(made("another unit")[best].to_pylist(), dtype=float)
    assert np.allclose(scaled, 1_000 * age, equal_nan=True)
    newer = np.array(made("another unit in the newer rows")[best].to_pylist(), dtype=float)
    assert np.allclose(newer[:OLD], age[:OLD], equal_nan=True)
    assert np.allclose(newer[OLD:], 1_000 * age[OLD:], equal_nan=True)
    assert made("a sentinel for missing cells")[best].to_pylist().count(-999.0) == ROWS // 6
    assert {value % 10 for value in made("precision lost")[best].to_pylist() if value is not None} == {0.0}
    swapped = made("two columns swapped")
    assert swapped["age"].to_pylist() == SCENES["two"].tonight["income"].to_pylist()
    assert set(changed_cells(made("a column shifted by a row"))) == {"age"}
    assert all(str(cell).endswith(" kg") for cell in made("numbers with a unit")[best].to_pylist() if cell is not None)
    assert pa.types.is_integer(made("codes for a category")["city"].type)
    assert "OSLO" in made("a category in other letters")["city"].to_pylist()


def test_leaks_tell_the_target_as_their_name_says() -> None:
    copy = made("the target leaks into a new column")
    assert copy["outcome_code"].to_pylist() == [f"code {label}" for label in labels(copy)]
    for name, column in (
        ("the future leaks into a new column", "days_until_closed"),
        ("the future leaks into a known column", "income"),
    ):
        table = made(name, "values")
        leaked, values = (np.array(table[each].to_pylist(), dtype=float) for each in (column, "y"))
        assert 0.9 < np.corrcoef(leaked, values)[0, 1] < 0.999


def test_rows_are_lost_doubled_and_moved() -> None:
    tonight = SCENES["two"].tonight
    assert made("half of the rows").num_rows == ROWS // 2
    assert made("a tenth of the rows").num_rows == ROWS // 10
    assert made("every row twice").num_rows == 2 * ROWS
    assert made("some rows five times").num_rows == ROWS + 4 * (ROWS // 10)
    assert made("the old file again").equals(SCENES["two"].champions)
    assert made("an older file").num_rows == OLD // 2
    assert made("one row in the place of the newer ones").slice(OLD).to_pylist() == [tonight.to_pylist()[OLD]] * 200
    lost = made("one day missing")
    days = Counter(tonight["signup"].to_pylist())
    assert ROWS - lost.num_rows == max(days.values())
    newest = max(tonight["signup"].to_pylist())
    assert sum(day > newest for day in made("rows of the future")["signup"].to_pylist()) == ROWS // 10
    median = np.nanmedian(SCENES["two"].numbers("age"))
    assert min(made("another population")["age"].to_pylist()) > median
    joined = changed_cells(made("an unsorted join"))
    assert {"age"} <= set(joined) < set(tonight.column_names) - {"y"}


def test_targets_are_another_measure_or_another_question() -> None:
    values = np.array(labels(SCENES["values"].tonight), dtype=float)

    def numbers(name: str) -> np.ndarray:
        return np.array(labels(made(name, "values")), dtype=float)

    assert np.allclose(numbers("scaled by a hundred"), 100 * values)
    assert np.allclose(numbers("the newer rows scaled by a hundred")[:OLD], values[:OLD])
    assert np.allclose(numbers("the newer rows scaled by a hundred")[OLD:], 100 * values[OLD:])
    assert np.allclose(numbers("a fifth more"), 1.2 * values)
    assert np.allclose(np.expm1(np.abs(numbers("logarithms"))), np.abs(values))
    assert set(labels(made("another task", "values"))) == {"low", "middle", "high"}
    assert pa.types.is_floating(made("another task")["y"].type)
    assert len(set(labels(made("classes merged, values cut off", "four")))) == 2
    assert len(set(labels(made("one label for all")))) == 1
    assert made("a tenth of the labels missing")["y"].null_count == ROWS // 10
    assert set(labels(made("another column under its name"))) <= {"Oslo", "Łódź", "São Paulo", "New York"}


def file(name: str) -> str:
    content = KINDS[name].make(SCENES["two"])
    assert isinstance(content, File)
    return content.content.decode()


def test_files_are_broken_as_their_name_says() -> None:
    whole = file("the same as CSV").splitlines()
    assert len(whole) == ROWS + 1
    mixed = file("two delimiters in one file").splitlines()
    assert mixed[: OLD + 1] == whole[: OLD + 1]
    assert all(";" in line for line in mixed[OLD + 1 :])
    assert file("the header twice").splitlines().count(whole[0]) == 2
    assert file("no header").splitlines() == whole[1:]
    assert "Ã" in file("letters of another encoding")
    assert file("stray quotes").count('"') == whole.count('"') + 2
    assert not file("a file that broke off").endswith("\n")
    assert file("an unknown mark for missing cells").count("?") == ROWS // 7
    assert file("a line of totals").splitlines()[-1].startswith("Total,")
    assert "<html>" in file("an error page for a table")
    assert file("decimal commas").splitlines()[0].count(";") == 5
    before = {line.split(",")[4] for line in whole[1:]}
    after = {line.split(",")[4] for line in file("days and months changed places").splitlines()[1:]}
    assert before != after


def test_good_files_are_read_as_tonights_table(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("the same as CSV", "as CSV with semicolons and a mark of its order"):
        path = tmp_path_factory.mktemp("good") / "t.csv"
        path.write_text(file(name), encoding="utf-8")
        table = read_table(path)
        assert table.column_names == SCENES["two"].tonight.column_names
        assert table.num_rows == ROWS


def test_what_a_table_lacks_is_said() -> None:
    bare = scene()
    bare = Scene(bare.champions, bare.tonight.select(["age", "y"]), bare.kept, bare.contract)
    with pytest.raises(NotApplicable, match="no spellings"):
        KINDS["a class in two spellings"].make(SCENES["values"])
    with pytest.raises(NotApplicable, match="three classes"):
        KINDS["classes merged, values cut off"].make(SCENES["two"])


def test_a_table_that_is_too_small_is_refused() -> None:
    from ai.ml.core.bundle_dir import Manifest
    from ai.ml.retraining.drill.run import drill

    manifest = Manifest(
        format=1,
        files={},
        versions={},
        model={},
        scoring={},
        contract=None,
        evidence=None,
        lineage={"target": "y", "training": {}},
    )
    with pytest.raises(DataRefused, match="a drill takes 200"):
        drill(manifest, SCENES["two"].tonight.slice(0, 50), "t.csv")
