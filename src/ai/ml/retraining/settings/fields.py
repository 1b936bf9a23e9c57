"""Shared parts of the settings: sections, names of flags, and fields with the same meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ai.ml.retraining.settings.defaults import MAX_GATE_TIMEOUT_S

MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""A model's name in a store, where it is a folder's name, too."""


class Section(BaseModel):
    """A group of settings; unknown keys, infinity and NaN are refused, values can't change after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Flag:
    """Metadata of a field: `Annotated[str, Field(...), Flag("--data")]`; it shows in no schema and no form."""

    name: str
    alias: str | None = None
    """A second name for the same."""
    pair: str | None = None
    """The form of a pair where the setting is a table, unless it is METRIC=LIMIT."""

    @property
    def names(self) -> list[str]:
        """The flag and its alias for argparse."""
        return [self.name] if self.alias is None else [self.name, self.alias]


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
