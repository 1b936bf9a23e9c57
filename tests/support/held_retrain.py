"""The retraining flow, which stops after its first epoch checkpoint and waits there until it is killed.

Run as `flows.retrain` is, with the same arguments and to the same bits; so what a kill in training leaves doesn't
depend on who is faster.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from ai.ml.frameworks.pytorch.trainer.checkpoint import EpochCheckpoint
from ai.ml.retraining.runs.summary import show_summary
from ai.ml.retraining.settings.retrain import RetrainConfig
from flows.retrain import retrain
from tasks.command_line import run_from_command_line

save = EpochCheckpoint.save


def save_and_wait(self: EpochCheckpoint, *arguments: Any, **named: Any) -> None:
    save(self, *arguments, **named)
    time.sleep(3600)


if __name__ == "__main__":
    EpochCheckpoint.save = save_and_wait
    sys.exit(run_from_command_line(retrain, RetrainConfig, show_summary))
