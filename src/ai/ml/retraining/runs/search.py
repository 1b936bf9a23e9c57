"""A small search over a mode's settings, judged by validation rows alone; the holdout rows stay for the decision.

Optuna proposes (a tree-structured Parzen estimator, Bergstra et al. 2011); the trials are kept here, in one JSON file.
What trial n tries depends on the trials before it, the seed and n, so a killed search goes on as if nothing had been,
and asking for more trials continues a search that is done.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai.ml.core.errors import DataRefused, TrainingDiverged, UsageError
from ai.ml.core.files.atomic import dump_json, sha256_bytes, write_atomic
from ai.ml.core.training_modes import MODES, SearchRange
from ai.ml.core.types import TrainingConfig
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.records import Record
from ai.ml.retraining.runs.work_folder import EPOCHS_SUFFIX

if TYPE_CHECKING:
    import pyarrow as pa

    from ai.ml.core.types import ModelBundle
    from ai.ml.frameworks.pytorch.trainer.trial import TrialResult, TrialRunner
    from ai.ml.retraining.settings.retrain import TrainingSettings

RANDOM_TRIALS = 8
"""Before the estimator has seen enough to propose anything."""
Settings = dict[str, int | float]


NETWORK = ("hidden_dim", "num_hidden_layers")


class Trial(Record):
    """One try of a search: its settings and their validation loss."""

    number: int
    settings: Settings
    loss: float | None
    """Log loss, or mean squared error of the scaled target, of the validation rows; None where training diverged."""
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Search:
    """The outcome of a search: its trials, the best of them, and what to train by it."""

    trials: tuple[Trial, ...]
    best: Trial
    training: TrainingConfig
    """With the best trial's settings, and what is left of the budget."""

    @property
    def lineage(self) -> dict[str, Any]:
        """For the manifest: nothing that another machine's speed would change."""
        return {"trials": len(self.trials), "best": self.best.number, "validation_loss": self.best.loss}


def require_search(training: TrainingSettings) -> None:
    """Check what can be checked before any data is read.

    Raises:
        UsageError: Optuna isn't installed, no setting is left to search, or nothing is there to judge by.
    """
    if training.tune is None:
        return
    if find_spec("optuna") is None:
        raise UsageError("--tune needs the extra `tune`: pip install 'bundlegate[tune]'")
    if training.validation_size == 0:
        raise UsageError("--tune judges by validation rows: validation_size must be above 0")
    if not space_of(training):
        raise UsageError("--tune has nothing to search: every setting of this mode was given")


def space_of(training: TrainingSettings) -> dict[str, SearchRange]:
    """The settings to search: those of the mode that were left at their defaults; a student keeps its size."""
    fixed = NETWORK if training.teacher is not None else ()
    fields = type(training).model_fields
    return {
        name: searched
        for name, searched in MODES[training.training_mode].search_space.items()
        if name not in fixed and getattr(training, name) == fields[name].default
    }


class Searcher:
    """A search in a work folder."""

    def __init__(self, space: dict[str, SearchRange], path: Path, fingerprint: str):
        """Take up the trials of a search that was killed.

        Args:
            space: of `space_of`.
            path: JSON file of the trials; beside it lies the state of the one under way.
            fingerprint: of the data and of every setting that isn't searched.
        """
        self.space, self.path, self.fingerprint = space, path, fingerprint
        self.trials: list[Trial] = _read(path, fingerprint, space)

    def run(self, table: pa.Table, training: TrainingConfig, teacher: ModelBundle | None, max_trials: int) -> Search:
        """Try up to `max_trials` settings, the given ones first.

        A budget holds for the search and for the training that follows it, which takes as long as the best trial did.

        Raises:
            DataRefused: the table can't be learned from, or every trial diverged.
        """
        from ai.ml.frameworks.pytorch.trainer.trial import TrialRunner

        given: Settings = {name: getattr(training, name) for name in self.space}
        runner: TrialRunner | None = None
        while len(self.trials) < max_trials and self._has_time(training.budget_seconds):
            began, number = time.perf_counter(), len(self.trials)
            runner = runner or TrialRunner(table, training, teacher)
            proposed = propose(self.space, self.trials, training.random_seed) if number else given
            share = self._share(training.budget_seconds)
            trial = Trial(number=number, settings=proposed, loss=None, epochs=0, seconds=0)
            prepared = time.perf_counter() - began
            done = self._try(runner.judge, dataclasses.replace(training, **proposed, budget_seconds=share), trial)
            self._keep(done.model_copy(update={"seconds": done.seconds + prepared}))
        self._state.unlink(missing_ok=True)
        trials = self.trials[:max_trials]
        best = min((trial for trial in trials if trial.loss is not None), key=_loss, default=None)
        if best is None:
            raise DataRefused(f"none of {len(trials)} trials of the search gave a finite loss: look at the data")
        left = training.budget_seconds and max(training.budget_seconds - self._spent, _seconds(best))
        return Search(tuple(trials), best, dataclasses.replace(training, **best.settings, budget_seconds=left))

    @property
    def _state(self) -> Path:
        return self.path.with_suffix(EPOCHS_SUFFIX)

    @property
    def _spent(self) -> float:
        return sum(trial.seconds for trial in self.trials)

    def _has_time(self, budget: float | None) -> bool:
        """A further trial, and then the training again that was the longest so far, would end in time."""
        longest = max(map(_seconds, self.trials), default=0.0)
        return budget is None or not self.trials or self._spent + 2 * longest <= budget

    def _share(self, budget: float | None) -> float | None:
        """What a trial may take: the other half is for the training after it."""
        return None if budget is None else (budget - self._spent) / 2

    def _try(self, judge: Callable[..., TrialResult], settings: TrainingConfig, trial: Trial) -> Trial:
        from ai.ml.frameworks.pytorch.trainer.checkpoint import EpochCheckpoint

        began = time.perf_counter()

        def checkpoint_of(config: TrainingConfig) -> EpochCheckpoint:
            # The time left isn't the same after a kill; everything else is.
            same = dataclasses.asdict(dataclasses.replace(config, budget_seconds=None))
            return EpochCheckpoint(self._state, sha256_bytes(dump_json([self.fingerprint, trial.number, same])))

        try:
            return trial.model_copy(update=vars(judge(settings, checkpoint_of)))
        except TrainingDiverged:
            return trial.model_copy(update={"seconds": time.perf_counter() - began})

    def _keep(self, trial: Trial) -> None:
        self.trials.append(trial)
        record = {"fingerprint": self.fingerprint, "trials": [each.model_dump() for each in self.trials]}
        write_atomic(self.path, dump_json(record))
        self._state.unlink(missing_ok=True)
        logger.info("trial     %s: %s with %s", trial.number, _loss_text(trial), settings_text(trial.settings))


