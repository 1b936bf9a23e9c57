"""A store that a version before the fair decision wrote goes on under this one.

`tests/legacy/store_random_split` was written at commit 9154897 by its `init`, three nights of `python -m flows.retrain`
(the first promoted, then two held on a longer table) and its `predict`: random splits, no record of the rows that a
model learned from, no figures of its target. Reports and the work of the first two nights were left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, ROOT

pytestmark = pytest.mark.usefixtures("warm_processes")

CHAMPION = "ee7a64b6ef10f56cd352bc9f0261873ae10dcb3583b4f9a0a5fa0a41261ef007"
HELD = "c6761319c36add94c3f2708ae9994d32ffdd74186f8f80b10d941bd71bad4dfc"
WRITTEN_IN = "/var/lib/bundlegate"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy whose settings name the place where it lies now; nothing else in them is touched."""
    folder = tmp_path / "older"
    shutil.copytree(ROOT / "tests" / "legacy" / "store_random_split", folder)
    settings = folder / "retrain.toml"
    text = settings.read_text(encoding="utf-8")
    assert text.count(f'"{WRITTEN_IN}/') == 2
    settings.write_text(text.replace(WRITTEN_IN, str(folder)), encoding="utf-8")
    return folder


@pytest.fixture
def run(folder: Path) -> Run:
    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "ai.ml.retraining.commands.cli", *arguments],
            cwd=folder,
            env={**os.environ, "BUNDLEGATE_STORE": str(folder / "store"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


def ledger(run: Run) -> list[dict[str, Any]]:
    return json.loads(run("history", "answers", "--json").stdout)


def test_it_is_shown_proved_and_scored_with_as_before(run: Run, folder: Path) -> None:
    assert json.loads(run("show", "answers", "--json").stdout)["live"] == CHAMPION
    assert [entry["action"] for entry in ledger(run)] == ["promoted", "held", "held"]
    run("verify", "answers@champion")
    run("predict", "answers@champion", "night_2.csv", "again.csv")
    assert (folder / "again.csv").read_bytes() == (folder / "scored.csv").read_bytes()


def test_a_night_under_its_settings_is_decided_by_what_the_older_rule_allows(run: Run) -> None:
    run("retrain", "--no-prefect", "--config", "retrain.toml", "--data", "night_2.csv", code=3)
    *before, entry = ledger(run)
    assert [line["action"] for line in before] == ["promoted", "held", "held"]
    assert entry["action"] == "held"
    assert entry["decision"]["champion_digest"] == CHAMPION
    assert "isn't known" in entry["decision"]["reason"]


def test_its_held_candidate_is_promoted_by_hand_and_rolled_back(run: Run) -> None:
    run("promote", "answers", "--candidate", HELD[:12], "--reason", "the new region is in it")
    assert json.loads(run("show", "answers", "--json").stdout)["live"] == HELD
    run("rollback", "answers", "--reason", "it was no better")
    assert json.loads(run("show", "answers", "--json").stdout)["live"] == CHAMPION
    assert [entry["action"] for entry in ledger(run)][3:] == ["promoted", "rolled-back"]
