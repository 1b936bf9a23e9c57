"""Retraining runs that kill themselves at a named point, each forked from a process that has imported everything.

Each line on standard input is JSON: `{"kill": ["after", MODULE, FUNCTION], "arguments": [...], "log": PATH}`, with null
for a run that is left alone. It dies at the first call, or at the first with a text in an argument where a fourth item
says so. The answer is the run's exit status, −9 where it was killed.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401
import sklearn.ensemble  # noqa: F401
import torch
import torch._dynamo

import ai.ml.frameworks.pytorch.trainer.training
import ai.ml.retraining.decision.baselines
import ai.ml.retraining.evidence.seal
import ai.ml.retraining.reporting.sources  # noqa: F401
from ai.ml.retraining.gate import environments, replay
from ai.ml.retraining.records import code_version
from ai.ml.retraining.runs.resume import interrupted_run
from ai.ml.retraining.runs.summary import show_summary
from ai.ml.retraining.settings.retrain import RetrainConfig
from flows.retrain import retrain
from tasks.command_line import run_from_command_line


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


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
        return die()

    return step


def started_and_killed(command: list[str], **options: Any) -> None:
    """Dies while the gate's fresh process is at work."""
    options = {name: options[name] for name in ("cwd", "env", "stdin")}
    subprocess.Popen(command, **options)
    die()


def forked_replay(command: list[str], env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """What the gate's fresh process does, in a fork of this one: it is the same work without the imports."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            tempfile.tempdir = env["TMPDIR"]
            code = replay.main(command[-1:])
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return subprocess.CompletedProcess(command, code, b"", b"")


def run(kill: list[str] | None, arguments: list[str], log: Path) -> int:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    environments.subprocess = types.SimpleNamespace(**vars(subprocess) | {"run": forked_replay})  # pyright: ignore
    if kill is not None:
        arm(*kill)
    return run_from_command_line(retrain, RetrainConfig, show_summary, arguments, resume=interrupted_run)


def main() -> int:
    torch.set_num_threads(1)
    code_version()
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            return run(asked["kill"], asked["arguments"], Path(asked["log"]))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
