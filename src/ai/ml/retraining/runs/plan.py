"""The training plan of a run: its settings with the teacher's digest and the search's best values."""

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
    """The training's settings, its teacher, and the search that chose them."""

    training: TrainingConfig
    teacher: ModelBundle | None
    search: Search | None

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The search's trials as in the candidate's record."""
        return [] if self.search is None else [trial.model_dump() for trial in self.search.trials]

    def findings(self, config: RetrainConfig) -> list[str]:
        """Findings on the plan: unused settings, and what the search left of the budget."""
        explicit = config.training.model_dump(exclude_defaults=True)
        messages, training = unused_settings(config.training.training_mode, explicit), config.training
        if self.search is not None and training.budget_seconds is not None:
            done, left = len(self.search.trials), figure(self.search.training.budget_seconds or 0.0)
            message = f"the budget of {figure(training.budget_seconds)} s had room for {done} of {training.tune} trials"
            messages.append(f"{message}; the training after them had {left} s")
        return messages

    def lineage(self, config: RetrainConfig) -> dict[str, Any]:
        """The manifest's record of the plan, with the values that the mode, the teacher or a search chose.

        By hand they train the same weights.
        """
        settings, teacher = config.training.model_dump(mode="json"), config.training.teacher
        settings |= {name: getattr(self.training, name, None) for name, value in settings.items() if value is None}
        teacher_digest = {"teacher": None if teacher is None else teacher.partition("@")[2]}
        if self.search is None:
            return teacher_digest | {"training": settings}
        chosen = settings | self.search.best.settings | {"tune": None}
        return teacher_digest | {"training": chosen, "search": self.search.lineage}


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
    """Load the teacher and run the search, where they are configured.

    Args:
        config: pinned.
        data: what `table` was read from.
        table: raw.
        trials: where a search keeps what it has done; of `trials_path`.

    Raises:
        DataRefused: the table can't be learned from.
        UsageError: the settings don't fit together.
        BundleRefused: the content at the teacher's path isn't the bundle of its digest.
    """
    training, teacher = _with_teacher(config)
    max_trials = config.training.tune
    if max_trials is None:
        return TrainingPlan(training, teacher, None)
    searcher = Searcher(space_of(config.training), trials, _search_key(config, data))
    search = searcher.run(table, training, teacher, max_trials)
    return TrainingPlan(search.training, teacher, search)


def trials_path(config: RetrainConfig, data: DataRef, work: Path) -> Path:
    """The file of a search's trials; a search with more trials continues the same file."""
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
