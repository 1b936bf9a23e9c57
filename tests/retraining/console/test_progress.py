"""What a terminal shows while something takes its time, and what a pipe doesn't."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from builders import sealed_tiny
from conftest import PATIENCE_S
from store_samples import promoted

from ai.ml.core.bundle_dir import write_manifest
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.store.actor import whoami
from ai.ml.retraining.store.store import Store

SCRIPT = """
from ai.ml.retraining.console.progress import working, part_bar
with working("proving"):
    input()
with part_bar("scoring") as show:
    show(1, 4)
    input()
    show(4, 4)
"""
"""Each thing lasts until it has been seen."""


def on_a_terminal(environment: dict[str, str]) -> str:
    """The script's stderr, which is a real terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, env=environment, stdin=subprocess.PIPE) as run:
        os.close(theirs)
        assert run.stdin is not None
        shown, awaited = b"", [b"proving", b"1/4"]
        while piece := _read(ours):
            shown += piece
            if awaited and awaited[0] in shown:
                awaited.pop(0)
                run.stdin.write(b"\n")
                run.stdin.flush()
    os.close(ours)
    assert run.returncode == 0
    return shown.decode()


def _read(terminal: int) -> bytes:
    """What has been shown meanwhile; nothing once nobody has the terminal any more."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


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
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], input="\n\n", capture_output=True, text=True, env=terminal(), timeout=PATIENCE_S
    )
    assert (run.stdout, run.stderr) == ("", "")


def test_a_pipe_gets_whole_lines_and_a_narrow_terminal_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    digest = promoted(store, tmp_path, 0)
    arguments = ["history", "m", "--store", str(store.root)]
    assert main(arguments) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if digest[:12] in line]
    assert whoami() in line, "a decision is one line"
    assert main(["show", "m", "--store", str(store.root)]) == 0
    assert any(line.split() == ["live", digest] for line in capsys.readouterr().out.splitlines())
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(arguments) == 0
    narrow = capsys.readouterr().out
    assert digest[:12] in narrow, "nothing is cut off"
    assert "┃" not in narrow


def test_names_that_look_like_markup_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, _ = sealed_tiny(tmp_path / "bundle")
    odd = {"[red]what[/red]": "[bold]of it"}
    write_manifest(bundle, model={}, scoring={}, contract=None, evidence=None, lineage=odd)
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "[red]what[/red]" in shown
    assert "[bold]of it" in shown


def test_a_deployments_run_tells_more_than_warnings() -> None:
    command = "import logging, tasks; print(logging.getLogger('bundlegate').isEnabledFor(logging.INFO))"
    run = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert run.stdout.split() == ["True"]


@pytest.mark.parametrize(
    "package", ["ai.ml.core.errors", "ai.ml.retraining.commands.cli", "ai.ml.retraining.settings.retrain"]
)
def test_imports_warn_of_nothing(package: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", f"import {package}"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (run.returncode, run.stderr) == (0, "")
