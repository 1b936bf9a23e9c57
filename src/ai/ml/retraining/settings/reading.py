"""How a table is read: the same six settings for the table of a training and for the rows of a batch."""

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
    query: Annotated[
        str | None,
        Field(description="SQL query, when the source is a database URL", examples=["SELECT * FROM customers"]),
    ] = None

    @property
    def read(self) -> ReadOptions:
        """The same as the reader of tables takes it.

        Raises:
            UsageError: the marks don't go together.
        """
        return ReadOptions(**{name: getattr(self, name) for name in ReadSettings.model_fields})
