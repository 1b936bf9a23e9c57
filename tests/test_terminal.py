"""What a terminal shows while something takes its time, and what a pipe doesn't."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import time
from ai.ml.retraining.log import at_work, part_bar
with at_work("proving"):
    time.sleep(0.3)
with part_bar("scoring") as show:
    show(1, 4)
    time.sleep(0.3)
    show(4, 4)
"""


def on_a_terminal(environment: dict[str, str]) -> str:
    """The script's stderr, which is a real terminal."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, env=environment, stdin=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert run.wait(30) == 0
    return shown.decode()


def terminal(**more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return plain | {"TERM": "xterm-256color"} | more


def test_a_terminal_sees_what_is_done_and_how_far_it_is() -> None:
    shown = on_a_terminal(terminal())
    assert "proving" in shown
    assert "1/4" in shown
    assert "\x1b[3" in shown, "colours"


def test_no_color_is_obeyed() -> None:
    shown = on_a_terminal(terminal(NO_COLOR="1"))
    assert "1/4" in shown
    assert "\x1b[3" not in shown


def test_a_pipe_sees_nothing() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=terminal(), timeout=60)
    assert (run.stdout, run.stderr) == ("", "")


@pytest.mark.parametrize("package", ["ai.ml.core.errors", "ai.ml.retraining.cli", "ai.ml.retraining.config"])
def test_imports_warn_of_nothing(package: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", f"import {package}"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (0, "")
