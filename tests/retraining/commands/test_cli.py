"""The console script, as a process, on a real store."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import mixed_table
from conftest import PATIENCE_S

from ai.ml.core.tables.reader import read_table, write_table
from ai.ml.retraining.commands.cli import build_parser
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig, TrainingSettings

pytestmark = pytest.mark.usefixtures("warm_processes")

Run = Callable[..., subprocess.CompletedProcess[str]]


def promoted(folder: Path, *, epochs: int, learning_rate: float) -> None:
    """One retraining as plain functions, into `folder/store`."""
    settings = RetrainConfig(
        name="m",
        store=str(folder / "store"),
        data=DataSettings(source=str(folder / "table.csv"), target="y"),
        training=TrainingSettings(epochs=epochs, learning_rate=learning_rate, hidden_dim=16),
    )
    data = steps.read_data(settings)
    candidate = steps.train_candidate(settings, data)
    verdict = steps.prove_candidate(settings, candidate)
    decision = steps.decide(settings, candidate)
    steps.promote(settings, candidate, verdict, decision, flow_run_id=None)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which two champions followed each other."""
    folder = tmp_path_factory.mktemp("cli")
    write_table(mixed_table(900, seed=6), folder / "table.csv")
    promoted(folder, epochs=1, learning_rate=1e-6)
    promoted(folder, epochs=40, learning_rate=1e-3)
    return folder


