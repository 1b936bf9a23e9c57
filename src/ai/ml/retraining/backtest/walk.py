"""Walking through the past: each policy decides by itself, origin after origin, on the same challengers.

A policy has a store of its own below the backtest's folder, in which the pipeline's own steps decide and promote. It is
made anew at each walk, which takes seconds: what a killed walk has left decides nothing.
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


@dataclass(frozen=True)
class Choice:
    """What one policy did on one origin."""

    outcome: str
    reason: str
    serves: int
    """Place, among all origins, of the model that answers from now on."""
    before: int | None = None
    """The same before the decision."""
    decision: DecisionRecord | None = None


class Past:
    """The models of all origins and the rows that came after each, scored when they are first asked for."""

    def __init__(self, plan: OriginPlan, origins: Sequence[OriginOutcome], config: BacktestConfig) -> None:
        self.origins, self.config = origins, config
        self.proved = [place for place, origin in enumerate(origins) if origin.proved is not None]
        self._plan = plan
        self._later: dict[int, pa.Table] = {}
        self._losses: dict[tuple[int, int], np.ndarray] = {}

    @cached_property
    def is_regression(self) -> bool:
        """Whether the models predict numbers, by the manifest of the first; its losses are then squared errors."""
        bundle_dir = Path(self.challenger(self.proved[0]).candidate.bundle.path)
        return read_manifest(bundle_dir).model["task"] == "regression"

    def challenger(self, place: int) -> ProvedCandidate:
        """The challenger of an origin that has one."""
        found = self.origins[place].proved
        assert found is not None
        return found

    def losses(self, model: int, place: int) -> np.ndarray:
        """`(n_later,)` float64: what a model's answers cost on each row that came after an origin."""
        if (model, place) not in self._losses:
            if place not in self._later:
                self._later[place] = read_table(self._plan.origins[place].later.path)
            bundle_dir = Path(self.challenger(model).candidate.bundle.path)
            scored = score_known(bundle_dir, self._later[place])
            self._losses[model, place] = row_losses(scored)
        return self._losses[model, place]

    def mean(self, losses: np.ndarray) -> float:
        """Log loss or RMSE."""
        return float(np.sqrt(losses.mean()) if self.is_regression else losses.mean())

    def gain(self, before: np.ndarray, after: np.ndarray) -> Gain:
        """Of the second over the first."""
        policy = self.config.decision
        how = Resampling(policy.confidence, policy.resamples)
        return _gain(paired_gain(before, after, how, root=self.is_regression))


def walk(config: BacktestConfig, plan: OriginPlan, origins: list[OriginOutcome]) -> BacktestSummary:
    """Decide by every policy on all origins, and hold each against never, always, and the best in hindsight.

    Raises:
        NothingChecked: no origin has a proven challenger.
        DataRefused: the rows that came can't be read by a model of before.
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
            chosen[name] = [Choice("", "", place) for place in serves]
        served = {
            name: [past.losses(choice.serves, place) for choice, place in zip(choices, nights, strict=True)]
            for name, choices in chosen.items()
        }
        courses = [_course(past, name, choices, served, nights) for name, choices in chosen.items()]
    rows = sum(origins[place].later_rows for place in nights)
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
    """By the pipeline's own steps, in a store of the policy's own."""
    single = past.config.single
    store = backtest_dir(past.config) / "policies" / policy.replace(":", "-").replace("%", "-percent")
    shutil.rmtree(store, ignore_errors=True)
    own = single.model_copy(update={"store": str(store), "decision": with_policy(single.decision, policy)})
    found: list[Choice] = []
    serves: int | None = None
    for place in nights:
        origin = past.origins[place]
        if origin.proved is None:
            assert serves is not None  # the nights begin with a proven one
            found.append(Choice(origin.outcome, f"no challenger: {origin.reason}", serves, serves))
            continue
        asked, aged = _aged(own, past.origins, serves, place)
        mine = origin.proved
        decision = steps.decide(asked, mine.candidate, mine.data)
        promotion = steps.promote(asked, mine.candidate, mine.verdict, decision)
        # Of the policy's own store: the model's champion is what it was.
        set_interrupt_message(f"{NOTHING}: the origins are done, and stay so")
        before = serves
        if promotion.outcome == "PROMOTED" or serves is None:
            serves = place
        reason = "; ".join(part for part in (decision.reason, aged) if part)
        found.append(Choice(decision.outcome, reason, serves, before, decision))
        logger.info("%s, %s: %s", policy, origin.label, decision.outcome)
    return found


def _aged(
    own: RetrainConfig, origins: Sequence[OriginOutcome], champion: int | None, place: int
) -> tuple[RetrainConfig, str | None]:
    """`max_age` by the origins' own dates: the clock of the backtest's stores has no meaning."""
    decision, span = own.decision, own.decision.max_age
    if span is None:
        return own, None
    plain = decision.model_copy(update={"max_age": None})
    then = None if champion is None else origins[champion].instant
    now = origins[place].instant
    if then is not None and now is not None:
        age = np.datetime64(now, "us") - np.datetime64(then, "us")
        if age > span_of("max_age", span):
            days = age // np.timedelta64(1, "D")
            plain = plain.model_copy(update={"policy": "not-worse"})
            said = f"the champion was {days} days old, so with max_age {span} what isn't worse was enough"
            return own.model_copy(update={"decision": plain}), said
    return own.model_copy(update={"decision": plain}), None


def _references(past: Past, nights: range) -> dict[str, list[int]]:
    """Which model answers after each origin: the first for ever, the newest, and the best of all until then."""
    until = [[model for model in past.proved if model <= place] for place in nights]
    best = [
        min(models, key=lambda model: float(past.losses(model, place).mean()))
        for models, place in zip(until, nights, strict=True)
    ]
    return {NEVER: [past.proved[0]] * len(nights), ALWAYS: [models[-1] for models in until], BEST: best}


def _course(past: Past, name: str, choices: list[Choice], served: dict[str, list[np.ndarray]], nights: range) -> Course:
    losses, never = np.concatenate(served[name]), np.concatenate(served[NEVER])
    is_policy = name in past.config.backtest.policies
    found: list[Night] = []
    for choice, place, each in zip(choices, nights, served[name], strict=True):
        found.append(_night(past, choice, place, past.mean(each)))
    if not is_policy:
        found = _as_promotions(found)
    return Course(
        name=name,
        kind="policy" if is_policy else "reference",
        loss=past.mean(losses),
        over_never=past.gain(never, losses),
        nights=tuple(found),
    )


def _night(past: Past, choice: Choice, place: int, loss: float) -> Night:
    document: dict[str, Any] = {} if choice.decision is None else choice.decision.document
    truth = None
    if choice.decision is not None and choice.before is not None:
        truth = past.gain(past.losses(choice.before, place), past.losses(place, place))
    overlap = document.get("overlap") or {}
    return Night(
        origin=past.origins[place].origin,
        outcome=choice.outcome,
        reason=choice.reason,
        gain=None if document.get("gain") is None else Gain.model_validate(document["gain"]),
        came_true=truth,
        learned_from=overlap.get("learned_from"),
        serves=past.origins[choice.serves].origin,
        loss=loss,
    )


def _as_promotions(nights: list[Night]) -> list[Night]:
    """What a reference did, in the words of a decision."""
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
