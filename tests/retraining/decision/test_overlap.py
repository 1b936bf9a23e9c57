"""Rows that a model learned from are known by its rule, by its record, through its teachers, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import mixed_table
from bundles import sealed

from ai.ml.core.bundle_dir import check_files, read_manifest, write_manifest
from ai.ml.core.errors import BundleNotFound, DataRefused, UsageError
from ai.ml.core.split_config import SplitConfig
from ai.ml.core.splits.row_record import RECORD_NAME
from ai.ml.core.tables.reader import write_table
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.trainer.data.prepare import prepare_dataset
from ai.ml.frameworks.pytorch.trainer.data.split import Split
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.decision.comparable import too_few_rows
from ai.ml.retraining.decision.overlap import learned_from, remember_rows, remember_table, taught_from
from ai.ml.retraining.decision.predictions import Predictions
from ai.ml.retraining.decision.repeats import row_numbers, sketch_of, times_decided

TABLE = mixed_table(600)
OLD = TABLE.slice(0, 400)


def split_of(table: pa.Table, **asked: Any) -> Split:
    return prepare_dataset(table, TrainingConfig("y", split=SplitConfig(**asked)), None)[0].split


def bundle(folder: Path, lineage: dict[str, Any]) -> Path:
    """A bundle directory as far as its manifest goes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, model={}, scoring={}, contract=None, evidence=None, lineage=lineage)
    return folder


def remembered(folder: Path, split: Split, **more: Any) -> Path:
    rule = remember_rows(folder, split.rule, OLD.take(pa.array(split.train_rows)), salt="tonight")
    return bundle(folder, {"split": rule.to_json(), **more})


def nobody(digest: str) -> Path:
    raise BundleNotFound(digest)


@pytest.mark.parametrize("asked", [{"kind": "random"}, {"kind": "hash"}, {"kind": "time", "time": "signup"}])
def test_rows_of_the_training_are_found_in_a_grown_table_to_the_row(asked: dict[str, Any], tmp_path: Path) -> None:
    split = split_of(OLD, **asked)
    place = remembered(tmp_path / "b", split)
    overlap = learned_from("the champion", place, TABLE, nobody)
    assert overlap.unknown == ()
    assert np.flatnonzero(overlap.seen[:400]).tolist() == sorted(split.train_rows)
    if asked["kind"] == "random":
        assert not overlap.seen[400:].any()
        assert (place / RECORD_NAME).stat().st_size < 4 * 400 + 50
        assert RECORD_NAME in read_manifest(place).files, "the digest covers it"
        assert check_files(place, read_manifest(place)) == []
        assert f"{len(split.train_rows)} of 600 held-out rows don't count" in overlap.sentence
    else:
        assert not (place / RECORD_NAME).exists()
    tonight = split_of(TABLE, **asked).holdout_rows
    if asked["kind"] == "hash":
        assert not overlap.seen[tonight].any(), "no row changes sides"


def test_an_older_bundle_says_nothing_and_a_column_that_left_is_named(tmp_path: Path) -> None:
    overlap = learned_from("the champion", bundle(tmp_path / "old", {}), TABLE, nobody)
    assert not overlap.seen.any()
    assert overlap.sentence == (
        "which rows were learned from isn't known of all: the champion is from before bundles remembered it"
    )
    place = remembered(tmp_path / "b", split_of(OLD, kind="hash"))
    overlap = learned_from("the champion", place, TABLE.drop_columns(["city"]), nobody)
    assert overlap.unknown == ("the champion went by column 'city', which isn't there any more",)
    spelled = TABLE.rename_columns([f"{name} " for name in TABLE.column_names])
    assert learned_from("the champion", place, spelled, nobody).seen.sum() > 300, "a blank is no other column"
    timed = remembered(tmp_path / "t", split_of(OLD, kind="time", time="signup"))
    counted = TABLE.drop_columns(["signup"]).append_column("signup", pa.array(range(600)))
    overlap = learned_from("the champion", timed, counted, nobody)
    assert overlap.unknown == (
        "the champion's rule can't be applied: column 'signup' holds numbers now and held dates at the training",
    )
    nowhere = TABLE.drop_columns(["signup"]).append_column(
        "signup", pa.array(range(600), pa.timestamp("s", "No/Where"))
    )
    for kind in ("random", "hash"):
        place = remembered(tmp_path / kind, split_of(OLD, kind=kind))
        (told,) = learned_from("the champion", place, nowhere, nobody).unknown
        assert told.startswith("the champion's rule can't be applied: column 'signup' holds timestamp")
    (remembered(tmp_path / "r", split_of(OLD, kind="random")) / RECORD_NAME).unlink()
    assert "keeps no record of its rows" in learned_from("the champion", tmp_path / "r", TABLE, nobody).sentence