@pytest.fixture
def folder(stored: Path, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    shutil.copytree(stored, tmp_path / "f")
    return tmp_path / "f"


@pytest.fixture
def run(folder: Path) -> Run:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ai.ml.retraining.commands.cli", *arguments],
            cwd=folder,
            env={**os.environ, "BUNDLEGATE_STORE": str(folder / "store"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    return call


def flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def test_show_says_what_is_live_since_when_why_and_the_way_back(run: Run, folder: Path) -> None:
    shown = run("show", "m")
    assert shown.returncode == 0, shown.stderr
    for word in ("live", "since", "why", "log_loss is better", "go back", "bundlegate rollback m"):
        assert word in shown.stdout
    facts = json.loads(run("show", "m", "--json").stdout)
    assert re.fullmatch("[0-9a-f]{64}", facts["live"])
    assert facts["previous"] != facts["live"]
    # Whole on one line, however narrow the terminal; the way back works as it is shown.
    assert f"path     {facts['path']}\n" in shown.stdout
    assert len(facts["path"]) > 80
    assert "--store" not in shown.stdout
    elsewhere = run("show", "m", "--store", f"{folder}/./store").stdout
    assert f"bundlegate rollback m --store {folder}/./store --reason" in elsewhere


def test_history_lists_every_decision(run: Run) -> None:
    entries = json.loads(run("history", "m", "--json").stdout)
    assert [entry["action"] for entry in entries] == ["promoted", "promoted"]
    assert entries[1]["previous"] == entries[0]["sha256"]
    assert "promoted" in run("history", "m").stdout


@pytest.mark.slow(5)
def test_rollback_proves_the_former_champion_and_makes_it_live(run: Run) -> None:
    before = json.loads(run("show", "m", "--json").stdout)
    back = run("rollback", "m", "--reason", "complaints")
    assert back.returncode == 0, back.stderr
    after = json.loads(run("show", "m", "--json").stdout)
    assert (after["live"], after["previous"]) == (before["previous"], before["live"])
    assert after["why"] == "complaints"
    assert set(after["metrics"]) == set(before["metrics"])
    assert after["metrics"] != before["metrics"]
    assert run("audit", "m").returncode == 0


def test_rollback_to_a_damaged_version_is_refused(run: Run, folder: Path) -> None:
    live = json.loads(run("show", "m", "--json").stdout)
    flip(folder / "store" / "m" / "versions" / live["previous"] / "model_bundle.pt")
    back = run("rollback", "m", "--reason", "complaints")
    assert back.returncode == 1
    assert "model_bundle.pt" in back.stderr
    assert json.loads(run("show", "m", "--json").stdout)["live"] == live["live"]


def test_audit_sees_a_flipped_bit_an_edited_line_and_a_moved_pointer(run: Run, folder: Path) -> None:
    place = folder / "store" / "m"
    assert run("audit", "m").returncode == 0
    live = json.loads(run("show", "m", "--json").stdout)
    flip(place / "versions" / live["live"] / "model_bundle.pt")
    damaged = run("audit", "m")
    assert damaged.returncode == 6
    assert "model_bundle.pt has changed" in damaged.stdout
    flip(place / "versions" / live["live"] / "model_bundle.pt")
    ledger = place / "ledger.jsonl"
    whole = ledger.read_text()
    ledger.write_text(whole.replace("the first bundle", "the very best bundle"))
    assert "a line was edited, removed or added" in run("audit", "m").stdout
    ledger.write_text(whole)
    pointer = place / "champion"
    pointer.write_text(pointer.read_text().replace(live["live"], live["previous"]))
    assert "moved by hand" in run("audit", "m").stdout


@pytest.mark.slow(7)
def test_verify_passes_a_whole_bundle_and_names_the_damaged_file(run: Run, folder: Path) -> None:
    passed = run("verify", "m@champion", "--junit", "j.xml", "--markdown", "v.md")
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "bit for bit" in passed.stdout
    assert "<testsuite" in (folder / "j.xml").read_text()
    assert "PASSED" in (folder / "v.md").read_text()
    copy = folder / "copy"
    shutil.copytree(json.loads(run("show", "m", "--json").stdout)["path"], copy)
    flip(copy / "model_bundle.pt")
    for extra in ((), ("--json",), ("--markdown", "w.md")):
        refused = run("verify", str(copy), *extra)
        assert refused.returncode == 6
    assert "model_bundle.pt" in refused.stdout


def test_a_flipped_bit_is_named_by_its_record_when_loading(run: Run, folder: Path) -> None:
    copy = folder / "copy.pt"
    live = json.loads(run("show", "m", "--json").stdout)["path"]
    shutil.copy(Path(live) / "model_bundle.pt", copy)
    flip(copy, 0.7)
    refused = run("inspect", str(copy))
    assert refused.returncode == 6
    assert re.search(r"record data/\d+: damaged", refused.stderr)
    assert "Traceback" not in refused.stderr


def test_inspect_prints_the_manifest_and_reads_a_foreign_file_statically(run: Run, folder: Path) -> None:
    facts = json.loads(run("inspect", "m@champion", "--json").stdout)
    assert facts["model"]["task"] == "classification"
    assert facts["problems"] == []
    assert {column["name"] for column in facts["contract"]["columns"]} == {"age", "income", "city", "plan", "signup"}
    shown = run("inspect", "m@champion")
    assert "input contract" in shown.stdout
    assert re.search(r"y +│ target +│ +│ 'no', 'yes'", shown.stdout)
    assert re.search(r"age +│ number +│ [0-9.]+% +│ 18 … 89; quarters [0-9., ]+", shown.stdout)
    assert "'Oslo' × " in shown.stdout
    foreign = folder / "elsewhere"
    foreign.mkdir()
    shutil.copy(Path(facts["path"]) / "model_bundle.pt", foreign)
    static = json.loads(run("inspect", str(foreign / "model_bundle.pt"), "--json").stdout)
    assert static["manifest"] is None
    assert static["payload"]["task"] == "classification"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_predict_scores_a_table_in_its_order(run: Run, folder: Path, suffix: str) -> None:
    table = mixed_table(120, seed=9).drop_columns(["y"])
    write_table(table, folder / f"in{suffix}")
    scored = run("predict", "m@champion", f"in{suffix}", f"out{suffix}", "--proba", "--keep", "age")
    assert scored.returncode == 0, scored.stderr
    answers = read_table(folder / f"out{suffix}")
    assert answers.num_rows == 120
    assert "age" in answers.column_names


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["show", "nobody"], 2, "nothing was promoted"),
        (["show", "../x"], 2, "model name '../x'"),
        (["verify", "m@12"], 2, "at least 6 characters"),
        (["verify", "m@ffffffff"], 2, "no version begins like that"),
        (["verify", "nowhere"], 2, "no bundle at nowhere"),
        (["predict", "m@champion", "gone.csv", "out.csv"], 4, "gone.csv"),
        (["audit", "nobody"], 2, "no model 'nobody'"),
    ],
)
def test_a_users_mistake_is_one_sentence(run: Run, arguments: list[str], code: int, sentence: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == code, ended.stderr
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_table_without_a_column_is_refused_by_name(run: Run, folder: Path) -> None:
    write_table(mixed_table(10).rename_columns(["age", "incme", "city", "plan", "signup", "y"]), folder / "in.csv")
    ended = run("predict", "m@champion", "in.csv", "out.csv")
    assert ended.returncode == 4
    assert "'income' (is it 'incme'?)" in ended.stderr
    assert not (folder / "out.csv").exists()


def test_prune_never_takes_the_champion_or_the_one_before(run: Run, folder: Path) -> None:
    assert run("prune", "m", "--keep", "1").returncode == 0
    assert len(list((folder / "store" / "m" / "versions").iterdir())) == 2
    assert run("audit", "m").returncode == 0


def test_columns_to_keep_may_be_said_one_by_one_or_together() -> None:
    words = ["predict", "b", "in.csv", "out.csv", "--keep", "a", "--keep", "b", "c", "--missing-mark", "?"]
    given = build_parser().parse_args([*words, "--missing-mark", "-999"])
    assert (given.keep, given.missing_marks) == (["a", "b", "c"], ["?", "-999"])
