"""What several settings share: the section they are made of, and the fields that mean the same in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from ai.ml.core.tables import ReadOptions

MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""A model's name in a store, where it is a folder's name, too."""
GATE_TIMEOUT_S = 600.0
MAX_GATE_TIMEOUT_S = 24 * 3600
"""Seconds for each fresh process of a proof: where nothing else is said, and the most that may be."""


class Section(BaseModel):
    """A group of settings; unknown keys, infinity and NaN are refused, values can't change after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SomeSection = TypeVar("SomeSection", bound=Section)


Delimiter = Annotated[str | None, Field(description="CSV delimiter; found by itself when not given", examples=[";"])]
Encoding = Annotated[
    str | None, Field(description="CSV encoding; found by itself when not given", examples=["utf-8", "cp1252"])
]
DecimalMark = Annotated[Literal[".", ","], Field(description="Decimal mark of numbers written as text")]
ThousandsMark = Annotated[str | None, Field(description="Thousands mark of numbers written as text", examples=[" "])]
Sheet = Annotated[str | None, Field(description="Excel sheet by name; the first when not given", examples=["2026"])]
Quote = Annotated[
    Literal["none"] | None,
    Field(description="CSV: none where quotes are plain letters", examples=["none"]),
]
SkippedLines = Annotated[int, Field(ge=0, le=1_000_000, description="CSV: lines above the one with the names")]
READING = ("delimiter", "encoding", "decimal", "thousands", "sheet", "query", "quote", "skip_lines")
"""What says how to read a table, by the names of `ReadOptions`: fields of settings, and flags of the console."""


def read_options(said: object) -> ReadOptions:
    """How to read a table, from settings or a command's flags.

    Raises:
        UsageError: the marks don't go together.
    """
    from ai.ml.core.tables import ReadOptions

    return ReadOptions(**{name: getattr(said, name) for name in READING})


Pythons = Annotated[
    tuple[str, ...],
    Field(description="Further interpreters that must give the same bits", examples=[["/opt/serving/bin/python"]]),
]
CpuMatrix = Annotated[bool, Field(description="Also replay under other CPU capabilities and thread counts")]
GateTimeout = Annotated[
    float,
    Field(
        gt=0,
        le=MAX_GATE_TIMEOUT_S,
        description="Seconds for each fresh process of a proof; without an answer by then it's exit code 75",
    ),
]
RefusedDrift = Annotated[
    Literal["moderate", "major"],
    Field(description="From where on to refuse: a PSI of 0.1 or a KS distance of 0.1, or a PSI of 0.25"),
]
