"""A retraining that kills itself at a named point: `flow_killer.py POINT ...`, and what follows is the flow's own.

POINT is JSON: `["after", MODULE, FUNCTION]`, or null for a run that is left alone. It dies at the first call, or at the
first with a text in an argument where a fourth item says so. With FLOW_KILLER_SIGNAL=SIGINT it is as if Ctrl-C had been
pressed.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

from ai.ml.retraining.gate import environments
from ai.ml.retraining.runs.resume import interrupted_run
from ai.ml.retraining.runs.summary import show_summary
from ai.ml.retraining.settings.retrain import RetrainConfig
from flows.retrain import retrain
from tasks.command_line import run_from_command_line


def die() -> None:
    os.kill(os.getpid(), signal.Signals[os.environ.get("FLOW_KILLER_SIGNAL", "SIGKILL")])


def arm(moment: str, place: str, name: str, text: str = "") -> None:
    """Put the kill into this process."""
    module, _, inner = place.partition(":")
    owner: Any = importlib.import_module(module)
    owner = getattr(owner, inner) if inner else owner
    if moment == "while":
        environments.subprocess = types.SimpleNamespace(**vars(subprocess))  # pyright: ignore
        environments.subprocess.run = started_and_killed
        return
    setattr(owner, name, killing(getattr(owner, name), text, after=moment == "after"))


def killing(real: Callable[..., Any], text: str, *, after: bool) -> Callable[..., Any]:
    def step(*arguments: Any, **named: Any) -> Any:
        if not any(text in str(argument) for argument in ("", *arguments)):
            return real(*arguments, **named)
        if after:
            real(*arguments, **named)
        return die()  # SIGINT raises right here

    return step


def started_and_killed(command: list[str], **options: Any) -> None:
    """Dies while the gate's fresh process is at work."""
    options = {name: options[name] for name in ("cwd", "env", "stdin")}
    subprocess.Popen(command, **options)
    die()


if __name__ == "__main__":
    point = json.loads(sys.argv.pop(1))
    if point is not None:
        arm(*point)
    sys.exit(run_from_command_line(retrain, RetrainConfig, show_summary, resume=interrupted_run))
