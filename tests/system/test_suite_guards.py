"""What the suite measures of itself: processor seconds with a limit, and counts that are larger in a soak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import PATIENCE_S, SUPPORT

CONFTEST = """
from processor_seconds import ProcessorSeconds, add_options
from soak import Totals, chosen, effort, total

def pytest_addoption(parser):
    add_options(parser)

def pytest_configure(config):
    config.addinivalue_line("markers", "soak: of a soak only")
    config.addinivalue_line("markers", "processor_seconds(limit): its own")
    config.pluginmanager.register(ProcessorSeconds(config))
    config.pluginmanager.register(Totals())

def pytest_collection_modifyitems(items):
    items[:] = chosen(items)[0]
"""
BURNING = """
import subprocess, sys

BURN = [sys.executable, "-c", "import time\\nwhile time.process_time() < 0.6: pass"]

def test_of_a_child_that_ended():
    subprocess.run(BURN, check=True)

def test_of_a_grandchild_that_still_runs():
    script = f"import subprocess, time; subprocess.run({BURN!r}); print('burnt', flush=True); time.sleep(600)"
    global process
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "burnt\\n"

def test_that_waits():
    process.kill()
    process.communicate()
"""
COUNTING = """
import pytest

@pytest.mark.parametrize("kind", [1, 2])
def test_that_tries(effort, total, kind):
    total("tries", effort(ci=5, soak=70))

@pytest.mark.soak
def test_of_the_soak_only(total):
    total("tries", 1000)

def test_that_does_not_count():
    pass
"""


def suite(folder: Path, content: str, *arguments: str, soak: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(content)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder)]
    return subprocess.run(
        [*command, str(folder), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SUPPORT), "BUNDLEGATE_SOAK": soak},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_a_test_that_takes_more_processor_seconds_than_the_limit_fails_the_run(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    run = suite(tmp_path, BURNING, "--processor-limit", "0.5", "--processor-table", str(table))
    assert run.returncode == 1, run.stdout + run.stderr
    assert "3 passed" in run.stdout, "the tests themselves are right"
    blamed = [line.partition(" took ")[0] for line in run.stdout.splitlines() if "0.5 are the limit" in line]
    assert [test.partition("::")[2] for test in blamed] == [
        "test_of_a_child_that_ended",
        "test_of_a_grandchild_that_still_runs",
    ]
    taken = {test.partition("::")[2]: took["call"] for test, took in json.loads(table.read_text()).items()}
    assert taken["test_of_a_child_that_ended"] > 0.5 < taken["test_of_a_grandchild_that_still_runs"]
    assert taken["test_that_waits"] < 0.5


def test_a_limit_of_its_own_goes_before_the_runs(tmp_path: Path) -> None:
    own = "import pytest\n@pytest.mark.processor_seconds({})\ndef test_of_a_child_that_ended"
    for limit, blamed in ((60, 1), (0.1, 2)):
        content = BURNING.replace("def test_of_a_child_that_ended", own.format(limit))
        run = suite(tmp_path, content, "-n", "2", "--dist", "loadfile", "--processor-limit", "0.5")
        assert run.stdout.count(" are the limit") == blamed, run.stdout
        assert run.stdout.count("0.1 are the limit") == blamed - 1


def test_below_the_limit_nothing_is_said(tmp_path: Path) -> None:
    run = suite(tmp_path, BURNING, "-n", "2", "--dist", "loadfile", "--processor-limit", "60")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "are the limit" not in run.stdout


def test_over_the_limit_under_xdist_too(tmp_path: Path) -> None:
    run = suite(tmp_path, BURNING, "-n", "2", "--dist", "loadfile", "--processor-limit", "0.5")
    assert run.returncode == 1, run.stdout + run.stderr
    assert run.stdout.count("0.5 are the limit") == 2


def test_a_soak_runs_what_counts_and_tells_its_totals(tmp_path: Path) -> None:
    usual, soak = suite(tmp_path, COUNTING), suite(tmp_path, COUNTING, soak="1")
    assert "3 passed" in usual.stdout
    assert [line.split() for line in usual.stdout.splitlines() if line.endswith("  tries")] == [["10", "tries"]]
    assert "3 passed" in soak.stdout
    assert [line.split() for line in soak.stdout.splitlines() if line.endswith("  tries")] == [["1,140", "tries"]]
