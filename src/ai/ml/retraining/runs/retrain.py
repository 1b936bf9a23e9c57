"""One retraining: the steps in their order, and the context that locks the model's work folder.

Each step takes what the one before it returned, writes below the model's work folder, and returns a small record of
what it wrote. Files are written beside and renamed: a killed step leaves nothing that a later run could mistake for a
result. `flows/retrain.py` runs them as Prefect tasks. The report, which nothing depends on, is
`ai.ml.retraining.reporting.sources`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from ai.ml.retraining.runs.plan import pinned
from ai.ml.retraining.runs.resume import remove_run, write_run
from ai.ml.retraining.runs.steps.candidate import train_candidate
from ai.ml.retraining.runs.steps.decide import decide
from ai.ml.retraining.runs.steps.drift import check_drift
from ai.ml.retraining.runs.steps.holdout import score_holdout
from ai.ml.retraining.runs.steps.promote import promote, quarantine, refusal
from ai.ml.retraining.runs.steps.proof import prove_candidate
from ai.ml.retraining.runs.steps.source import read_data
from ai.ml.retraining.runs.work_folder import locked_work_dir, work_dir
from ai.ml.retraining.settings.retrain import RetrainConfig

__all__ = [
    "check_drift",
    "decide",
    "end_run",
    "open_run",
    "promote",
    "prove_candidate",
    "quarantine",
    "read_data",
    "refusal",
    "score_holdout",
    "train_candidate",
]


@contextmanager
def open_run(config: RetrainConfig, timeout_s: float = 0.0) -> Generator[RetrainConfig]:
    """Lock the model's work folder while a run lasts; its settings stay there until `end_run`, to be resumed.

    Args:
        config: of the run.
        timeout_s: seconds to wait for another run of the model.

    Yields:
        The settings with the teacher named by its digest.

    Raises:
        Busy: another run of the same name holds the folder, and did so for `timeout_s` seconds.
        BundleNotFound, UsageError: as `pinned`.
    """
    work = work_dir(config)
    with locked_work_dir(work, config.name, timeout_s):
        config = pinned(config)
        write_run(work, config)
        yield config


def end_run(config: RetrainConfig) -> None:
    """Remove the settings of a run that has ended: there is nothing to resume."""
    remove_run(work_dir(config))
