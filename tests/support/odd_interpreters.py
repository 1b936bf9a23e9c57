"""Interpreters that do something else than ours, for a gate that replays in the one that will serve."""

from __future__ import annotations

import sys
from pathlib import Path

from ai.ml.retraining.gate.environments import EnvironmentSpec


def shell(folder: Path, line: str) -> EnvironmentSpec:
    """One that does what `line` says instead."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{line}\n", "utf-8")
    script.chmod(0o755)
    return EnvironmentSpec("odd", str(script))


def replaying(folder: Path, line: str) -> str:
    """One like ours until it is asked to replay."""
    return shell(folder, f'if [ "$3" = "-m" ]; then {line}; fi\nexec {sys.executable} "$@"').python


def patched(folder: Path, patch: str) -> str:
    """One that runs `patch` before each replay: scoring is another, as another library's version would have it."""
    code = (
        "import runpy, sys; sys.argv = ['replay', sys.argv[1]]\n"
        f"{patch}\nrunpy.run_module('ai.ml.retraining.gate.replay', run_name='__main__')\n"
    )
    (folder / "patched.py").write_text(code, "utf-8")
    return replaying(folder, f'exec {sys.executable} -I -B {folder}/patched.py "$5"')
