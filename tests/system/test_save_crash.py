"""A save that is killed, refused by the disk, robbed of its power or raced leaves one whole pair of files."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from conftest import PATIENCE_S, SUPPORT
from save_scenarios import scenarios_of
from soak import Effort, Total

pytestmark = pytest.mark.usefixtures("warm_processes")

LIGHT = [scenario.name for scenario in scenarios_of("light")]
"""Two of them take ten processor seconds."""


def play(script: str, *arguments: str) -> list[dict[str, Any]]:
    """Run a harness in a process without threads; returns what it printed, one object a line."""
    command = [sys.executable, str(SUPPORT / script), *arguments]
    environment = {"PYTHONPATH": f"{SUPPORT.parent / 'src'}:{SUPPORT}", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.needs("strace")
@pytest.mark.parametrize("scenarios", [LIGHT[:2], LIGHT[2:4], LIGHT[4:]], ids="+".join)
@pytest.mark.parametrize(("mode", "fewest_points"), [("kill", 60), ("fault", 50), ("power", 100)])
def test_no_pair_is_torn(mode: str, fewest_points: int, scenarios: list[str], effort: Effort, total: Total) -> None:
    reports = play("crash_harness.py", mode, "light", "all" if effort(ci=0, soak=1) else "each", *scenarios)
    assert len(reports) == 2
    for report in reports:
        check(report, fewest_points, each_side=10)
        total(f"saves with a {mode} at a system call", report["points"])


@pytest.mark.slow
@pytest.mark.needs("strace")
@pytest.mark.parametrize("mode", ["kill", "fault", "power"])
def test_no_pair_of_a_real_bundle_is_torn(mode: str, effort: Effort, total: Total) -> None:
    """The protocol is the same one; in a soak every call of writing and reading with torch is tried, too."""
    every = effort(ci=0, soak=1)
    reports = play("crash_harness.py", mode, "real", "all" if every else "ends")
    assert len(reports) == 3
    for report in reports:
        check(report, 60 if every else 20, each_side=10 if every else 2)
        total(f"saves of a real bundle with a {mode} at a system call", report["points"])


def check(report: dict[str, Any], fewest_points: int, *, each_side: int) -> None:
    assert report["problems"] == []
    assert report["points"] >= fewest_points, report
    # Points on both sides of the commit, or the harness has missed it.
    assert report["outcomes"]["old"] > each_side, report
    assert report["outcomes"]["new"] > each_side, report
    assert report["outcomes"].get("torn", 0) == 0


@pytest.mark.needs("strace")
@pytest.mark.parametrize("mode", ["kill", "power"])
def test_the_harness_finds_out_naive_ways_to_save(mode: str) -> None:
    reports = {report["scenario"]: report for report in play("crash_harness.py", mode, "naive", "all")}
    assert set(reports) == {"in_place", "file_by_file", "unsynced"}
    for report in reports.values():
        assert report["outcomes"]["torn"] > 0
        assert report["problems"]


@pytest.mark.slow
@pytest.mark.parametrize("weight", ["light", "real"])
def test_two_writers_and_two_readers(weight: str, effort: Effort, total: Total) -> None:
    (result,) = play("save_race.py", weight, str(effort(ci=1, soak=120)))
    counts = result["counts"]
    assert not [name for name in counts if name.startswith("error") or name == "torn"], counts
    assert counts["whole"] > 100
    assert counts.get("saved", 0) + counts.get("saved twice", 0) > 20
    assert set(result["left"]) <= {"model_bundle.pt", "metrics.json"}
    total("saves and reads at once", sum(counts.values()))
