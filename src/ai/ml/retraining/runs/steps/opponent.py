"""The champion's side of a decision: its answers to rows that neither model learned from, or why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from ai.ml.core.bundle_dir import read_contract
from ai.ml.core.contract.problem import input_changes, problem_change, problem_of
from ai.ml.core.errors import DataRefused
from ai.ml.retraining.runs.continuity import other_problem
from ai.ml.retraining.runs.steps.holdout import score_known
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.references import find_version
from ai.ml.retraining.store.store import Store

if TYPE_CHECKING:
    from ai.ml.retraining.decision.overlap import Overlap
    from ai.ml.retraining.decision.predictions import Predictions


@dataclass(frozen=True)
class Opponent:
    """The decision's facts on the champion; all empty where there is none."""

    answers: Predictions | None = None
    """To the held-out rows that neither of the two learned from."""
    incomparable_reason: str | None = None
    """Why there are none."""
    overlap: Overlap | None = None
    other_problem: bool = False
    """Whether it predicts another target, which the settings allow (`new_target`)."""
    inputs: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """The columns that the challenger reads beside the champion's (`added`), and those that it doesn't (`removed`)."""


def meet_champion(
    config: RetrainConfig, champion_dir: Path, candidate_dir: Path, holdout: pa.Table, challenger: Predictions
) -> Opponent:
    """Score the champion on the held-out rows that can be compared.

    Raises:
        DataRefused: it answers another question, and the settings don't say that this is meant.
    """
    from ai.ml.retraining.decision.comparable import too_few_rows
    from ai.ml.retraining.decision.decision import incomparable
    from ai.ml.retraining.decision.metrics import unmeasurable
    from ai.ml.retraining.decision.predictions import unseen_rows

    before, after = (read_contract(folder) for folder in (champion_dir, candidate_dir))
    inputs: dict[str, list[str]] = {}
    if before is not None and after is not None:
        inputs = input_changes(before, after)
        change = problem_change(before, problem_of(after))
        if change is not None and not config.decision.new_target:
            raise DataRefused(other_problem(config.name, change))
        if change is not None:
            reason = f"{change}, which is meant (--new-target)"
            return Opponent(None, reason, other_problem=True, inputs=inputs)
    overlap = None
    try:
        overlap = _overlap(config, champion_dir, candidate_dir, holdout)
        champion = score_known(champion_dir, holdout, config.decision.slice_column)
        reason = incomparable(challenger, champion) or too_few_rows(challenger, overlap.seen)
        reason = reason or unmeasurable(unseen_rows(challenger, overlap.seen), config.decision)
    except DataRefused as error:
        return Opponent(None, str(error), overlap, inputs=inputs)
    return Opponent(None if reason else unseen_rows(champion, overlap.seen), reason, overlap, inputs=inputs)


def inputs_sentence(inputs: Mapping[str, Sequence[str]]) -> str:
    """What tables to score need now that they didn't, and the reverse; empty where nothing changed."""
    added, removed = (", ".join(map(repr, inputs.get(name, ()))) for name in ("added", "removed"))
    parts = [f"tables to score now need {added}"] if added else []
    return "; ".join([*parts, *([f"no longer read: {removed}"] if removed else [])])


def _overlap(config: RetrainConfig, champion_dir: Path, candidate_dir: Path, holdout: pa.Table) -> Overlap:
    """Which of the held-out rows the champion, its teachers or the challenger's teachers learned from."""
    from ai.ml.retraining.decision.overlap import learned_from, taught_from

    teacher_model = (config.training.teacher or "").partition("@")[0] or config.name
    teacher_dir = partial(find_version, Store(config.store), first=(config.name, teacher_model))
    of_champion = learned_from("the champion", champion_dir, holdout, teacher_dir)
    return of_champion | taught_from("the challenger", candidate_dir, holdout, teacher_dir)
