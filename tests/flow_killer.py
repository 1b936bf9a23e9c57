"""Retraining runs that kill themselves at a named point, each forked from a process that has imported everything.

Each line on standard input is JSON: `{"point": "train.end", "arguments": [...], "log": "…/run.log"}`, with a null point
for a run that is left alone. The answer is the run's exit status: −9 where it was killed. `flow_killer.py` by itself.
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
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401
import torch

from ai.ml.retraining import environments
from ai.ml.retraining.config import RetrainConfig
from ai.ml.retraining.summary import show_summary
from flows.retrain import retrain
from tasks.command_line import run_from_command_line

STEPS = "ai.ml.retraining.steps"
SHELF = "ai.ml.retraining.folder_shelf"
REPORT = "ai.ml.retraining.reporting"

POINTS: dict[str, tuple[str, str, str]] = {
    "read.start": ("before", STEPS, "snapshot_data"),
    "read.written": ("after", STEPS, "write_table"),
    "read.end": ("after", STEPS, "snapshot_data"),
    "drift.start": ("before", "tasks.training", "training_drift"),
    "drift.measured": ("before", "ai.ml.retraining.drift_check", "write_atomic"),
    "drift.end": ("after", "tasks.training", "training_drift"),
    "train.start": ("before", STEPS, "build_candidate"),
    "train.an-epoch": ("after", "ai.ml.frameworks.pytorch.epoch_checkpoint:EpochCheckpoint", "save"),
    "train.building": ("before", STEPS, "publish_dir"),
    "train.published": ("after", STEPS, "publish_dir"),
    "train.end": ("after", STEPS, "build_candidate"),
    "prove.start": ("before", STEPS, "prove_candidate"),
    "prove.replaying": ("while", "ai.ml.retraining.environments", "subprocess"),
    "prove.end": ("after", STEPS, "prove_candidate"),
    "decide.start": ("before", STEPS, "decide"),
    "decide.half-scored": ("after", STEPS, "score_known"),
    "decide.end": ("after", STEPS, "decide"),
    "promote.start": ("before", STEPS, "promote"),
    "promote.copied": ("before", SHELF, "publish_dir"),
    "promote.published": ("after", SHELF, "publish_dir"),
    "promote.decided": ("before", SHELF, "_put_in_place"),
    "promote.moved": ("after", SHELF, "_put_in_place"),
    "promote.end": ("after", STEPS, "promote"),
    "score.start": ("before", STEPS, "score_holdout"),
    "score.written": ("after", STEPS, "write_table"),
    "score.end": ("after", STEPS, "score_holdout"),
    "report.start": ("before", f"{REPORT}.sources", "report_candidate"),
    "report.one-file": ("after", f"{REPORT}.writing", "write_atomic"),
    "report.end": ("after", f"{REPORT}.sources", "report_candidate"),
}
"""The moment, and the function whose first call it is about."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    """Put the kill into this process."""
    moment, place, name = POINTS[point]
    module, _, inner = place.partition(":")
    owner: Any = importlib.import_module(module)
    owner = getattr(owner, inner) if inner else owner
    if moment == "while":
        environments.subprocess = types.SimpleNamespace(**vars(subprocess))  # pyright: ignore
        environments.subprocess.run = started_and_killed
        return
    setattr(owner, name, killing(getattr(owner, name), after=moment == "after"))


def killing(real: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    def step(*arguments: Any, **named: Any) -> Any:
        if after:
            real(*arguments, **named)
        die()

    return step


def started_and_killed(command: list[str], **options: Any) -> None:
    """Dies while the gate's fresh process is at work."""
    options = {name: options[name] for name in ("cwd", "env", "stdin")}
    subprocess.Popen(command, **options)
    die()


def run(point: str | None, arguments: list[str], log: Path) -> int:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if point is not None:
        arm(point)
    return run_from_command_line(retrain, RetrainConfig, show_summary, arguments)


def main() -> int:
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            return run(asked["point"], asked["arguments"], Path(asked["log"]))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
