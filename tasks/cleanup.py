"""What a run that failed, crashed or was cancelled leaves behind: nothing half made.

A killed process clears nothing itself, so its worker does it by these hooks; where the worker was killed too, the next
run of the model does the same.
"""

from __future__ import annotations

from typing import Any

from prefect.logging.loggers import flow_run_logger
from pydantic import ValidationError

from ai.ml.core.errors import BundlegateError, Busy, UsageError
from ai.ml.retraining.runs.work_folder import locked_work_dir, work_dir
from ai.ml.retraining.settings.deployment import settings_of
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.store import Store

CHECKPOINTS = ("data-*.parquet", "candidate-*", "verdict-*.json", "*.epochs", "awaiting-*")


def clean_up(flow: Any, flow_run: Any, state: Any) -> None:
    """Remove unfinished files from the work folder and the store, and report what is kept for the next run.

    A hook of the flow: Prefect calls it by these three names. An error here is logged and changes nothing.
    """
    logger = flow_run_logger(flow_run, flow)
    try:
        config = RetrainConfig.model_validate(settings_of(flow_run.parameters.get("config")))
    except (ValidationError, AttributeError, UsageError):
        return  # nothing was begun with such parameters
    work = work_dir(config)
    if not work.is_dir():
        return
    try:
        with locked_work_dir(work, config.name):
            Store(config.store).recover(config.name)
    except Busy as error:
        logger.warning("%s: nothing was cleared: %s", state.name, error)
        return
    except BundlegateError as error:
        logger.error("%s: the store wasn't cleared: %s", state.name, error)
        return
    kept = sorted({path.name for pattern in CHECKPOINTS for path in work.glob(pattern)})
    names = ", ".join(kept) if kept else "nothing"
    logger.info("%s: what was half made is cleared; kept in %s for the next run: %s", state.name, work, names)
