"""A search that is killed after its first and its third trial: `search_kills.py FOLDER` prints the trials as JSON.

The children are forks of a process that has done a short search, so a kill costs no import.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from builders import mixed_table

from ai.ml.core.types import TrainingConfig
from ai.ml.retraining.runs.search import Searcher, Trial, space_of
from ai.ml.retraining.settings.retrain import TrainingSettings

TRIALS = 6


def search(path: Path, trials: int, epochs: int = 25) -> None:
    given = TrainingConfig("y", "mlp_ple", epochs=epochs, hidden_dim=32, num_hidden_layers=1)
    Searcher(space_of(TrainingSettings(training_mode="mlp_ple")), path, "a").run(mixed_table(200), given, None, trials)


def search_in_child(path: Path, held_after: int = TRIALS) -> int:
    """The id of a child that searches, and waits to be killed when it has so many trials."""
    child = os.fork()
    if child:
        return child
    code, keep = 1, Searcher._keep

    def keep_and_wait(self: Searcher, trial: Trial) -> None:
        keep(self, trial)
        if len(self.trials) == held_after:
            signal.pause()

    try:
        if held_after < TRIALS:
            Searcher._keep = keep_and_wait
        search(path, TRIALS)
        code = 0
    finally:
        os._exit(code)


def kept(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_bytes())["trials"] if path.exists() else []


def main(folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)  # a pool of threads doesn't outlive a fork
    search(folder / "warm.json", 2, epochs=1)
    whole, path = folder / "whole.json", folder / "killed.json"
    os.waitpid(search_in_child(whole), 0)
    before: list[list[dict[str, Any]]] = []
    killed = 0
    for trials in (1, 3):
        child = search_in_child(path, held_after=trials)
        while len(kept(path)) < trials and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        before.append(kept(path))
    os.waitpid(search_in_child(path), 0)
    return {"whole": kept(whole), "before": before, "after": kept(path), "killed": killed}


if __name__ == "__main__":
    warnings.simplefilter("error")
    print(json.dumps(main(Path(sys.argv[1]))))
