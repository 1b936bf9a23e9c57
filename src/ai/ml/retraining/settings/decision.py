"""The policy by which a proven challenger replaces the champion; `decision.decide` takes it unchanged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from ai.ml.core.errors import UsageError
from ai.ml.core.input_contract import TaskType
from ai.ml.core.split_config import span_of
from ai.ml.retraining.settings.fields import Flag, Section

AT_LEAST = ("accuracy", "auc", "average_precision", "r2")
"""Metrics of which more is better: their limits are minima."""
AT_MOST = ("log_loss", "brier", "rmse", "mae", "pinball")
"""Metrics of which less is better: their limits are maxima."""
METRICS: dict[TaskType, tuple[str, ...]] = {
    "classification": ("log_loss", "auc", "average_precision", "brier", "accuracy"),
    "regression": ("rmse", "mae", "pinball", "r2"),
}
"""The metrics that can decide, by task."""
NO_FLOORS: dict[str, float] = {}


def tolerance_of(text: str, loss: float) -> float:
    """A tolerance in a metric's own units.

    >>> tolerance_of("0.01", 0.5), tolerance_of("2%", 0.5)
    (0.01, 0.01)

    Args:
        text: a number, or one with a per cent sign.
        loss: of the champion, of which the per cent are.

    Raises:
        UsageError: it is neither, or below 0.
    """
    try:
        number = float(text.strip().removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise UsageError(f"tolerance {text!r} is no number from 0 on and no per cent of the champion's loss, as 1%")
    return loss * number / 100 if text.strip().endswith("%") else number


class DecisionSettings(Section):
    """When a proven challenger replaces the champion."""

    policy: Annotated[
        Literal["better", "not-worse"],
        Field(
            description="better: the gain is surely above the margin; not-worse: surely above minus the tolerance, so "
            "that fresh data wins unless it harms"
        ),
    ] = "better"
    tolerance: Annotated[
        str,
        Field(
            description="For not-worse and max_age: the loss that is put up with, in the metric's units or in per cent "
            "of the champion's",
            examples=["0.005", "1%"],
        ),
    ] = "1%"
    max_age: Annotated[
        str | None,
        Field(
            description="A champion that was promoted longer ago is replaced by what is not-worse, whatever the policy",
            examples=["90d"],
        ),
    ] = None
    metric: Annotated[
        Literal["auto", "log_loss", "auc", "average_precision", "brier", "accuracy", "rmse", "mae", "pinball", "r2"],
        Field(description="What decides; auto: log_loss for classes, rmse for amounts"),
    ] = "auto"
    quantile: Annotated[
        float, Field(gt=0, lt=1, description="For the metric pinball: above 0.5, answers that are too low cost more")
    ] = 0.5
    margin: Annotated[float, Field(ge=0, description="Least gain over the champion in the decision's metric")] = 0.0
    confidence: Annotated[float, Field(gt=0.5, lt=1, description="Confidence of the bootstrap interval")] = 0.95
    resamples: Annotated[int, Field(ge=100, le=100_000, description="Bootstrap resamples")] = 2_000
    floors: Annotated[
        dict[str, float],
        Field(
            description=f"Metric limits: at least for {', '.join(AT_LEAST)}; at most for {', '.join(AT_MOST)}",
            examples=[{"accuracy": 0.8, "log_loss": 0.5}],
        ),
    ] = NO_FLOORS
    slice_column: Annotated[
        str | None,
        Field(description="Column whose values are judged one by one", examples=["region"]),
        Flag("--slice", "--slice-column"),
    ] = None
    slice_floors: Annotated[
        dict[str, float], Field(description="The same limits for every slice", examples=[{"accuracy": 0.7}])
    ] = NO_FLOORS
    baselines: Annotated[
        Literal["report", "hold"],
        Field(description="What to do when a linear model or gradient boosting surely does better on the same split"),
    ] = "report"
    incomparable: Annotated[
        Literal["hold", "promote", "reject"], Field(description="What to do when the champion can't score the new rows")
    ] = "hold"

    new_target: Annotated[
        bool,
        Field(
            description="The table has another target, task or other classes than the champion, and is meant to: the "
            "new model replaces it without a comparison, where gate and floors let it"
        ),
    ] = False

    @field_validator("tolerance")
    @classmethod
    def _readable_tolerance(cls, tolerance: str) -> str:
        tolerance_of(tolerance, 1.0)
        return tolerance

    @field_validator("max_age")
    @classmethod
    def _readable_age(cls, max_age: str | None) -> str | None:
        if max_age is not None:
            span_of("max_age", max_age)
        return max_age

    @field_validator("floors", "slice_floors")
    @classmethod
    def _known_metrics(cls, floors: dict[str, float]) -> dict[str, float]:
        for name in floors:
            if name not in (*AT_LEAST, *AT_MOST):
                raise ValueError(f"floor {name!r} is no metric: known are {', '.join((*AT_LEAST, *AT_MOST))}")
        return floors
