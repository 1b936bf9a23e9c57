"""A verification that is interrupted, or whose replay is killed, at a moment that the test decides."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bundles import sealed
from conftest import PATIENCE_S
from odd_interpreters import patched, replaying

from ai.ml.core.errors import ExitCode

BUNDLEGATE = str(Path(sys.executable).with_name("bundlegate"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("whole") / "bundle")


def verifying(bundle: Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [BUNDLEGATE, "verify", str(bundle), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def struck(process: subprocess.Popen[str], moment: Callable[[], Any], strike: Callable[[], Any]) -> tuple[str, str]:
    """What it says, on both streams, when something is done to it at that moment."""
    deadline = time.monotonic() + PATIENCE_S
    with process:
        try:
            while not moment():
                assert process.poll() is None, "it ended before its moment"
                assert time.monotonic() < deadline, "the moment didn't come"
                time.sleep(0.01)
            strike()
            return process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()


def interrupted(process: subprocess.Popen[str], moment: Callable[[], Any]) -> tuple[str, str]:
    """As if Ctrl-C had been pressed."""
    return struck(process, moment, lambda: process.send_signal(signal.SIGINT))


@pytest.mark.slow(6)
def test_ctrl_c_is_not_a_pass(whole: Path) -> None:
    replays: set[str] = set()

    def imports(pid: int) -> bool:
        # Before it has imported anything it is Python that is interrupted, with an exit code of its own.
        return "_pydantic_core" in Path(f"/proc/{pid}/maps").read_text()

    def replays_again(pid: int) -> bool:
        replays.update(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return len(replays) > 1

    for moment in (imports, replays_again):
        process = verifying(whole, "--cpu-matrix")
        out, err = interrupted(process, partial(moment, process.pid))
        assert process.returncode not in (0, 1, 3), err
        assert "PASSED" not in out


@pytest.mark.slow(5)
def test_ctrl_c_while_a_bundle_is_replayed_is_130(whole: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    hangs = patched(tmp_path, f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(3600)")
    process = verifying(whole, "--python", hangs)
    out, err = interrupted(process, begun.exists)
    assert (process.returncode, out) == (130, ""), err
    assert "interrupted" in err
    assert "Traceback" not in err


@pytest.mark.slow(5)
def test_a_replay_that_is_killed_is_75(whole: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    waits = replaying(tmp_path, f"echo $$ > {begun}.pid; mv {begun}.pid {begun}; exec sleep 3600")
    process = verifying(whole, "--python", waits)
    out, err = struck(process, begun.exists, lambda: os.kill(int(begun.read_text()), signal.SIGKILL))
    assert (process.returncode, out) == (ExitCode.BUSY, ""), err
    assert "killed by SIGKILL" in err
