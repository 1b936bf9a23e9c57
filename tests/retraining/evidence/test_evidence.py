"""Evidence: a fair sample of the holdout and probes of every kind, raw as they arrived, bound by the digest."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from builders import mixed_table, tiny_bundle
from bundles import sealed, trained
from conftest import bundlegate
from format_samples import write_original

from ai.ml.core.bundle_dir import bundle_digest, check_files, read_manifest
from ai.ml.core.errors import DataRefused, ExitCode, UsageError
from ai.ml.core.tables.reader import read_table, write_table
from ai.ml.core.types import TaskType
from ai.ml.frameworks.pytorch.inference.scorer import Scorer
from ai.ml.frameworks.pytorch.serialization import load_bundle
from ai.ml.frameworks.pytorch.serialization.save import save_bundle
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.evidence.evidence import MAX_HOLDOUT_ROWS, collect_evidence, read_evidence, sample_rows
from ai.ml.retraining.evidence.seal import make_evidence, stage_candidate
from ai.ml.retraining.gate.proof import prove

pytestmark = pytest.mark.usefixtures("warm_processes")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("evidence") / "bundle")


def test_holdout_rows_are_kept_raw_as_they_arrived(tmp_path: Path) -> None:
    result, holdout = trained()
    stage_candidate(tmp_path / "bundle", result, holdout)
    kept = read_evidence(tmp_path / "bundle").holdout
    assert kept.equals(holdout.replace_schema_metadata(None))
    assert kept["signup"].type == pa.date32()  # not yet expanded, not yet a text
    assert kept["age"].null_count == holdout["age"].null_count > 0


def test_every_kind_of_probe_is_there(whole: Path) -> None:
    evidence = read_evidence(whole)
    kinds = evidence.generated.kinds()
    columns = [column["name"] for column in (read_manifest(whole).contract or {})["columns"]]
    rows = evidence.generated.rows()
    assert {} in rows
    for name in columns:
        assert any(name not in row and row for row in rows), f"{name} is never absent"
        assert any(name in row and row[name] is None for row in rows), f"{name} is never missing"
    for level in ("Oslo", "Łódź", "São Paulo", "New York"):
        assert any(row.get("city") == level for row in rows)
    known = {"Oslo", "Łódź", "São Paulo", "New York", None, ""}
    assert any(row.get("city") not in known for row in rows if "city" in row), "no unseen category"
    cells = [row["income"] for row in rows if isinstance(row.get("income"), float | str)]
    assert any(str(cell).lower() in ("inf", "infinity") for cell in cells), Counter(map(type, cells))
    assert len(kinds) >= 6
    assert sum(kinds.values()) == len(rows)


def test_the_sample_is_bounded_stratified_and_repeatable() -> None:
    result, _ = trained()
    table = mixed_table(6000, seed=5)
    rare = table.slice(0, 3).set_column(table.column_names.index("y"), "y", pa.array(["rare"] * 3))
    table = pa.concat_tables([table, rare])
    first = collect_evidence(Scorer(result.bundle), table)
    assert first.holdout.num_rows == MAX_HOLDOUT_ROWS
    assert first.holdout_rows == 6003
    shares = [Counter(part["y"].to_pylist()) for part in (first.holdout, table)]
    for label in ("yes", "no"):
        assert abs(shares[0][label] / MAX_HOLDOUT_ROWS - shares[1][label] / 6003) < 0.02
    assert shares[0]["rare"] >= 1
    assert collect_evidence(Scorer(result.bundle), table).holdout.equals(first.holdout)
    assert not collect_evidence(Scorer(result.bundle), table, seed=1).holdout.equals(first.holdout)


def test_the_sample_is_the_same_for_texts_as_parquet_gives_them(tmp_path: Path) -> None:
    bundle = trained()[0].bundle
    table = mixed_table(400, seed=5)
    write_table(table, tmp_path / "holdout.parquet")
    read = read_table(tmp_path / "holdout.parquet")
    assert pa.types.is_dictionary(read["y"].type)
    samples = [sample_rows(rows, bundle, 100, 0).to_pylist() for rows in (table, read)]
    assert 98 <= len(samples[0]) <= 100
    assert samples[0] == samples[1]


def test_no_rows_are_no_evidence() -> None:
    result, holdout = trained()
    with pytest.raises(DataRefused, match="evidence needs holdout rows"):
        collect_evidence(Scorer(result.bundle), holdout.slice(0, 0))


def test_it_is_bound_by_the_digest(whole: Path) -> None:
    manifest = read_manifest(whole)
    assert {name for name in manifest.files if name.startswith("evidence/")} == {
        "evidence/answers.npz",
        "evidence/generated.json",
        "evidence/probes.parquet",
        "evidence/record.json",
    }
    assert manifest.evidence is not None
    assert manifest.evidence["origin"] == "training"
    assert check_files(whole, manifest) == []


def test_a_bundle_from_elsewhere_gets_weaker_evidence_and_the_manifest_says_so(tmp_path: Path) -> None:
    save_bundle(tiny_bundle(), tmp_path / "bundle")
    write_table(mixed_table(50).select(["age", "income", "city", "plan"]), tmp_path / "rows.csv")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([bundlegate(), *arguments], cwd=tmp_path, capture_output=True, text=True)

    assert run("verify", "bundle").returncode == ExitCode.NOTHING_CHECKED
    made = run("evidence", "bundle", "--rows", "rows.csv")
    assert made.returncode == 0, made.stderr
    assert "proves later environments against this one, not the training" in " ".join(made.stdout.split())
    evidence = read_manifest(tmp_path / "bundle").evidence
    assert evidence is not None
    assert evidence["origin"] == "environment"
    assert bundle_digest(tmp_path / "bundle") in made.stdout
    verdict = prove(tmp_path / "bundle")
    assert verdict.passed, verdict.reason


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_file_without_its_optional_fields_is_inspected_proved_and_scored(
    tmp_path: Path, task: TaskType, capsys: pytest.CaptureFixture[str]
) -> None:
    place, rows = tmp_path / "bundle", tmp_path / "rows.csv"
    place.mkdir()
    absent = ("class_names", "feature_medians", "label_encoder", "target_scaler", "model_config")
    write_original(place / "model_bundle.pt", tiny_bundle(task, hidden_dim=128, dropout=0.0), without=absent)
    write_table(mixed_table(30).select(["age", "income", "city", "plan"]), rows)

    def run(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    facts = json.loads(run("inspect", place, "--json"))["payload"]
    assert (facts["task"], facts["class_names"], facts["feature_medians"]) == (task, None, False)
    run("evidence", place, "--rows", rows)
    verdict = json.loads(run("verify", place, "--json"))
    assert {check["name"]: check["passed"] for check in verdict["checks"] if check["applies"]} == dict.fromkeys(
        ("integrity", "manifest", "loading", "structure", "replay", "fixpoint", "invariance"), True
    )
    run("predict", place, rows, tmp_path / "scored.parquet", *(["--proba"] if task == "classification" else []))
    scored, expected = read_table(tmp_path / "scored.parquet"), Scorer(load_bundle(place / "model_bundle.pt"))
    answers = expected.score_table(read_table(rows))
    assert scored["y_predicted"].to_pylist() == answers.decoded.tolist()
    if task == "classification":
        assert scored.column_names[-3:] == [f"y_probability_{index}" for index in range(3)]
    else:
        assert answers.decoded.tolist() == answers.raw[:, 0].astype(float).tolist()


def test_evidence_of_the_training_isnt_given_up_by_accident(whole: Path) -> None:
    with pytest.raises(UsageError, match="which proves more than this would"):
        make_evidence(whole, mixed_table(20))
