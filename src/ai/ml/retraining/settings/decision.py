"""The policy by which a proven challenger replaces the champion; `decision.decide` takes it as it stands here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from ai.ml.retraining.settings.fields import Section
from ai.ml.retraining.settings.flag import Flag

AT_LEAST = ("accuracy", "auc")
"""Metrics of which more is better: their limits are the least that will do."""
AT_MOST = ("log_loss", "rmse", "mae")
"""Metrics of which less is better: their limits are the most that will do."""
NO_FLOORS: dict[str, float] = {}


class DecisionSettings(Section):
    """When a proven challenger replaces the champion."""

    margin: Annotated[
        float, Field(ge=0, description="Least gain over the champion in the decision's metric (log loss or RMSE)")
    ] = 0.0
    confidence: Annotated[float, Field(gt=0.5, lt=1, description="Confidence of the bootstrap interval")] = 0.95
    resamples: Annotated[int, Field(ge=100, le=100_000, description="Bootstrap resamples")] = 2_000
    floors: Annotated[
        dict[str, float],
        Field(
            description="Metric limits: at least for accuracy and auc, at most for log_loss, rmse and mae",
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

    @field_validator("floors", "slice_floors")
    @classmethod
    def _known_metrics(cls, floors: dict[str, float]) -> dict[str, float]:
        for name in floors:
            if name not in (*AT_LEAST, *AT_MOST):
                raise ValueError(f"floor {name!r} is no metric: known are {', '.join((*AT_LEAST, *AT_MOST))}")
        return floors
