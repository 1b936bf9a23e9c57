"""What a training was told of how its table is written holds for every table that its model scores."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from workbook import write_workbook

from ai.ml.core.bundle_dir import read_manifest
from ai.ml.core.errors import DataRefused
from ai.ml.core.input_contract import InputContract
from ai.ml.core.reading import Reading
from ai.ml.core.tables import ReadOptions, read_table, write_table
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.inference import predict_rows
from ai.ml.frameworks.pytorch.inference.opened import OpenedBundle
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.batch.job import predict_dataset
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.evidence.seal import stage_candidate
from ai.ml.retraining.pipeline import retrain, retrain_segments
from ai.ml.retraining.settings.predict import BatchSettings
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.settings.segments import SegmentsConfig
from ai.ml.retraining.store.store import Store

MARKS = ReadOptions(decimal=",", thousands=".", missing_marks=("?", "-999"), units=("kg",))
TOLD = {"decimal": ",", "thousands": ".", "missing_marks": ["?", "-999"], "units": ["kg"]}


def plain_rows(n_rows: int, seed: int = 0) -> pa.Table:
    """`amount` decides; a tenth of `weight` is missing."""
    rng = np.random.default_rng(seed)
    amount = np.round(rng.uniform(0, 60_000, n_rows), 3)
    weight = np.where(rng.random(n_rows) < 0.1, np.nan, rng.integers(1, 99, n_rows))
    columns = {
        "amount": pa.array(amount),
        "weight": pa.array(weight, from_pandas=True),
        "land": pa.array(rng.choice(["NO", "SE"], n_rows)),
        "late": pa.array(np.where(amount > 12_000, "yes", "no")),
    }
    return pa.table(columns)


def german(table: pa.Table, missing: str = "?") -> pa.Table:
    """The same cells as an export in other marks writes them."""

    def amount(value: float) -> str:
        return f"{value:,.3f}".replace(",", " ").replace(".", ",").replace(" ", ".")

    weight = [missing if value is None else f"{value:.0f} kg" for value in table["weight"].to_pylist()]
    written = table.set_column(0, "amount", pa.array([amount(value) for value in table["amount"].to_pylist()]))
    return written.set_column(1, "weight", pa.array(weight))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remembered")
    write_table(german(plain_rows(400)), folder / "train.csv")
    table = read_table(folder / "train.csv", MARKS)
    result = train(table, TrainingConfig("late", training_mode="mlp_dense", epochs=3, hidden_dim=8))
    target = folder / "bundle"
    target.mkdir()
    stage_candidate(target, result, table.take(pa.array(result.holdout_rows)))
    return target


def answers(bundle: Path, source: Path, **settings: Any) -> list[Any]:
    output = source.with_suffix(".out.csv")
    predict_dataset(bundle, str(source), str(output), BatchSettings(proba=True, overwrite=True, **settings))
    return read_table(output).to_pylist()


def test_the_contract_keeps_what_was_told_and_older_ones_are_as_they_were(bundle: Path) -> None:
    record = read_manifest(bundle).contract
    assert record is not None
    assert (record["format"], record["reading"]) == (2, TOLD)
    contract = InputContract.from_json(record)
    assert contract.reading == MARKS.told
    unsaid = InputContract(contract.target_column, contract.task, contract.classes, contract.columns, 400).to_json()
    assert unsaid["format"] == 1
    assert "reading" not in unsaid
    assert InputContract.from_json(unsaid).reading == Reading()


@pytest.mark.parametrize("form", ["csv", "parquet", "xlsx"])
def test_scoring_reads_by_the_marks_of_the_training_without_being_told(bundle: Path, tmp_path: Path, form: str) -> None:
    rows = plain_rows(80, seed=1).drop_columns(["late"])
    write_table(rows, tmp_path / "clean.parquet")
    marked = tmp_path / f"marked.{form}"
    if form == "xlsx":
        write_workbook(marked, {"data": german(rows)})
    else:
        write_table(german(rows), marked)
    assert answers(bundle, marked) == answers(bundle, tmp_path / "clean.parquet")
    opened = OpenedBundle(bundle)
    by_rows = opened.scorer.score_rows(german(rows).to_pylist())
    assert predict_rows(opened.bundle, german(rows).to_pylist()) == list(by_rows.decoded)
    assert np.array_equal(by_rows.raw, opened.new_scorer().score_table(rows).raw)


def test_what_is_said_at_scoring_wins(bundle: Path, tmp_path: Path) -> None:
    rows = plain_rows(80, seed=1).drop_columns(["late"])
    write_table(rows, tmp_path / "clean.parquet")
    write_table(rows, tmp_path / "points.csv")
    assert answers(bundle, tmp_path / "points.csv", decimal=".") == answers(bundle, tmp_path / "clean.parquet")


def test_cells_are_carried_as_they_stand(bundle: Path, tmp_path: Path) -> None:
    write_table(german(plain_rows(30, seed=1)), tmp_path / "marked.csv")
    kept = answers(bundle, tmp_path / "marked.csv", keep=("amount",))
    assert [row["amount"] for row in kept] == german(plain_rows(30, seed=1))["amount"].to_pylist()


def test_a_table_in_other_marks_is_refused_and_few_such_cells_are_counted(bundle: Path, tmp_path: Path) -> None:
    rows = plain_rows(80, seed=1).drop_columns(["late"])
    written = rows.set_column(0, "amount", pa.array([f"{value:.2f}" for value in rows["amount"].to_pylist()]))
    write_table(written, tmp_path / "points.csv")
    with pytest.raises(
        DataRefused, match=r"'amount': 80 of 80 cells have a decimal point.*told --decimal ,.*say --dec"
    ):
        answers(bundle, tmp_path / "points.csv")
    few = german(rows)["amount"].to_pylist()
    few[3] = "950.25"
    write_table(german(rows).set_column(0, "amount", pa.array(few)), tmp_path / "few.csv")
    report = predict_dataset(bundle, str(tmp_path / "few.csv"), str(tmp_path / "few.out.csv"))
    assert "'amount' has 1 cell with a decimal point" in report.sentence


def test_what_the_reader_left_out_is_in_the_sentence_of_a_scoring(bundle: Path, tmp_path: Path) -> None:
    write_table(german(plain_rows(80, seed=1).drop_columns(["late"])), tmp_path / "t.csv")
    header, *lines = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
    for folder, name in ((tmp_path / "one", "t.csv"), (tmp_path / "parts", "part-2.csv")):
        folder.mkdir()
        text = "\n".join([header, *lines[:40], header, *lines[40:]])
        (folder / name).write_text(text, encoding="utf-8")
    (tmp_path / "parts" / "part-1.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    for source, rows, name in ((tmp_path / "one" / "t.csv", 80, "t.csv"), (tmp_path / "parts", 160, "part-2.csv")):
        report = predict_dataset(bundle, str(source), str(tmp_path / f"out-{rows}"))
        assert report.rows == rows
        assert report.sentence.endswith(f"{name}: 1 line like the header left out")


def test_marks_are_applied_once_however_often_a_table_meets_them() -> None:
    marks = MARKS.marks
    once = marks.plain_table(pa.table({"x": ["234,567", "12.345", "1.234.567,5", "7", "", "?", "-999", "5 kg", "red"]}))
    assert [float(text) if text not in (None, "", "red") else text for text in once["x"].to_pylist()] == [
        234.567, 12345, 1234567.5, 7, "", None, None, 5, "red",
    ]  # fmt: skip
    assert marks.plain_table(once).equals(once)
    numbers = pa.table({"x": pa.array([1.5, -999.0, None]), "y": pa.array([-999, 2, 3])})
    assert marks.plain_table(numbers).to_pydict() == {"x": [1.5, None, None], "y": [None, 2, 3]}


def test_the_file_s_own_settings_are_remembered_too(tmp_path: Path) -> None:
    table = plain_rows(200)
    lines = "export of Monday\r\nland|late|amount\r\n" + "".join(
        f"{row['land'].replace('NO', 'Ærø')}|{row['late']}|{row['amount']}\r\n" for row in table.to_pylist()
    )
    (tmp_path / "train.csv").write_bytes(lines.encode("cp1252"))
    told = ReadOptions(delimiter="|", encoding="cp1252", skip_lines=1)
    result = train(
        read_table(tmp_path / "train.csv", told), TrainingConfig("late", training_mode="mlp_dense", epochs=1)
    )
    (tmp_path / "bundle").mkdir()
    stage_candidate(tmp_path / "bundle", result, table.slice(0, 20))
    report = predict_dataset(tmp_path / "bundle", str(tmp_path / "train.csv"), str(tmp_path / "out.csv"))
    assert report.counts is not None
    assert not report.counts["columns"].get("land", {}).get("unseen")
    (tmp_path / "utf.csv").write_bytes(lines.encode())
    with pytest.raises(DataRefused, match=r"utf\.csv is utf-8 text.*told --encoding cp1252: say --encoding utf-8"):
        answers(tmp_path / "bundle", tmp_path / "utf.csv")
    assert len(answers(tmp_path / "bundle", tmp_path / "utf.csv", encoding="utf-8")) == 200
    (tmp_path / "no_title.csv").write_bytes(lines.partition("\r\n")[2].encode("cp1252"))
    with pytest.raises(DataRefused, match=r"columns are missing.*as the training table was: --delimiter '\|' --enc"):
        answers(tmp_path / "bundle", tmp_path / "no_title.csv")
    assert len(answers(tmp_path / "bundle", tmp_path / "no_title.csv", skip_lines=0)) == 200


def test_a_sheet_is_remembered(tmp_path: Path) -> None:
    table = plain_rows(120)
    book = write_workbook(tmp_path / "book.xlsx", {"notes": pa.table({"x": [1]}), "data": table})
    result = train(
        read_table(book, ReadOptions(sheet="data")), TrainingConfig("late", training_mode="mlp_dense", epochs=1)
    )
    (tmp_path / "bundle").mkdir()
    stage_candidate(tmp_path / "bundle", result, table.slice(0, 20))
    assert len(answers(tmp_path / "bundle", book)) == 120
    write_table(table, tmp_path / "rows.csv")
    assert len(answers(tmp_path / "bundle", tmp_path / "rows.csv")) == 120
    other = write_workbook(tmp_path / "other.xlsx", {"rows": table})
    with pytest.raises(DataRefused, match="no sheet 'data'; it has 'rows'; name one by --sheet"):
        answers(tmp_path / "bundle", other)
    assert len(answers(tmp_path / "bundle", other, sheet="rows")) == 120


SMALL = {"epochs": 2, "hidden_dim": 4, "training_mode": "mlp_dense"}


def run_settings(folder: Path) -> dict[str, Any]:
    write_table(german(plain_rows(300)), folder / "train.csv")
    data = {"source": str(folder / "train.csv"), "target": "late", **TOLD}
    more = {"training": SMALL, "report": {"enabled": False}}
    return {"name": "n", "store": str(folder / "store"), "data": data, **more}


@pytest.mark.slow(5)
def test_a_retraining_and_its_console_commands_remember(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "bundlegate")
    retrain(RetrainConfig.model_validate(run_settings(tmp_path)))
    store = ["--store", str(tmp_path / "store")]
    rows = plain_rows(40, seed=2)
    write_table(german(rows), tmp_path / "marked.csv")
    write_table(rows, tmp_path / "clean.parquet")
    for name in ("marked.csv", "clean.parquet"):
        assert main(["predict", "n@champion", str(tmp_path / name), str(tmp_path / f"{name}.csv"), *store]) == 0
    assert (tmp_path / "marked.csv.csv").read_bytes() == (tmp_path / "clean.parquet.csv").read_bytes()
    capsys.readouterr()
    assert main(["inspect", "n@champion", *store]) == 0
    assert "--decimal , --thousands ." in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.slow(8)
def test_each_segment_s_model_remembers(tmp_path: Path) -> None:
    settings = run_settings(tmp_path) | {"segments": {"column": "land"}}
    retrain_segments(SegmentsConfig.model_validate(settings))
    store = Store(tmp_path / "store")
    for name in ("n-NO", "n-SE"):
        contract = read_manifest(store.resolve(f"{name}@champion")).contract
        assert contract is not None
        assert contract["reading"] == TOLD
