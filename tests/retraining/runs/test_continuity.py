"""A name keeps its target, task, classes and columns, or somebody says that it doesn't."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from builders import mixed_table
from quick_nights import night, settings

from ai.ml.core.errors import BundleRefused, DataRefused, ExitCode
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.runs.continuity import _version_contract, table_problem
from ai.ml.retraining.runs.steps.candidate import candidate_key
from ai.ml.retraining.runs.steps.source import read_data
from ai.ml.retraining.store.store import Store

KEYED = {"split": {"key": ["id"]}}
"""With a column more or less each row stays on its side."""


def with_classes(table: pa.Table, old: str, new: str, rows: int) -> pa.Table:
    """The first so many rows of a class get another label."""
    labels, left = table["y"].to_pylist(), rows
    for place, label in enumerate(labels):
        if label == old and left:
            labels[place], left = new, left - 1
    return table.set_column(table.column_names.index("y"), "y", pa.array(labels))


@pytest.fixture
def champion(tmp_path: Path) -> tuple[Path, pa.Table, str]:
    table = mixed_table(200, seed=5).append_column("id", pa.array([f"c{row}" for row in range(200)]))
    return tmp_path, table, night(settings(tmp_path, table, **KEYED))[0].bundle.digest


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("target", "the target is 'half', the champion predicts 'y'"),
        ("task", "target 'y' is taken for amounts (a regression), the champion predicts 2 classes"),
        ("new", "target 'y' has classes that the champion doesn't know: 'maybe' (12 rows); a model"),
        ("lost", "classes that the champion doesn't know: 'Yes' ("),
        ("single", "target 'y' has classes that the champion doesn't know: 'maybe' (1 row); a model"),
    ],
)
def test_another_question_is_refused_before_anything_is_trained_unless_it_is_meant(
    champion: tuple[Path, pa.Table, str], kind: str, said: str
) -> None:
    folder, table, digest = champion
    target, more = "y", {}
    if kind == "target":
        table, target = table.append_column("half", pa.array(["up", "down"] * 100)), "half"
    elif kind == "task":
        numbers = np.random.default_rng(0).normal(100, 10, 200).round(2)
        table = table.set_column(table.column_names.index("y"), "y", pa.array(numbers))
        more = {"training": {"task": "regression"}}
    else:
        new = "Yes" if kind == "lost" else "maybe"
        table = with_classes(table, "yes", new, {"new": 12, "lost": 200, "single": 1}[kind])
    before = sorted((folder / "store" / "m" / "work").glob("candidate-*"))
    with pytest.raises(DataRefused) as refused:
        night(settings(folder, table, target, **KEYED, **more))
    assert refused.value.exit_code == 4
    assert str(refused.value).startswith("m: ")
    assert said in str(refused.value)
    assert str(refused.value).endswith("say --new-target")
    if kind == "lost":
        assert (
            "('Yes' looks like 'yes' in another spelling) and no row of target 'y' has the champion's class 'yes'"
            in (str(refused.value))
        )
    assert sorted((folder / "store" / "m" / "work").glob("candidate-*")) == before, "nothing was trained"
    assert len(Store(folder / "store").history("m")) == 1
    if kind == "single":
        return
    meant, decision = night(settings(folder, table, target, **KEYED, **more, decision={"new_target": True}))
    assert decision.outcome == "PROMOTE"
    assert Store(folder / "store").champion("m") == meant.bundle.digest != digest
    assert "which is meant (--new-target)" in decision.reason
    assert decision.document["gain"] is None, "two losses of two questions aren't compared"


@pytest.mark.slow(12)
def test_the_flag_and_the_file_say_the_same_and_the_sentence_ends_with_the_way_out(
    champion: tuple[Path, pa.Table, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, table, _ = champion
    write_table(with_classes(table, "no", "never", 20), folder / "t.parquet")
    words = ["retrain", "--no-prefect", "--name", "m", "--store", str(folder / "store"), "--no-report"]
    words += [
        "--data",
        str(folder / "t.parquet"),
        "--target",
        "y",
        "--key",
        "id",
        "--mode",
        "mlp_dense",
        "--epochs",
        "2",
    ]
    assert main(words) == 4
    said = capsys.readouterr().err
    assert "'never' (20 rows)" in said
    assert "trained" not in said
    (folder / "r.toml").write_text("[decision]\nnew_target = true\nfloors = {accuracy = 1.1}\n")
    assert main([*words, "--config", str(folder / "r.toml")]) == 1, "the floors hold for what is meant, too"
    assert "accuracy is " in capsys.readouterr().err
    assert main([*words, "--new-target"]) == 0
    assert "which is meant (--new-target)" in capsys.readouterr().err


def test_a_night_without_rows_is_no_other_question(champion: tuple[Path, pa.Table, str]) -> None:
    folder, table, _ = champion
    with pytest.raises(DataRefused, match="the table has no rows, so none with a target 'y'"):
        night(settings(folder, table.slice(0, 0), **KEYED))


def test_a_column_under_another_name_is_refused_before_anything_is_trained(
    champion: tuple[Path, pa.Table, str],
) -> None:
    folder, table, _ = champion
    renamed = table.rename_columns(["age", "income_eur", "town", "plan", "signup", "y", "id"])
    with pytest.raises(DataRefused) as refused:
        night(settings(folder, renamed, **KEYED))
    said = "the champion reads columns that aren't there: 'income' (renamed to 'income_eur'?), 'city'"
    assert said in str(refused.value)
    assert "--incomparable promote" in str(refused.value)
    _, told = night(settings(folder, renamed, **KEYED, decision={"incomparable": "promote"}))
    assert told.outcome == "PROMOTE"
    assert told.reason.endswith("; tables to score now need 'income_eur', 'town'; no longer read: 'income', 'city'")


def test_what_a_new_champion_asks_of_tables_is_said_and_kept(champion: tuple[Path, pa.Table, str]) -> None:
    folder, table, _ = champion
    wider = table.append_column("calls", pa.array(np.random.default_rng(1).integers(0, 9, 200) * 1.5))
    _, grown = night(settings(folder, wider, **KEYED, decision={"policy": "not-worse", "tolerance": "500%"}))
    assert grown.outcome == "PROMOTE"
    assert grown.reason.endswith("; tables to score now need 'calls'")
    body = Store(folder / "store").history("m")[-1].body
    assert body["decision"]["inputs"] == {"added": ["calls"], "removed": []}


def ages(rows: int) -> pa.Table:
    """A whole number of 63 values, as a table that grows has it: 5 % of 400 rows are fewer, of 1,500 more."""
    rng = np.random.default_rng(7)
    signal = rng.normal(size=rows)
    age = np.clip(49 + 15 * signal + 3 * rng.normal(size=rows), 18, 80).astype(int)
    age[:63] = np.arange(18, 81)
    return pa.table({"x": signal, "z": rng.normal(size=rows), "age_t": age})


def test_a_task_does_not_flip_with_the_rows(tmp_path: Path) -> None:
    _, first = night(settings(tmp_path, ages(400), "age_t"))
    _, later = night(settings(tmp_path, ages(1_500), "age_t"))
    assert [each.document["metric"] for each in (first, later)] == ["rmse", "rmse"]
    assert later.document["gain"] is not None
    fresh = settings(tmp_path, ages(1_500), "age_t", name="fresh")
    assert table_problem(fresh, read_data(fresh)).task == "regression", "started with that many rows, too"


def test_a_champions_task_is_kept_where_the_values_say_another(tmp_path: Path) -> None:
    """Grades: twenty values are classes, one more is an amount for whom nothing was trained yet."""
    rng = np.random.default_rng(3)
    grades = rng.integers(0, 20, 300)
    table = pa.table({"x": grades + rng.normal(size=300), "grade": grades})
    config = settings(tmp_path, table, "grade")
    _, first = night(config)
    assert first.document["metric"] == "log_loss"
    assert candidate_key(config, read_data(config)) == candidate_key(
        settings(tmp_path, table, "grade", training={"task": "classification"}), read_data(config)
    ), "what was found and what was said train the same"
    more = table.set_column(1, "grade", pa.array(np.where(np.arange(300) < 9, 20, grades)))
    with pytest.raises(DataRefused, match=r"doesn't know: '20' \(9 rows\)"):
        night(settings(tmp_path, more, "grade"))
    _, meant = night(settings(tmp_path, more, "grade", decision={"new_target": True}))
    assert meant.document["metric"] == "rmse", "by its values, as nothing is to be kept"


def test_a_champion_whose_version_is_gone_stops_the_night_as_damage(champion: tuple[Path, pa.Table, str]) -> None:
    folder, table, digest = champion
    shutil.rmtree(folder / "store" / "m" / "versions" / digest)
    # What a process has read of a version it goes on believing; a night is a process of its own.
    _version_contract.cache_clear()
    with pytest.raises(BundleRefused, match=digest[:12]) as refused:
        night(settings(folder, table, **KEYED))
    assert refused.value.exit_code == ExitCode.INTEGRITY
