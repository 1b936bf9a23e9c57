"""How the table is split: the settings of `ai.ml.core.splits`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ai.ml.core.split_config import SplitConfig, SplitKind
from ai.ml.retraining.settings.fields import Flag, Section


class SplitSettings(Section):
    """Which rows are held out for the decision: by what they are, so that no row changes sides as the table grows."""

    by: Annotated[
        SplitKind | None,
        Field(
            description="hash: by the key or the row's own cells; time: the newest rows; group: whole groups; random: "
            "other rows for each table and seed. When not given: time or group if such a column is named, else hash"
        ),
        Flag("--split"),
    ] = None
    key: Annotated[
        tuple[str, ...], Field(description="Columns that name a row, for hash", examples=[["customer_id"]])
    ] = ()
    time: Annotated[
        str | None, Field(description="Column that says when a row came to be, for time", examples=["signed_up"])
    ] = None
    group: Annotated[
        str | None,
        Field(description="Column whose equal values stay on one side, for group and time", examples=["household"]),
    ] = None
    holdout: Annotated[
        str | None,
        Field(
            description="For time: a span (30min, 36h, 14d, 2w) before the newest row, or the date from which on rows "
            "are held out; when not given, the newest test_size of them",
            examples=["14d", "2026-01-31"],
        ),
    ] = None
    gap: Annotated[
        str | None,
        Field(description="For time: a span between training, validation and holdout left unused", examples=["7d"]),
    ] = None
    salt: Annotated[
        str, Field(description="For hash and group: another text, other rows held out", examples=["second choice"])
    ] = ""

    def rule(self) -> SplitConfig:
        """The trainer's own record of these settings.

        Raises:
            UsageError: they don't go together.
        """
        kind = self.by or ("time" if self.time else "group" if self.group else "hash")
        return SplitConfig(kind, self.key, self.time, self.group, self.holdout, self.gap, self.salt)