def test_a_teachers_rows_count_too(tmp_path: Path) -> None:
    first = split_of(OLD, kind="random")
    teacher = remembered(tmp_path / "teacher", first)
    second = split_of(OLD, kind="hash")
    student = remembered(tmp_path / "student", second, teacher="abc")
    found = learned_from("the champion", student, OLD, {"abc": teacher}.__getitem__)
    assert set(np.flatnonzero(found.seen)) == set(first.train_rows) | set(second.train_rows)
    taught = taught_from("the challenger", student, OLD, {"abc": teacher}.__getitem__)
    assert np.flatnonzero(taught.seen).tolist() == sorted(first.train_rows)
    assert taught_from("the challenger", teacher, OLD, nobody).seen.sum() == 0
    gone = learned_from("the champion", student, OLD, nobody)
    assert gone.unknown == ("the champion's teacher is no longer in the store",)
    assert taught_from("the challenger", student, OLD, nobody).unknown == (
        "the challenger's teacher is no longer in the store",
    )


def answers(truth: list[int]) -> Predictions:
    return Predictions("d", "classification", np.array(truth), np.full((len(truth), 2), 0.5))


@pytest.mark.parametrize(
    ("truth", "seen", "sentence"),
    [
        ([0] * 10 + [1] * 10, 0, None),
        ([0] * 10 + [1] * 10, 5, None),
        ([0] * 10 + [1] * 10, 6, "6 of 20 held-out rows were learned from, and of one class 4 of 10 are left, 5 are"),
        ([0] * 4 + [1] * 30, 1, "1 of 34 held-out rows were learned from, and of one class 3 of 4 are left, 4 are"),
        ([0] * 20 + [1] * 9, 20, "20 of 29 held-out rows were learned from, and 9 rows can't decide, 10 are needed"),
        ([0], 0, "1 row can't decide, 10 are needed"),
        ([0] * 9, 0, "9 rows can't decide, 10 are needed"),
        ([0] * 9 + [1], 0, None),
        ([0] * 4 + [1] * 30 + [2] * 30, 4, None),
        ([0] * 4 + [1] * 4 + [2] * 30, 8, "8 of 38 held-out rows were learned from, and of one class 0 of 4 are left"),
    ],
)
def test_a_comparison_needs_rows_of_every_class(truth: list[int], seen: int, sentence: str | None) -> None:
    mask = np.arange(len(truth)) < seen
    said = too_few_rows(answers(truth), mask)
    assert said is None if sentence is None else (said or "").startswith(sentence)


def test_how_often_the_same_rows_decided_is_counted_by_sketches() -> None:
    rule = split_of(TABLE, kind="hash").rule
    numbers = row_numbers(rule, TABLE)
    ledger: list[dict[str, Any]] = []
    for rows in (300, 320, 340):
        assert times_decided(ledger, numbers[:rows]) == len(ledger)
        ledger.append({"sketch": sketch_of(numbers[:rows])})
    assert len(ledger[0]["sketch"]) == 32
    assert times_decided([*ledger, {}, {"sketch": None}], numbers[340:]) == 0, "other rows"


def test_a_bundle_from_elsewhere_gets_a_record_of_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = sealed(tmp_path / "foreign")
    write_table(OLD, tmp_path / "old.parquet")
    write_table(TABLE.slice(400), tmp_path / "new.parquet")
    asked = ["evidence", str(foreign), "--rows", str(tmp_path / "new.parquet")]
    asked += ["--trained-on", str(tmp_path / "old.parquet"), "--store", str(tmp_path)]
    manifest = read_manifest(foreign)
    parts = {name: getattr(manifest, name) for name in ("model", "scoring", "contract")}
    write_manifest(foreign, **parts, evidence=None, lineage={"by": "somebody else"})
    assert main(asked) == 0
    assert "and a record of the rows that it was trained on (no cell of any)" in capsys.readouterr().out
    assert read_manifest(foreign).lineage["by"] == "somebody else"
    assert check_files(foreign, read_manifest(foreign)) == []
    overlap = learned_from("the champion", foreign, TABLE, nobody)
    assert overlap.unknown == ()
    assert overlap.seen.tolist() == [True] * 400 + [False] * 200
    with pytest.raises(UsageError, match=r"foreign knows its training rows already \(at random\)"):
        remember_table(foreign, OLD)
    write_manifest(foreign, **parts, evidence=None, lineage={})
    with pytest.raises(DataRefused, match="trained on that table: column 'age' isn't there"):
        remember_table(foreign, OLD.drop_columns(["age"]))
