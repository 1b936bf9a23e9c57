"""A process that runs train → save → gate → promote in miniature over and over, forked from one that is warm.

The template imports everything once; each line on its standard input forks a worker, whose process id it prints. The
worker trains (draws weights), saves and seals a bundle, proves it (loads it and compares the bits), decides against the
champion as it is, and promotes; now and then it rolls back or prunes. `store_worker.py ROOT WORK`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import traceback
from pathlib import Path

import torch
from builders import sealed_tiny
from store_samples import DECISION, proving, verdict_on

from ai.ml.core.errors import Busy, UsageError
from ai.ml.frameworks.pytorch.serialization import load_bundle
from ai.ml.retraining.store.store import Store


def retrain(store: Store, work: Path, number: int) -> None:
    """One run of the loop."""
    champion = store.champion("m")
    folder = work / f"candidate-{os.getpid()}-{number}"
    bundle_dir, digest = sealed_tiny(folder, number)
    load_bundle(bundle_dir / "model_bundle.pt", map_location="cpu")
    verdict = verdict_on(digest)
    store.promote("m", bundle_dir, verdict, decision=DECISION, expected_champion=champion)
    shutil.rmtree(folder)


def loop(store: Store, work: Path, seed: int) -> None:
    draw = random.Random(seed)
    number = seed * 1000
    while True:
        number += 1
        try:
            retrain(store, work, number)
            if draw.random() < 0.2:
                store.rollback("m", reason="drill", prove=proving)
            if draw.random() < 0.2:
                # Long enough for the reader, whom a busy machine may stop between the name and the files.
                store.prune("m", 3, grace_s=20)
        except (Busy, UsageError):
            continue


def main(root: Path, work: Path) -> None:
    torch.set_num_threads(1)
    sealed_tiny(work / "warm-up")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                loop(Store(root), work, int(line))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        print(pid, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
