"""What becomes of a command's output never changes how it ends, except a full disk where it would have ended with 0."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from bundles import sealed
from conftest import PATIENCE_S, PYTHON, bundlegate

from ai.ml.core.errors import ExitCode

pytestmark = pytest.mark.usefixtures("warm_processes")

COLD = str(Path(PYTHON).with_name("bundlegate"))
"""What a user starts, for one run of each kind; the others are forked from the warm interpreter."""
COMMANDS = [("verify",), ("verify", "--json"), ("inspect",), ("inspect", "--json")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("bundles") / "whole")


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle_dir = sealed(tmp_path_factory.mktemp("bundles") / "refused")
    (bundle_dir / "metrics.json").write_bytes(b"{}")
    return bundle_dir


def shell(line: str, *arguments: str | Path, program: str = "") -> subprocess.CompletedProcess[str]:
    """Run `line` with `"$@"` as the command."""
    return subprocess.run(
        ["bash", "-c", line, "bash", program or bundlegate(), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_goes_away_changes_nothing(whole: Path, refused: Path, command: tuple[str, ...]) -> None:
    for bundle_dir, program in ((whole, bundlegate()), (refused, COLD)):
        words = (command[0], bundle_dir, *command[1:])
        heard = shell('"$@"', *words)
        unheard = shell('"$@" | true; exit ${PIPESTATUS[0]}', *words, program=program)
        assert unheard.returncode == heard.returncode
        assert unheard.stderr == heard.stderr


@pytest.mark.slow(6)
def test_a_closed_output_changes_nothing(whole: Path, refused: Path) -> None:
    assert shell('"$@" >&-', "verify", whole, "--json").returncode == ExitCode.OK
    assert shell('"$@" >&-', "verify", refused, "--json").returncode == ExitCode.INTEGRITY


@pytest.mark.slow(6)
def test_a_full_disk_behind_the_output_is_said_and_hides_no_refusal(whole: Path, refused: Path) -> None:
    for bundle_dir, code in ((whole, ExitCode.STORAGE), (refused, ExitCode.INTEGRITY)):
        done = shell('"$@" >/dev/full', "verify", bundle_dir, "--json", program=COLD)
        assert done.returncode == code, done.stderr
        assert done.stderr == "error: the output is incomplete: No space left on device\n"


def test_a_report_in_a_folder_that_isnt_there_is_said_before_the_proof(refused: Path, tmp_path: Path) -> None:
    for flag in ("--junit", "--markdown"):
        done = shell('"$@"', "verify", refused, flag, tmp_path / "no" / "report")
        assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
        assert f"there is no folder {tmp_path / 'no'}" in done.stderr
    assert "it is a folder" in shell('"$@"', "selftest", refused, "--json", tmp_path).stderr


def test_a_report_that_cant_be_written_hides_no_verdict(whole: Path, refused: Path) -> None:
    for bundle_dir, code in ((whole, ExitCode.STORAGE), (refused, ExitCode.INTEGRITY)):
        done = shell('"$@"', "verify", bundle_dir, "--json", "--junit", "/proc/verdict.xml")
        assert done.returncode == code, done.stderr
        assert json.loads(done.stdout)["exit_code"] == done.returncode or code is ExitCode.STORAGE
        assert "writing /proc/verdict.xml" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-5"])
def test_a_terminal_without_a_letter_gets_its_number(tmp_path: Path, encoding: str) -> None:
    done = subprocess.run(
        [bundlegate(), "example", tmp_path / "penguins.csv"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"344 penguins \\xd7 8 columns" in done.stdout
