"""Inputs of batch prediction as they really lie: folders, links, marks of other lands, files that change."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_scenes import rows_to_score
from bundles import sealed_bundle

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables.reader import read_table, write_table
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.batch import score_part as partition
from ai.ml.retraining.batch.job import BatchSettings, predict_dataset
from ai.ml.retraining.batch.parts import Part, plan_parts
from ai.ml.retraining.batch.pinned import pin_bundle
from ai.ml.retraining.batch.sample import sample_batch
from ai.ml.retraining.evidence.seal import stage_candidate


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_bundle(tmp_path_factory.mktemp("bundles"))


def test_a_folder_trains_and_scores_alike(tmp_path: Path) -> None:
    places = ("00501", "01234", "02115", "__HIVE_DEFAULT_PARTITION__")
    for index, place in enumerate(places):
        folder = tmp_path / "in" / f"city=a%20{index % 2}" / f"zip={place}"
        folder.mkdir(parents=True)
        x = [(index * 7 + row * 13) % 50 / 50 for row in range(50)]
        y = ["yes" if (index % 2 == 0) != (value < 0.1) else "no" for value in x]
        pq.write_table(pa.table({"x": x, "y": y}), folder / "p.parquet")
    whole = read_table(tmp_path / "in")
    result = train(whole, TrainingConfig("y", epochs=20, hidden_dim=8, batch_size=16, learning_rate=0.01))
    assert result.bundle.contract is not None
    levels = {column.name: column.levels for column in result.bundle.contract.columns}
    assert set(levels["zip"] or ()) >= {"00501", "01234", "02115"}
    (tmp_path / "b").mkdir()
    stage_candidate(tmp_path / "b", result, whole.take(pa.array(result.holdout_rows)))
    write_table(whole, tmp_path / "flat.parquet")
    write_table(whole, tmp_path / "flat.csv")
    answers = []
    for source in ("in", "flat.parquet", "flat.csv"):
        report = predict_dataset(tmp_path / "b", str(tmp_path / source), str(tmp_path / f"{source}-out.parquet"))
        assert "unseen" not in report.sentence
        answers.append(read_table(tmp_path / f"{source}-out.parquet")["y_predicted"].to_pylist())
    assert answers[0] == answers[1] == answers[2]
    assert len(set(answers[0])) == 2


def test_linked_parts_are_parts_and_a_dead_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "else" / "year=2024").mkdir(parents=True)
    for path in (tmp_path / "in" / "a.csv", tmp_path / "else" / "year=2024" / "b.csv"):
        path.write_text("x\n1\n", encoding="utf-8")
    (tmp_path / "in" / "year=2024").symlink_to("../else/year=2024")
    parts = plan_parts(str(tmp_path / "in"))
    assert [(part.name, part.partition) for part in parts] == [
        ("a.csv", ()),
        ("year=2024/b.csv", (("year", "2024"),)),
    ]
    (tmp_path / "in" / "gone.csv").symlink_to("/nope")
    with pytest.raises(DataRefused, match=r"gone\.csv is a link to /nope, which isn't there"):
        plan_parts(str(tmp_path / "in"))
    (tmp_path / "in" / "gone.csv").unlink()
    os.mkfifo(tmp_path / "in" / "pipe.csv")
    with pytest.raises(DataRefused, match=r"pipe\.csv is neither a file nor a folder"):
        plan_parts(str(tmp_path / "in"))


def test_kept_texts_keep_their_marks_and_the_model_reads_them(bundle: Path, tmp_path: Path) -> None:
    rows = rows_to_score(30, seed=3)
    plain = rows.set_column(rows.column_names.index("key"), "key", pa.array(["1.234"] * 30))
    name = next(field.name for field in rows.schema if pa.types.is_floating(field.type))
    place = plain.column_names.index(name)
    marked = [None if cell is None else str(cell).replace(".", ",") for cell in plain[name].to_pylist()]
    write_table(plain, tmp_path / "plain.csv")
    write_table(plain.set_column(place, name, pa.array(marked)), tmp_path / "marked.csv")
    for source, marks in (("plain", {}), ("marked", {"decimal": ",", "thousands": "."})):
        settings = BatchSettings(keep=("key", name), proba=True, **marks)
        predict_dataset(bundle, str(tmp_path / f"{source}.csv"), str(tmp_path / f"{source}-out.csv"), settings)
    first, second = (read_table(tmp_path / f"{source}-out.csv") for source in ("plain", "marked"))
    assert set(second["key"].to_pylist()) == {"1.234"}
    assert second[name].to_pylist() == ["" if cell is None else cell for cell in marked]
    assert first.select(first.column_names[2:]).equals(second.select(first.column_names[2:]))


def test_a_kept_column_that_is_null_for_long(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai.ml.core.tables import sql_reader as sql_source

    monkeypatch.setattr(sql_source, "_FETCH_ROWS", 8)
    rows = rows_to_score(24, seed=3).to_pandas()
    rows["note"] = [None] * 20 + ["late"] * 4
    rows["amount"] = [1] * 20 + [2] * 4
    connection = sqlite3.connect(tmp_path / "d.db")
    rows.to_sql("t", connection, index=False, dtype={"note": "TEXT", "amount": "NUMERIC"})
    connection.execute("update t set amount = 2.5 where note = 'late'")
    connection.commit()
    connection.close()
    settings = BatchSettings(keep=("note", "amount"), query="select * from t")
    for suffix in (".parquet", ".csv"):
        predict_dataset(bundle, f"sqlite:///{tmp_path / 'd.db'}", str(tmp_path / f"out{suffix}"), settings)
        answers = read_table(tmp_path / f"out{suffix}")
        assert [cell or None for cell in answers["note"].to_pylist()] == [None] * 20 + ["late"] * 4
        assert [float(cell) for cell in answers["amount"].to_pylist()] == [1] * 20 + [2.5] * 4


def test_answers_of_a_sample_arent_hidden_by_a_column_of_their_name(bundle: Path, tmp_path: Path) -> None:
    rows = rows_to_score(10, seed=3)
    write_table(rows.append_column("y_predicted", pa.array(["OLD"] * 10)), tmp_path / "in.csv")
    sample = sample_batch(pin_bundle(bundle), plan_parts(str(tmp_path / "in.csv")), BatchSettings())
    assert {row["y_predicted"] for row in sample.answered} <= {"yes", "no"}


def test_a_change_between_hash_and_reading_is_seen(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(rows_to_score(10, seed=3), tmp_path / "in.csv")
    content = partition.source_content

    def changed_after(part: Part) -> object:
        found = content(part)
        write_table(rows_to_score(10, seed=4), tmp_path / "in.csv")
        return found

    monkeypatch.setattr(partition, "source_content", changed_after)
    with pytest.raises(DataRefused, match="changed while it was scored"):
        partition.predict_partition(bundle, str(tmp_path / "in.csv"), str(tmp_path / "out.csv"))
    assert not (tmp_path / "out.csv").exists()
