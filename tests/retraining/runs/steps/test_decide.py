"""Night after night over a growing table: who learned from which of the rows that decide."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from builders import mixed_table

from ai.ml.core.bundle_dir import read_manifest, write_manifest
from ai.ml.core.splits.row_record import RECORD_NAME
from ai.ml.core.splits.rule import SplitRule
from ai.ml.core.tables.reader import read_table, write_table
from ai.ml.retraining.records import CandidateRef, DecisionRecord
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.steps.candidate import candidate_record
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig, TrainingSettings
from ai.ml.retraining.settings.split import SplitSettings
from ai.ml.retraining.store.store import Store

pytestmark = pytest.mark.usefixtures("warm_processes")

TABLE = mixed_table(700)


def night(folder: Path, rows: int, by: str, **training: int) -> RetrainConfig:
    write_table(TABLE.slice(0, rows), folder / f"{rows}.parquet")
    return RetrainConfig(
        name="m",
        store=str(folder / "store"),
        data=DataSettings(source=str(folder / f"{rows}.parquet"), target="y"),
        split=SplitSettings.model_validate({"by": by}),
        training=TrainingSettings(training_mode="mlp_dense", epochs=2, hidden_dim=8, **training),
    )


def trained(config: RetrainConfig) -> CandidateRef:
    return steps.train_candidate(config, steps.read_data(config))


def promoted(config: RetrainConfig, candidate: CandidateRef) -> None:
    verdict = steps.prove_candidate(config, candidate)
    steps.promote(config, candidate, verdict, steps.decide(config, candidate))


@pytest.fixture(scope="module")
def random_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CandidateRef]:
    """A champion of 400 rows split at random."""
    folder = tmp_path_factory.mktemp("nights")
    config = night(folder, 400, "random")
    candidate = trained(config)
    promoted(config, candidate)
    return folder, candidate


def decided(folder: Path, rows: int, by: str) -> tuple[DecisionRecord, pa.Table]:
    config = night(folder, rows, by)
    candidate = trained(config)
    return steps.decide(config, candidate), read_table(candidate.holdout.path)


@pytest.mark.parametrize("by", ["random", "hash"])
def test_rows_that_a_champion_of_a_random_split_learned_from_do_not_count(
    random_store: tuple[Path, CandidateRef], by: str
) -> None:
    folder, champion = random_store
    decision, holdout = decided(folder, 700, by)
    own = read_table(champion.holdout.path).to_pylist()
    old = TABLE.slice(0, 400).to_pylist()
    learned = sum(row in old and row not in own for row in holdout.to_pylist())
    assert 20 < learned < 100
    overlap = {"held_out": holdout.num_rows, "learned_from": learned, "unknown": []}
    assert decision.document["overlap"] == overlap
    assert decision.document["rows"] == holdout.num_rows - learned
    said = f"; {learned} of {holdout.num_rows} held-out rows don't count: they were learned from"
    assert decision.reason.endswith(said)
    assert decision.document["reason"] == decision.reason
    json.dumps(decision.document, allow_nan=False)


def test_a_champion_of_an_older_version_is_compared_and_it_is_said(
    random_store: tuple[Path, CandidateRef], tmp_path: Path
) -> None:
    config = night(tmp_path, 400, "random")
    steps.read_data(config)
    shutil.copytree(Path(random_store[1].bundle.path).parent, tmp_path / "old")
    bundle = tmp_path / "old" / "bundle"
    manifest = read_manifest(bundle)
    # As the version before wrote it.
    (bundle / RECORD_NAME).unlink()
    lineage = {name: value for name, value in manifest.lineage.items() if name != "split"}
    parts = {name: getattr(manifest, name) for name in ("model", "scoring", "contract", "evidence")}
    write_manifest(bundle, **parts, lineage=lineage)
    promoted(config, candidate_record(tmp_path / "old", []))
    first = Store(config.store).history("m")[0].body["decision"]
    assert "overlap" not in first
    decision, holdout = decided(tmp_path, 700, "hash")
    assert decision.document["overlap"]["unknown"] == ["the champion is from before bundles remembered it"]
    assert decision.document["rows"] == holdout.num_rows
    assert decision.reason.endswith("the champion is from before bundles remembered it")


def test_a_champions_teacher_is_found_whatever_model_it_was(
    random_store: tuple[Path, CandidateRef], tmp_path: Path
) -> None:
    taught = random_store[1].bundle
    config = night(tmp_path, 400, "random")
    big = config.model_copy(update={"name": "big"})
    for each in (config, big):
        steps.read_data(each)
    promoted(big, random_store[1])
    shutil.copytree(Path(taught.path).parent, tmp_path / "student")
    bundle = tmp_path / "student" / "bundle"
    manifest = read_manifest(bundle)
    parts = {name: getattr(manifest, name) for name in ("model", "scoring", "contract", "evidence")}
    own = SplitRule("time", 0.2, time="signup", learned_before="1900-01-01").to_json()
    write_manifest(bundle, **parts, lineage={**manifest.lineage, "teacher": taught.digest, "split": own})
    promoted(config, candidate_record(tmp_path / "student", []))
    decision, _ = decided(tmp_path, 700, "hash")
    assert decision.document["overlap"]["unknown"] == []
    assert decision.document["overlap"]["learned_from"] > 20


def test_with_a_hash_no_row_changes_sides_and_the_nights_are_counted(tmp_path: Path) -> None:
    config = night(tmp_path, 400, "hash")
    candidate = trained(config)
    rule = SplitRule.from_json(read_manifest(Path(candidate.bundle.path)).lineage["split"])
    assert (rule.kind, rule.cells) == ("hash", ("age", "income", "city", "plan", "signup"))
    assert not (Path(candidate.bundle.path) / RECORD_NAME).exists()
    promoted(config, candidate)
    for nights, rows in enumerate((500, 600)):
        later = night(tmp_path, rows, "hash", random_seed=nights)
        grown = trained(later)
        decision = steps.decide(later, grown)
        assert decision.document["overlap"]["learned_from"] == 0
        assert decision.document["rows"] == read_table(grown.holdout.path).num_rows
        assert decision.document["decided_before"] == nights
        held = {"outcome": "HOLD", "document": {**decision.document, "outcome": "HOLD"}}
        verdict = steps.prove_candidate(later, grown)
        steps.promote(later, grown, verdict, decision.model_copy(update=held))
