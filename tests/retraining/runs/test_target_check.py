"""Nights whose labels aren't those that the champion learned from: held with the reason, and a person can overrule."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from builders import mixed_table
from store_samples import verdict_on

from ai.ml.core.bundle_dir import read_manifest, write_manifest
from ai.ml.core.tables.reader import write_table
from ai.ml.core.types import TaskType
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.records import CandidateRef, DecisionRecord, FileRef, VerdictRef
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.steps.candidate import candidate_record
from ai.ml.retraining.settings.decision import DecisionSettings
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig, TrainingSettings
from ai.ml.retraining.settings.target_check import TargetCheckSettings
from ai.ml.retraining.store.store import Store

TABLES: dict[TaskType, pa.Table] = {
    "classification": mixed_table(1_500),
    "regression": mixed_table(1_500, task="regression"),
}
CHAMPIONS = 900


def settings(folder: Path, table: pa.Table, file: str, action: str = "hold") -> RetrainConfig:
    write_table(table, folder / file)
    return RetrainConfig(
        name="m",
        store=str(folder / "store"),
        data=DataSettings(source=str(folder / file), target="y"),
        training=TrainingSettings(training_mode="mlp_dense", epochs=30, hidden_dim=32, date_columns=("signup",)),
        decision=DecisionSettings(policy="not-worse", tolerance="20%"),
        target_check=TargetCheckSettings.model_validate({"action": action}),
    )


def passed(config: RetrainConfig, candidate: CandidateRef) -> VerdictRef:
    """In the place of the gate's, which has tests of its own."""
    verdict = verdict_on(candidate.bundle.digest)
    path = Path(config.store) / f"verdict-{candidate.bundle.digest[:12]}.json"
    path.write_bytes(verdict.to_json())
    return VerdictRef(digest=verdict.digest, outcome=verdict.outcome, reason=verdict.reason, file=FileRef.of(path))


def night(config: RetrainConfig) -> DecisionRecord:
    data = steps.read_data(config)
    candidate = steps.train_candidate(config, data)
    decision = steps.decide(config, candidate, data)
    steps.promote(config, candidate, passed(config, candidate), decision)
    return decision


@pytest.fixture(scope="module", params=["classification", "regression"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TaskType]:
    """A store whose champion learned from the first rows."""
    folder = tmp_path_factory.mktemp(request.param)
    assert night(settings(folder, TABLES[request.param].slice(0, CHAMPIONS), "first.parquet")).outcome == "PROMOTE"
    return folder, request.param


def broken(task: TaskType) -> pa.Table:
    table = TABLES[task]
    labels = np.array(table["y"].to_pylist())
    labels = 100 * labels if task == "regression" else np.where(labels == "yes", "no", "yes")
    return table.set_column(table.column_names.index("y"), "y", pa.array(labels.tolist()))


def test_recoded_labels_are_held_with_the_reason_in_every_record(
    place: tuple[Path, TaskType], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, task = place
    config = settings(folder, broken(task), "broken.parquet")
    champion = Store(config.store).champion("m")
    decision = night(config)
    assert decision.outcome == "HOLD"
    assert decision.reason.startswith("labels or the world changed: ")
    known = "100 times what it was" if task == "regression" else "rows that it knows have another label now (100%)"
    assert known in decision.reason
    words = "RMSE" if task == "regression" else "log loss"
    assert f"the live model's {words} went from " in decision.reason
    assert (
        "; the inputs are as before; the champion stays. If the table is right, `bundlegate promote m --candidate"
        in (decision.reason)
    )
    target = decision.document["target"]
    assert len(target["beyond"]) >= 2
    assert target["changed_labels"]["rows"] > 100
    json.dumps(decision.document, allow_nan=False)
    line = Store(config.store).history("m")[-1]
    assert (line.action, line.body["decision"]["reason"]) == ("held", decision.reason)
    assert line.body["note"]["target"].startswith(f"'y', {task}: ")
    assert main(["history", "m", "--store", config.store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["decision"]["target"] == target

    # A person may know better.
    asked = ["promote", "m", "--store", config.store, "--candidate", line.digest, "--reason", "the tariff changed"]
    assert main([*asked, "--dry-run"]) == 0
    assert Store(config.store).champion("m") == champion


def test_one_night_is_let_through_with_a_word_and_a_good_one_without(place: tuple[Path, TaskType]) -> None:
    folder, task = place
    good = settings(folder, TABLES[task], "good.parquet")
    candidate = steps.train_candidate(good, data := steps.read_data(good))
    decision = steps.decide(good, candidate, data)
    assert "labels or the world" not in decision.reason
    assert decision.document["target"]["beyond"] == []
    assert decision.document["target"]["challenger_loss"]["rows"] > 200
    let_through = settings(folder, broken(task), "broken.parquet", "report")
    candidate = steps.train_candidate(let_through, data := steps.read_data(let_through))
    told = steps.decide(let_through, candidate, data)
    assert told.outcome == "PROMOTE"
    assert "; but labels or the world changed: " in told.reason
    assert told.document["reason"] == told.reason
    off = steps.decide(settings(folder, broken(task), "broken.parquet", "off"), candidate, data)
    assert "target" not in off.document


def test_a_champion_without_a_record_is_judged_by_its_evidence_and_it_is_said(
    place: tuple[Path, TaskType], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = place[1]
    config = settings(tmp_path, TABLES[task].slice(0, CHAMPIONS), "first.parquet")
    candidate = steps.train_candidate(config, steps.read_data(config))
    bundle = Path(candidate.bundle.path)
    manifest = read_manifest(bundle)
    # As the version before wrote it.
    contract = {name: value for name, value in (manifest.contract or {}).items() if name != "target"}
    parts = {name: getattr(manifest, name) for name in ("model", "scoring", "evidence", "lineage")}
    write_manifest(bundle, **parts, contract=contract)
    old = candidate_record(bundle.parent, [])
    steps.promote(config, old, passed(config, old), steps.decide(config, old))
    with caplog.at_level("INFO", logger="bundlegate"):
        decision = night(settings(tmp_path, broken(task), "broken.parquet"))
    assert decision.outcome == "HOLD"
    said = [
        record.getMessage() for record in caplog.records if "from before bundles kept figures" in record.getMessage()
    ]
    assert len(said) == 1
    assert decision.document["target"]["unknown"] == [said[0].removeprefix("note      ")]
    moved = [phrase for phrase in decision.document["target"]["beyond"] if phrase.startswith("the target has moved")]
    assert bool(moved) == (task == "regression"), "halves of yes and no look the same when swapped"
