"""The suite on a machine where something is missing: it says so, and passes without the tests of it; CI doesn't."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE_S, ROOT, SUPPORT
from machine_needs import NEEDS

BARE = """
import sys
from pathlib import Path
import machine_needs
machine_needs.POSTGRESQL = Path("/nowhere")
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""
FILES = (
    "system/test_report_browser.py",
    "system/test_save_crash.py",
    "system/test_store_kills.py",
    "core/tables/test_sql_reader.py",
    "retraining/batch/outputs/test_sql_tables.py",
    "pytorch/models/test_dropout.py",
)


def suite_on_a_bare_machine(folder: Path, *arguments: str, ci: str | None = None) -> subprocess.CompletedProcess[str]:
    """These files' tests collected with nothing on the path and no device in sight."""
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"PATH": str(folder), "PYTHONPATH": str(SUPPORT), "CUDA_VISIBLE_DEVICES": ""}
    files = [str(ROOT / "tests" / name) for name in FILES]
    return subprocess.run(
        [sys.executable, "-c", BARE, "-p", "no:cacheprovider", *files, *arguments],
        cwd=ROOT,
        env=environment | ({"CI": ci} if ci else {}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.slow(6)
def test_what_is_missing_is_said_and_its_tests_are_left_out(tmp_path: Path) -> None:
    run = suite_on_a_bare_machine(tmp_path, "--collect-only")
    assert run.returncode == 0, run.stdout + run.stderr
    for need in NEEDS.values():
        assert run.stdout.splitlines().count(need.sentence) == 1, run.stdout
    tree = [line.strip() for line in run.stdout.splitlines() if line.strip().startswith("<")]
    assert "<Module test_store_kills.py>" in tree
    assert any(line.startswith("<Function test_records_of_another_make_are_refused[sqlite") for line in tree)
    for needy in ("browser", "test_no_pair", "full_disk", "read_only", "test_sql_reader", "[postgresql", "cuda"):
        assert not [line for line in tree if needy in line]


@pytest.mark.slow(6)
def test_a_run_of_what_is_left_passes(tmp_path: Path) -> None:
    run = suite_on_a_bare_machine(tmp_path, "-k", "harness_finds or mistakes_are_sentences or names_that_no_column")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout


@pytest.mark.parametrize("ci", ["true", "1"])
def test_in_ci_a_missing_program_fails_the_run(tmp_path: Path, ci: str) -> None:
    run = suite_on_a_bare_machine(tmp_path, "--collect-only", "-q", ci=ci)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR, run.stdout + run.stderr
    for need in NEEDS.values():
        assert (need.missing in run.stderr) == need.is_program
