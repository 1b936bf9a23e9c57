"""Settings of a backtest: those of the retraining that is tried on the past, and how the past is cut into nights."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ai.ml.core.errors import UsageError
from ai.ml.core.parallel import available_cores
from ai.ml.retraining.settings.decision import DecisionSettings, tolerance_of
from ai.ml.retraining.settings.predict import ClusterSettings, RunnerSettings
from ai.ml.retraining.settings.retrain import ApprovalSettings, DriftSettings, ReportSettings, RetrainConfig

POLICIES = ("better", "not-worse")


class OriginSettings(ClusterSettings):
    """The past nights, and the policies that are tried on them."""

    origins: Annotated[int, Field(ge=2, le=366, description="Past nights on which the pipeline is run")] = 6
    first: Annotated[float, Field(gt=0, lt=1, description="Share of the rows that are there on the first of them")] = (
        0.5
    )
    order_by: Annotated[
        str | None,
        Field(
            description="Column that says when a row came, as split.time; when not given: split.time, or the order of "
            "the table",
            examples=["signed_up"],
        ),
    ] = None
    policies: Annotated[
        tuple[str, ...],
        Field(
            description="Policies to compare: better, not-worse; with a margin or tolerance of their own as "
            "better:0.01 and not-worse:2%",
            min_length=1,
            examples=[["better", "not-worse:2%"]],
        ),
    ] = POLICIES
    parallel: Annotated[
        int | None,
        Field(ge=1, le=256, description="Origins at once; by this machine's cores, or the cluster's, when not given"),
    ] = None

    @field_validator("policies")
    @classmethod
    def _known(cls, policies: tuple[str, ...]) -> tuple[str, ...]:
        for text in policies:
            with_policy(DecisionSettings(), text)
        if len(set(policies)) < len(policies):
            raise ValueError("a policy is named twice")
        return policies


class BacktestConfig(RetrainConfig):
    """A backtest: the retraining with these settings, as it would have run on past nights. Nothing is promoted."""

    backtest: OriginSettings = OriginSettings()

    @model_validator(mode="after")
    def _has_no_teacher(self) -> BacktestConfig:
        if self.training.teacher is not None:
            raise ValueError("a teacher has learned from rows that came after the past nights: backtest without one")
        return self

    @property
    def single(self) -> RetrainConfig:
        """The settings of one origin's run: without approval, report, or refusal of drift."""
        plain = RetrainConfig.model_validate(self.model_dump(exclude={"backtest"}))
        quiet = {"approval": ApprovalSettings(), "report": ReportSettings(enabled=False), "drift": DriftSettings()}
        return plain.model_copy(update=quiet)

    @property
    def order(self) -> str | None:
        """The column of the times, with its format; None where rows are in order of the table."""
        return self.backtest.order_by or self.split.time

    @property
    def at_once(self) -> int:
        """Origins that run on this machine at the same time: each uses the training's number of threads."""
        return self.backtest.parallel or max(1, available_cores() // self.training.num_threads)

    @property
    def cluster(self) -> RunnerSettings:
        """Where the origins are trained, in the form of a batch prediction's settings."""
        where = self.backtest
        return RunnerSettings(runner=where.runner, scheduler=where.scheduler, workers=self.at_once)


def with_policy(decision: DecisionSettings, text: str) -> DecisionSettings:
    """The decision's settings by another policy.

    >>> with_policy(DecisionSettings(), "not-worse:2%").tolerance
    '2%'

    Args:
        decision: the settings otherwise.
        text: `better`, `not-worse`, or one of them with its margin or tolerance behind a colon.

    Raises:
        UsageError: there is no such policy, or its number can't be read.
    """
    policy, colon, value = text.partition(":")
    if policy not in POLICIES:
        raise UsageError(f"policy {text!r}: expected {' or '.join(POLICIES)}, as better, better:0.01 or not-worse:2%")
    changes: dict[str, object] = {"policy": policy}
    if colon and policy == "not-worse":
        tolerance_of(value, 1.0)
        changes["tolerance"] = value
    elif colon:
        if value.strip().endswith("%"):
            raise UsageError(f"policy {text!r}: a margin is a number in the metric's units, as better:0.01")
        changes["margin"] = tolerance_of(value, 1.0)
    return decision.model_copy(update=changes)
