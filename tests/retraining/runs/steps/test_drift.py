"""Drift before training and before scoring: reported, or refused with exit code 4 before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from batch_scenes import dataset
from builders import mixed_table
from prefect_cli import run_module

from ai.ml.core.errors import DataRefused
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.batch.job import BatchSettings, predict_dataset
from ai.ml.retraining.batch.runners import ProcessRunner
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.steps.drift import check_drift
from ai.ml.retraining.runs.work_folder import work_dir
from ai.ml.retraining.settings.decision import DecisionSettings
from ai.ml.retraining.settings.retrain import DataSettings, DriftSettings, RetrainConfig, TrainingSettings
from ai.ml.retraining.store.store import Store


def settings(folder: Path, source: str, **drift: str) -> RetrainConfig:
    return RetrainConfig(
        name="m",
        store=str(folder / "store"),
        data=DataSettings(source=str(folder / source), target="y"),
        training=TrainingSettings(epochs=2, hidden_dim=8, date_columns=("signup",)),
        drift=DriftSettings.model_validate(drift),
    )


def moved(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("income")
    return table.set_column(place, "income", pc.multiply(table["income"], 3.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a champion, and tables that came later."""
    folder = tmp_path_factory.mktemp("drift")
    write_table(mixed_table(500, seed=1), folder / "old.csv")
    write_table(mixed_table(400, seed=2), folder / "same.parquet")
    write_table(moved(mixed_table(400, seed=3)), folder / "moved.csv")
    write_table(mixed_table(400, seed=4).drop_columns(["income"]), folder / "narrow.csv")
    config = settings(folder, "old.csv")
    data = steps.read_data(config)
    assert check_drift(config, data) is None, "there is no champion yet"
    candidate = steps.train_candidate(config, data)
    verdict = steps.prove_candidate(config, candidate)
    steps.promote(config, candidate, verdict, steps.decide(config, candidate))
    return folder


def test_before_training_drift_is_reported_and_kept_as_json(folder: Path) -> None:
    for source, severity in (("same.parquet", "stable"), ("moved.csv", "major")):
        config = settings(folder, source)
        drift = check_drift(config, steps.read_data(config))
        assert drift is not None
        assert (drift.severity, drift.against) == (severity, Store(folder / "store").champion("m"))
    assert "major drift in 400 rows: 'income' (PSI " in drift.sentence
    newest = max(work_dir(config).glob("drift-*.json"), key=lambda path: path.stat().st_mtime)
    assert json.loads(newest.read_bytes()) == json.loads(json.dumps(drift.document))
    assert drift.document["columns"][0]["column"] == "income"


def test_before_training_drift_can_be_a_refusal(folder: Path) -> None:
    config = settings(folder, "moved.csv", action="refuse")
    with pytest.raises(DataRefused, match=r"has drifted from the training table, major or worse: 'income' \(PSI"):
        check_drift(config, steps.read_data(config))
    stable = settings(folder, "same.parquet", action="refuse", severity="moderate")
    assert check_drift(stable, steps.read_data(stable)) is not None
    off = settings(folder, "moved.csv", action="off")
    assert check_drift(off, steps.read_data(off)) is None


def test_a_table_that_cannot_be_compared(folder: Path) -> None:
    config = settings(folder, "narrow.csv")
    with pytest.raises(DataRefused, match="the champion reads columns that aren't there: 'income'"):
        check_drift(config, steps.read_data(config))
    told = {"decision": DecisionSettings(incomparable="promote")}
    config = config.model_copy(update=told)
    drift = check_drift(config, steps.read_data(config))
    assert drift is not None
    assert drift.severity is None
    assert "columns are missing: 'income'" in drift.sentence
    config = settings(folder, "narrow.csv", action="refuse").model_copy(update=told)
    with pytest.raises(DataRefused, match="columns are missing: 'income'"):
        check_drift(config, steps.read_data(config))


def test_predict_reports_and_refuses(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUNDLEGATE_STORE", str(folder / "store"))
    out = folder / "out.parquet"
    source = str(folder / "moved.csv")
    assert main(["predict", "m@champion", source, str(out), "--drift", "report", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["drift"]["severity"] == "major"
    assert report["drift"]["document"]["columns"][0]["column"] == "income"
    out.unlink()
    assert main(["predict", "m@champion", source, str(out), "--drift", "refuse"]) == 4
    assert "has drifted from the training table, major or worse: 'income'" in capsys.readouterr().err
    assert not out.exists()
    assert main(["predict", "m@champion", str(folder / "same.parquet"), str(out), "--drift", "refuse"]) == 0
    assert "no drift in 400 rows" in capsys.readouterr().out


@pytest.mark.slow(12)
def test_drift_is_measured_over_all_parts_whoever_scores_them(folder: Path, tmp_path: Path) -> None:
    bundle = Store(folder / "store").resolve("m@champion")
    source = str(dataset(tmp_path / "in", n_rows=40))
    found = [
        predict_dataset(bundle, source, str(tmp_path / name), BatchSettings(drift="report"), run=run).drift
        for name, run in (("one", ProcessRunner(1)), ("two", ProcessRunner(2)))
    ]
    assert found[0] == found[1]
    assert found[0] is not None
    assert found[0].document["rows"] == sum(40 + index for index in range(6))


@pytest.mark.slow
def test_a_flow_that_refuses_drift_trains_nothing(folder: Path, warm_environment: dict[str, str]) -> None:
    arguments = [
        "--name",
        "m",
        "--target",
        "y",
        "--store",
        str(folder / "store"),
        "--epochs",
        "1",
        "--hidden-dim",
        "8",
        "--no-report",
    ]
    arguments += ["--data", str(folder / "moved.csv"), "--drift", "refuse"]
    refused = run_module(warm_environment, "flows.retrain", *arguments)
    assert refused.returncode == 4, refused.stderr
    assert "has drifted from the training table" in refused.stderr
    assert "trained" not in refused.stderr
