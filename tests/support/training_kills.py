"""A training that is killed again and again: `training_kills.py MODE KILLS FOLDER` prints what came of it as JSON.

The children are forks of a process that has done a short training, so a kill costs no import.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from builders import mixed_table

from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.trainer import checkpoint as epoch_checkpoint
from ai.ml.frameworks.pytorch.trainer.training import train

EPOCHS = {"mlp_dense": 100, "mlp_ple": 40, "tabm": 20}
SHIPPED = epoch_checkpoint.MIN_SECONDS


def train_in_child(mode: str, state: Path | None, answer: Path, between: float = SHIPPED) -> int:
    """Start a training that goes on from `state` and leaves the hash of its weights in `answer`; the child's id.

    Between two checkpoints there are at least `between` seconds. How many there are is no part of what is trained.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        epoch_checkpoint.MIN_SECONDS = between
        config = TrainingConfig("y", training_mode=mode, epochs=EPOCHS[mode], patience=None, hidden_dim=64)
        model = train(mixed_table(400, seed=9), config, checkpoint=state).bundle.model
        blob = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
        # Renamed: a kill can come between the file and its content.
        beside = answer.with_suffix(".writing")
        beside.write_text(hashlib.sha256(blob).hexdigest())
        beside.replace(answer)
        code = 0
    finally:
        os._exit(code)


def wait_for(state: Path, child: int) -> None:
    """Until the child has left a checkpoint, or ended."""
    while not state.exists() and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.005)


def main(mode: str, kills: int, folder: Path) -> dict[str, object]:
    torch.set_num_threads(1)  # a pool of threads doesn't outlive a fork
    train(mixed_table(100), TrainingConfig("y", training_mode=mode, epochs=1))
    answer, state, moments = folder / "answer", folder / "state.epochs", random.Random(0)
    began = time.monotonic()
    os.waitpid(train_in_child(mode, None, answer), 0)
    whole, lasts = answer.read_text(), time.monotonic() - began
    done = resumed = 0
    ended: list[str] = []
    while done < kills or not ended:
        answer.unlink(missing_ok=True)
        resumed += state.exists()
        # Every third as shipped: in so short a training one checkpoint, after the first epoch.
        child = train_in_child(mode, state, answer, SHIPPED if done % 3 == 2 else 0.0)
        if done < kills:
            if done % 2:
                wait_for(state, child)
            time.sleep(lasts * moments.uniform(0.02, 0.6))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        done += os.WIFSIGNALED(status)
        if answer.exists():
            # The state on the disk is of its last epochs, so begin anew.
            ended.append(answer.read_text())
            state.unlink()
    return {"whole": whole, "ended": ended, "kills": done, "resumed": resumed, "seconds": lasts}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