def propose(space: dict[str, SearchRange], trials: Sequence[Trial], seed: int) -> Settings:
    """What to try next: the same answer for the same trials and seed.

    Floats are rounded to what a person would type, so that the record repeats the run.
    """
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        # A sampler of its own for each trial: one that lived through the search would be lost with a kill.
        seeds = (seed * 10_007 + len(trials)) % 2**32
        sampler = optuna.samplers.TPESampler(seed=seeds, n_startup_trials=RANDOM_TRIALS)
        study = optuna.create_study(sampler=sampler, direction="minimize")
        distributions = {name: _distribution(searched) for name, searched in space.items()}
        for trial in trials:
            if trial.loss is not None:
                tried: dict[str, Any] = dict(trial.settings)
                study.add_trial(optuna.trial.create_trial(params=tried, distributions=distributions, value=trial.loss))
        proposal = study.ask(distributions)
        return {name: _typed(value) for name, value in proposal.params.items()}
    finally:
        optuna.logging.set_verbosity(verbosity)


def _distribution(searched: SearchRange) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(searched.low, int) and isinstance(searched.high, int):
        return IntDistribution(searched.low, searched.high, log=searched.is_log)
    return FloatDistribution(searched.low, searched.high, log=searched.is_log)


def _typed(value: float) -> int | float:
    return value if isinstance(value, int) else float(f"{value:.3g}")


def settings_text(settings: Settings) -> str:
    """`learning_rate 0.001, hidden_dim 128`."""
    return ", ".join(f"{name} {value:g}" for name, value in settings.items())


def _loss_text(trial: Trial) -> str:
    return "diverged" if trial.loss is None else f"validation loss {trial.loss:.4g} in {trial.epochs} epochs"


def _loss(trial: Trial) -> float:
    return float("inf") if trial.loss is None else trial.loss


def _seconds(trial: Trial) -> float:
    return trial.seconds


def _read(path: Path, fingerprint: str, space: dict[str, SearchRange]) -> list[Trial]:
    """The trials of the same search; what can't be read costs time and nothing else."""
    try:
        record = json.loads(path.read_bytes())
        if record["fingerprint"] != fingerprint:
            return []
        trials = [Trial.model_validate(trial) for trial in record["trials"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        trials = None
    if trials is None or not all(_fits(trial, number, space) for number, trial in enumerate(trials)):
        logger.warning("the trials in %s can't be read: the search begins anew", path)
        return []
    return trials


def _fits(trial: Trial, number: int, space: dict[str, SearchRange]) -> bool:
    """Whether a trial is one of this search: its settings, within their ranges, and figures that are some."""
    within = trial.settings.keys() == space.keys() and all(
        type(value) in (int, type(space[name].low)) and space[name].low <= value <= space[name].high
        for name, value in trial.settings.items()
    )
    known = trial.loss is None or math.isfinite(trial.loss)
    return within and known and trial.number == number and 0 <= trial.seconds < math.inf
