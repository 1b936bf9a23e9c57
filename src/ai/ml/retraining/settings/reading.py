"""How a table is read: the same settings for the table of a training and for the rows of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ai.ml.core.bundle_dir import MANIFEST_NAME, read_contract
from ai.ml.core.reading import NOTHING_TOLD, Reading
from ai.ml.core.tables.reader import ReadOptions
from ai.ml.retraining.settings.fields import Flag, Section


class ReadSettings(Section):
    """What a source doesn't say of itself."""

    delimiter: Annotated[
        str | None, Field(description="CSV delimiter; found by itself when not given", examples=[";"])
    ] = None
    encoding: Annotated[
        str | None, Field(description="CSV encoding; found by itself when not given", examples=["utf-8", "cp1252"])
    ] = None
    decimal: Annotated[
        Literal[".", ","] | None, Field(description="Decimal mark of numbers written as text; a point when not given")
    ] = None
    thousands: Annotated[
        str | None, Field(description="Thousands mark of numbers written as text; none: there is none", examples=[" "])
    ] = None
    sheet: Annotated[
        str | None, Field(description="Excel sheet by name; the first when not given", examples=["2026"])
    ] = None
    quote: Annotated[
        Literal["none", "double"] | None,
        Field(description="CSV: none where quotes are plain letters, double where they aren't", examples=["none"]),
    ] = None
    skip_lines: Annotated[
        int | None, Field(ge=0, le=1_000_000, description="CSV: lines above the one with the names; 0 when not given")
    ] = None
    comment: Annotated[
        str | None,
        Field(description="CSV: leave out lines that begin with this; none: there are no such lines", examples=["#"]),
    ] = None
    missing_marks: Annotated[
        tuple[str, ...],
        Field(description="Texts or numbers that stand for a missing cell in any column", examples=[["?", "-999"]]),
        Flag("--missing-mark"),
    ] = ()
    units: Annotated[
        tuple[str, ...],
        Field(description="What may stand before or behind a number in any column", examples=[["kg", "$"]]),
        Flag("--unit"),
    ] = ()
    query: Annotated[
        str | None,
        Field(description="SQL query, when the source is a database URL", examples=["SELECT * FROM customers"]),
    ] = None

    @property
    def read(self) -> ReadOptions:
        """The settings as `ReadOptions` for the reader of tables.

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
    given: dict[str, Any] = {name: getattr(settings, name) for name in READING}
    # argparse gathers lists.
    given |= {name: tuple(given[name]) for name in ("missing_marks", "units")}
    return ReadOptions(**given)


def reading_of(bundle_dir: Path) -> Reading:
    """The reading options of a bundle's training; the defaults where no manifest has them.

    Raises:
        BundleRefused: the manifest or the contract in it can't be read.
    """
    if not (bundle_dir / MANIFEST_NAME).is_file():
        return NOTHING_TOLD
    contract = read_contract(bundle_dir)
    return NOTHING_TOLD if contract is None else contract.reading
