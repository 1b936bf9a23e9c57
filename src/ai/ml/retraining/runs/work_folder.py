"""A model's work folder belongs to one run at a time: two would clear and prune each other's checkpoints."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Generator
from pathlib import Path

from ai.ml.core.files.atomic import make_dirs, sweep_temps
from ai.ml.core.files.lock import locked_by_name
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.actor import identity
from ai.ml.retraining.store.location import work_folder

KEEP_RUNS = 3
"""Snapshots and candidates of the latest runs that stay in the work folder as checkpoints."""
HOLDOUT_NAME, HISTORY_NAME = "holdout.parquet", "history.json"
"""Beside a candidate's bundle."""
EPOCHS_SUFFIX = ".epochs"
"""Suffix of an epoch checkpoint, beside the candidate or search that it belongs to."""
KEY_PATTERN = "[0-9a-f]" * 16


def work_dir(config: RetrainConfig) -> Path:
    """The folder of a model's checkpoints: losing it costs time and nothing else."""
    return work_folder(config.store, config.name)


@contextlib.contextmanager
def locked_work_dir(work: Path, name: str, timeout_s: float = 0.0) -> Generator[None]:
    """Lock the work folder for a whole run, and remove the unfinished files of a killed run.

    The kernel lets go of a killed holder's lock, so nothing has to be removed by hand.

    Args:
        work: made if it isn't there.
        name: the model's.
        timeout_s: seconds to wait for another run.

    Raises:
        Busy: another run holds it.
        StorageFailed: the folder can't be written to.
    """
    make_dirs(work)
    with locked_by_name(
        work / ".lock",
        identity(),
        timeout_s,
        lambda holder: f"{name} is being retrained already, by {holder} in {work}; try again when it's done",
        name_file=work / ".holder",
    ):
        for leftover in work.glob("*.building"):
            shutil.rmtree(leftover, ignore_errors=True)
        for folder in (work, *work.glob("candidate-*/")):
            sweep_temps(folder)
        yield


def keep_latest(current: Path, pattern: str, keep: int = KEEP_RUNS) -> None:
    """Remove all but `current` and the newest other matches of `pattern` beside it, `keep` in all.

    What this run has just made stays whatever its time says: a clock may have been set back.
    """
    others = [path for path in current.parent.glob(pattern) if path != current]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[keep - 1 :]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
