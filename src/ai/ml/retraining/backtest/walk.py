"""Replays the past: each policy decides by itself, origin after origin, on the same challengers.

A policy has a store of its own below the backtest's folder, in which the pipeline's own steps decide and promote. It is
created anew by each walk, which takes seconds: the remains of a killed walk aren't used.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ai.ml.core.bundle_dir import read_manifest
from ai.ml.core.errors import NothingChecked
from ai.ml.core.split_config import span_of
from ai.ml.core.tables import read_table
from ai.ml.retraining.backtest.candidate import OriginOutcome, ProvedCandidate
from ai.ml.retraining.backtest.origins import OriginPlan, backtest_dir
from ai.ml.retraining.backtest.outcome import (
    ALWAYS,
    BEST,
    NEVER,
    PROMOTED,
    BacktestSummary,
    Course,
    Gain,
    Night,
    answer,
    summarize,
)
from ai.ml.retraining.console.interruption import NOTHING, set_interrupt_message
from ai.ml.retraining.console.progress import logger, working
from ai.ml.retraining.decision.bootstrap import Interval, Resampling, paired_gain
from ai.ml.retraining.decision.metrics import row_losses
from ai.ml.retraining.records import DecisionRecord
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.steps.holdout import score_known
from ai.ml.retraining.settings.backtest import BacktestConfig, with_policy
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.anchor import forget


@dataclass(frozen=True)
class Choice:
    """A policy's decision on one origin."""

    outcome: str
    reason: str
    serves: int
    """Index, among all origins, of the model that serves from now on."""
    before: int | None = None
    """The same before the decision."""
    decision: DecisionRecord | None = None


class Past:
    """The models of all origins and the rows after each, scored on first use."""

    def __init__(self, plan: OriginPlan, origins: Sequence[OriginOutcome], config: BacktestConfig) -> None:
        self.origins, self.config = origins, config
        self.proved = [index for index, origin in enumerate(origins) if origin.proved is not None]
        self._plan = plan
        self._later: dict[int, pa.Table] = {}
        self._losses: dict[tuple[int, int], np.ndarray] = {}

    @cached_property
    def is_regression(self) -> bool:
        """Whether the models predict numbers, by the manifest of the first; its losses are then squared errors."""
        bundle_dir = Path(self.challenger(self.proved[0]).candidate.bundle.path)
        return read_manifest(bundle_dir).model["task"] == "regression"

    def challenger(self, index: int) -> ProvedCandidate:
        """The challenger of an origin that has one."""
        proved = self.origins[index].proved
        assert proved is not None
        return proved

    def losses(self, model: int, index: int) -> np.ndarray:
        """`(n_later,)` float64: a model's loss on each row after an origin."""
        if (model, index) not in self._losses:
            if index not in self._later:
                self._later[index] = read_table(self._plan.origins[index].later.path)
            bundle_dir = Path(self.challenger(model).candidate.bundle.path)
            scored = score_known(bundle_dir, self._later[index])
            self._losses[model, index] = row_losses(scored)
        return self._losses[model, index]

    def mean(self, losses: np.ndarray) -> float:
        """Log loss or RMSE."""
        return float(np.sqrt(losses.mean()) if self.is_regression else losses.mean())

    def gain(self, before: np.ndarray, after: np.ndarray) -> Gain:
        """The gain of the second model's losses over the first's."""
        policy = self.config.decision
        resampling = Resampling(policy.confidence, policy.resamples)
        return _gain(paired_gain(before, after, resampling, root=self.is_regression))


def walk(config: BacktestConfig, plan: OriginPlan, origins: list[OriginOutcome]) -> BacktestSummary:
    """Decide by every policy on all origins, and compare each with never, always, and the best in hindsight.

    Raises:
        NothingChecked: no origin has a proven challenger.
        DataRefused: an earlier model can't read later rows.
    """
    past = Past(plan, origins, config)
    if not past.proved:
        raise NothingChecked(
            f"no origin of {config.name} has a proven model: {origins[0].outcome}, {origins[0].reason}"
        )
    nights = range(past.proved[0], len(origins))
    with working("deciding on the past"):
        chosen = {text: _decided(past, text, nights) for text in config.backtest.policies}
        for name, serves in _references(past, nights).items():
            chosen[name] = [Choice("", "", index) for index in serves]
        served = {
            name: [past.losses(choice.serves, index) for choice, index in zip(choices, nights, strict=True)]
            for name, choices in chosen.items()
        }
        courses = [_course(past, name, choices, served, nights) for name, choices in chosen.items()]
    rows = sum(origins[index].later_rows for index in nights)
    metric = "rmse" if past.is_regression else "log_loss"
    return summarize(
        plan,
        config.name,
        origins,
        metric=metric,
        confidence=config.decision.confidence,
        notes=_notes(config, plan),
        courses=courses,
        sentence=answer(config.name, metric, courses, rows, len(nights)),
    )


