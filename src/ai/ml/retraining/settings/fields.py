"""What several settings share: the section they are made of, and the fields that mean the same in each."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ai.ml.retraining.settings.defaults import MAX_GATE_TIMEOUT_S
from ai.ml.retraining.settings.flag import Flag

MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""A model's name in a store, where it is a folder's name, too."""


class Section(BaseModel):
    """A group of settings; unknown keys, infinity and NaN are refused, values can't change after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SomeSection = TypeVar("SomeSection", bound=Section)


Pythons = Annotated[
    tuple[str, ...],
    Field(description="Further interpreters that must give the same bits", examples=[["/opt/serving/bin/python"]]),
    Flag("--python"),
]
CpuMatrix = Annotated[bool, Field(description="Also replay under other CPU capabilities and thread counts")]
GateTimeout = Annotated[
    float,
    Field(
        gt=0,
        le=MAX_GATE_TIMEOUT_S,
        description="Seconds for each fresh process of a proof; without an answer by then it's exit code 75",
    ),
    Flag("--gate-timeout"),
]
RefusedDrift = Annotated[
    Literal["moderate", "major"],
    Field(description="From where on to refuse: a PSI of 0.1 or a KS distance of 0.1, or a PSI of 0.25"),
    Flag("--drift-severity"),
]
