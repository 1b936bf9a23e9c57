"""What a run trains: its settings with the teacher that stands and the winner of a search put in."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai.ml.core.bundle_dir import BUNDLE_NAME, directory_problems
from ai.ml.core.errors import BundleRefused
from ai.ml.core.number_text import figure
from ai.ml.core.training_modes import unused_settings
from ai.ml.retraining.records import DataRef, code_version, content_key
from ai.ml.retraining.runs.search import Search, Searcher, require_search, space_of
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

    from ai.ml.core.types import ModelBundle, TrainingConfig


@dataclass(frozen=True)
class TrainingPlan:
    """What to train, by whose answers, and how that was found."""

    training: TrainingConfig
    teacher: ModelBundle | None
    search: Search | None

    @property
    def trials(self) -> list[dict[str, Any]]:
        """Of the search, as the candidate's record keeps them."""
        return [] if self.search is None else [trial.model_dump() for trial in self.search.trials]

    def findings(self, config: RetrainConfig) -> list[str]:
        """What a person should know of the plan."""
        given = config.training.model_dump(exclude_defaults=True)
        found, training = unused_settings(config.training.training_mode, given), config.training
        if self.search is not None and training.budget_seconds is not None:
            done, left = len(self.search.trials), figure(self.search.training.budget_seconds or 0.0)
            message = f"the budget of {figure(training.budget_seconds)} s had room for {done} of {training.tune} trials"
            found.append(f"{message}; the training after them had {left} s")
        return found

    def lineage(self, config: RetrainConfig) -> dict[str, Any]:
        """For the manifest; what the mode, the teacher or a search chose stands among the settings.

        By hand they train the same weights.
        """
        settings, teacher = config.training.model_dump(mode="json"), config.training.teacher
        settings |= {name: getattr(self.training, name, None) for name, given in settings.items() if given is None}
        known = {"teacher": None if teacher is None else teacher.partition("@")[2]}
        if self.search is None:
            return known | {"training": settings}
        chosen = settings | self.search.best.settings | {"tune": None}
        return known | {"training": chosen, "search": self.search.lineage}


def pinned(config: RetrainConfig) -> RetrainConfig:
    """The same run with its teacher named by digest: a promotion in the middle of it then changes nothing.

    Raises:
        BundleNotFound: there is no such bundle in the store.
        UsageError: the teacher's name has no such form, or a search can't be made.
    """
    require_search(config.training)
    if config.training.teacher is None:
        return config
    teacher = Store(config.store).pin(config.training.teacher)
    return config.model_copy(update={"training": config.training.model_copy(update={"teacher": teacher})})


def plan_training(config: RetrainConfig, data: DataRef, table: pa.Table, trials: Path) -> TrainingPlan:
    """Load the teacher and search, where they were asked for.

    Args:
        config: pinned.
        data: what `table` was read from.
        table: raw.
        trials: where a search keeps what it has done; of `trials_path`.

    Raises:
        DataRefused: the table can't be learned from.
        UsageError: the settings don't fit together.
        BundleRefused: what lies at the teacher's place isn't the bundle of its digest.
    """
    training, teacher = _with_teacher(config)
    max_trials = config.training.tune
    if max_trials is None:
        return TrainingPlan(training, teacher, None)
    searcher = Searcher(space_of(config.training), trials, _search_key(config, data))
    search = searcher.run(table, training, teacher, max_trials)
    return TrainingPlan(search.training, teacher, search)


def trials_path(config: RetrainConfig, data: DataRef, work: Path) -> Path:
    """One file for each search; with more trials it is the same one, which goes on."""
    return work / f"search-{_search_key(config, data)[:16]}.json"


def _search_key(config: RetrainConfig, data: DataRef) -> str:
    settings = config.training.model_dump(mode="json", exclude={"tune"})
    return content_key(data.fingerprint, config.data.target, settings, config.split, code_version())


def _with_teacher(config: RetrainConfig) -> tuple[TrainingConfig, ModelBundle | None]:
    from ai.ml.frameworks.pytorch.serialization import load_bundle
    from ai.ml.frameworks.pytorch.trainer.data.student import student_of

    training = config.training.for_target(config.data.target, config.split.rule())
    name = config.training.teacher
    if name is None:
        return training, None
    folder = Store(config.store).resolve(name)
    problems = directory_problems(folder, name.partition("@")[2])
    if problems:
        raise BundleRefused(f"{name} can't teach: {problems[0]} ({folder})")
    teacher = load_bundle(folder / BUNDLE_NAME, map_location="cpu")
    return dataclasses.replace(student_of(training, teacher), **config.training.given_network), teacher
