"""The configuration of a split into training, validation and holdout rows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from ai.ml.core.errors import UsageError

if TYPE_CHECKING:
    # The settings are read before anything is computed: numpy comes with the first span.
    import numpy as np

SplitKind = Literal["random", "hash", "time", "group"]
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(min|h|d|w)")
_SECONDS = {"min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MAX_SECONDS = 365_000 * _SECONDS["d"]


@dataclass(frozen=True)
class SplitConfig:
    """One way to split; the default is the random split of the on-disk family."""

    kind: SplitKind = "random"
    key: tuple[str, ...] = ()
    """For `hash`: the columns that name a row; without any, the cells that the model reads."""
    time: str | None = None
    """For `time`: the column with the rows' times, with a format behind it where its texts need one:
    `day:%d/%m/%Y`."""
    group: str | None = None
    """For `group` and `time`: rows with the same value here are never on two sides."""
    holdout: str | None = None
    """For `time`: a span before the newest row (`14d`), or the date on which the holdout begins; without it, the newest
    `test_size` of the rows."""
    gap: str | None = None
    """For `time`: a span between training, validation and holdout whose rows aren't used."""
    salt: str = ""
    """For `hash` and `group`: another text, another choice of rows."""

    def __post_init__(self) -> None:
        """Check the settings that don't need a table.

        Raises:
            UsageError: a setting is missing, or belongs to another kind.
        """
        needed = {"time": self.time, "group": self.group}
        if self.kind in needed and not needed[self.kind]:
            raise UsageError(f"a split by {self.kind} needs the column: --{self.kind} COLUMN")
        homes: dict[str, tuple[SplitKind, ...]] = {
            "key": ("hash",),
            "time": ("time",),
            "group": ("group", "time"),
            "holdout": ("time",),
            "gap": ("time",),
            "salt": ("hash", "group"),
        }
        for name, kinds in homes.items():
            if getattr(self, name) and self.kind not in kinds:
                raise UsageError(f"{name} belongs to a split by {' or '.join(kinds)}, this one is {self.kind}")
        if self.gap is not None:
            span_of("gap", self.gap)
        if self.holdout is not None:
            holdout_of(self.holdout)

    @property
    def time_column(self) -> str | None:
        """The name in `time`, without its format."""
        return None if self.time is None else self.time.partition(":%")[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the rule reads."""
        named = (*self.key, self.time_column, self.group)
        return tuple(name for name in named if name)

    def check_columns(self, names: Sequence[str], target: str) -> None:
        """Hold the columns against a table's.

        Raises:
            UsageError: one isn't there, or is the target, whose cells mustn't decide.
        """
        for name in self.columns:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(map(repr, names[:20]))}"
                raise UsageError(f"the split goes by {name!r}, which isn't in the table{hint}")
            if name.strip() == target.strip():
                raise UsageError(f"the split can't go by the target {name!r}: a corrected label would move its row")


def span_of(name: str, text: str) -> np.timedelta64:
    """A span such as `14d`, `36h`, `2w` or `30min`, in microseconds.

    >>> span_of("gap", "1.5h")
    np.timedelta64(5400000000,'us')

    Raises:
        UsageError: it reads as none, or as one of more than a thousand years.
    """
    import numpy as np

    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{name} {text!r} is no span: expected a number and min, h, d or w, as 14d")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > _MAX_SECONDS:
        raise UsageError(f"{name} {text!r} is longer than any table: {_MAX_SECONDS // _SECONDS['d']:,}d at most")
    return np.timedelta64(round(seconds * 1_000_000), "us")


def holdout_of(text: str) -> np.timedelta64 | np.datetime64:
    """A span, or the instant of an ISO date or date and time, in UTC where it has a zone; both in microseconds.

    Raises:
        UsageError: it reads as neither.
    """
    import numpy as np

    if _SPAN.fullmatch(text.strip()):
        return span_of("holdout", text)
    try:
        if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text.strip()):
            raise ValueError(text)
        instant = datetime.fromisoformat(text.strip())
        if instant.tzinfo is not None:
            instant = instant.astimezone(UTC).replace(tzinfo=None)
        return np.datetime64(instant, "us")
    except (ValueError, OverflowError):
        raise UsageError(
            f"holdout {text!r} is neither a span such as 14d nor a date such as 2026-01-31 on which it begins"
        ) from None