def _decided(past: Past, policy: str, nights: range) -> list[Choice]:
    """A policy's choices, made by the pipeline's own steps in a store of the policy's own."""
    single = past.config.single
    store = backtest_dir(past.config) / "policies" / policy.replace(":", "-").replace("%", "-percent")
    forget(str(store / single.name))
    shutil.rmtree(store, ignore_errors=True)
    own = single.model_copy(update={"store": str(store), "decision": with_policy(single.decision, policy)})
    choices: list[Choice] = []
    serves: int | None = None
    for index in nights:
        origin = past.origins[index]
        if origin.proved is None:
            assert serves is not None  # the nights begin with a proven one
            choices.append(Choice(origin.outcome, f"no challenger: {origin.reason}", serves, serves))
            continue
        dated, aged = _aged(own, past.origins, serves, index)
        mine = origin.proved
        decision = steps.decide(dated, mine.candidate, mine.data)
        promotion = steps.promote(dated, mine.candidate, mine.verdict, decision)
        # Of the policy's own store: the model's champion is what it was.
        set_interrupt_message(f"{NOTHING}: the origins are done, and stay so")
        before = serves
        if promotion.outcome == "PROMOTED" or serves is None:
            serves = index
        reason = "; ".join(part for part in (decision.reason, aged) if part)
        choices.append(Choice(decision.outcome, reason, serves, before, decision))
        logger.info("%s, %s: %s", policy, origin.label, decision.outcome)
    return choices


def _aged(
    own: RetrainConfig, origins: Sequence[OriginOutcome], champion: int | None, index: int
) -> tuple[RetrainConfig, str | None]:
    """`max_age` by the origins' own dates: the clock of the backtest's stores has no meaning."""
    decision, span = own.decision, own.decision.max_age
    if span is None:
        return own, None
    plain = decision.model_copy(update={"max_age": None})
    then = None if champion is None else origins[champion].instant
    now = origins[index].instant
    if then is not None and now is not None:
        age = np.datetime64(now, "us") - np.datetime64(then, "us")
        if age > span_of("max_age", span):
            days = age // np.timedelta64(1, "D")
            plain = plain.model_copy(update={"policy": "not-worse"})
            reason = f"the champion was {days} days old, so with max_age {span} what isn't worse was enough"
            return own.model_copy(update={"decision": plain}), reason
    return own.model_copy(update={"decision": plain}), None


def _references(past: Past, nights: range) -> dict[str, list[int]]:
    """Which model answers after each origin: the first for ever, the newest, and the best of all until then."""
    until = [[model for model in past.proved if model <= index] for index in nights]
    best = [
        min(models, key=lambda model: float(past.losses(model, index).mean()))
        for models, index in zip(until, nights, strict=True)
    ]
    return {NEVER: [past.proved[0]] * len(nights), ALWAYS: [models[-1] for models in until], BEST: best}


def _course(past: Past, name: str, choices: list[Choice], served: dict[str, list[np.ndarray]], nights: range) -> Course:
    losses, never = np.concatenate(served[name]), np.concatenate(served[NEVER])
    is_policy = name in past.config.backtest.policies
    nights_of_course: list[Night] = []
    for choice, index, each in zip(choices, nights, served[name], strict=True):
        nights_of_course.append(_night(past, choice, index, past.mean(each)))
    if not is_policy:
        nights_of_course = _as_promotions(nights_of_course)
    return Course(
        name=name,
        kind="policy" if is_policy else "reference",
        loss=past.mean(losses),
        over_never=past.gain(never, losses),
        nights=tuple(nights_of_course),
    )


def _night(past: Past, choice: Choice, index: int, loss: float) -> Night:
    document: dict[str, Any] = {} if choice.decision is None else choice.decision.document
    truth = None
    if choice.decision is not None and choice.before is not None:
        truth = past.gain(past.losses(choice.before, index), past.losses(index, index))
    overlap = document.get("overlap") or {}
    return Night(
        origin=past.origins[index].origin,
        outcome=choice.outcome,
        reason=choice.reason,
        gain=None if document.get("gain") is None else Gain.model_validate(document["gain"]),
        came_true=truth,
        learned_from=overlap.get("learned_from"),
        serves=past.origins[choice.serves].origin,
        loss=loss,
    )


def _as_promotions(nights: list[Night]) -> list[Night]:
    """A reference's nights with the outcomes of decisions."""
    before = [None, *(night.serves for night in nights[:-1])]
    return [
        night.model_copy(update={"outcome": PROMOTED if night.serves != last else "HOLD"})
        for night, last in zip(nights, before, strict=True)
    ]


def _notes(config: BacktestConfig, plan: OriginPlan) -> tuple[str, ...]:
    notes = plan.notes
    if config.decision.max_age is not None and any(origin.instant is None for origin in plan.origins):
        notes = (*notes, "max_age needs rows in order of dates: no champion was old here")
    return notes


def _gain(interval: Interval) -> Gain:
    return Gain(estimate=interval.estimate, low=interval.low, high=interval.high)
