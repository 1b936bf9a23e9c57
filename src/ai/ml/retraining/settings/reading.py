"""How a table is read: the same settings for the table of a training and for the rows of a batch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ai.ml.core.tables.reader import ReadOptions
from ai.ml.retraining.settings.fields import Section


class ReadSettings(Section):
    """What a source doesn't say of itself."""

    delimiter: Annotated[
        str | None, Field(description="CSV delimiter; found by itself when not given", examples=[";"])
    ] = None
    encoding: Annotated[
        str | None, Field(description="CSV encoding; found by itself when not given", examples=["utf-8", "cp1252"])
    ] = None
    decimal: Annotated[Literal[".", ","], Field(description="Decimal mark of numbers written as text")] = "."
    thousands: Annotated[str | None, Field(description="Thousands mark of numbers written as text", examples=[" "])] = (
        None
    )
    sheet: Annotated[
        str | None, Field(description="Excel sheet by name; the first when not given", examples=["2026"])
    ] = None
    quote: Annotated[
        Literal["none"] | None, Field(description="CSV: none where quotes are plain letters", examples=["none"])
    ] = None
    skip_lines: Annotated[int, Field(ge=0, le=1_000_000, description="CSV: lines above the one with the names")] = 0
    query: Annotated[
        str | None,
        Field(description="SQL query, when the source is a database URL", examples=["SELECT * FROM customers"]),
    ] = None

    @property
    def read(self) -> ReadOptions:
        """The settings as the reader of tables takes them.

        Raises:
            UsageError: the marks don't go together.
        """
        return read_options(self)


READING = tuple(ReadSettings.model_fields)
"""By the names of `ReadOptions`; the console's commands have flags of these names."""


def read_options(settings: object) -> ReadOptions:
    """How to read a table, from settings or a command's flags.

    Raises:
        UsageError: the marks don't go together.
    """
    return ReadOptions(**{name: getattr(settings, name) for name in READING})
