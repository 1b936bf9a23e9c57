"""What was said about how a table is written: told at a training, kept in its contract, used again at every scoring."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

_FLAGS = {"missing_marks": "missing-mark", "units": "unit"}
_OF_THE_FILE = ("delimiter", "encoding", "quote", "skip_lines", "comment", "sheet")
_WHOLE_NUMBERS = ("skip_lines",)
_LISTS = ("missing_marks", "units")


@dataclass(frozen=True)
class Reading:
    """Settings of reading, as far as they were told; `ai.ml.core.tables.ReadOptions` says what each means."""

    delimiter: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    sheet: str | None = None
    quote: str | None = None
    skip_lines: int | None = None
    comment: str | None = None
    missing_marks: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What was told, and nothing else, as plain JSON values."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if name in _LISTS else value for name, value in found.items() if value not in (None, ())
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Reading:
        """Read what `to_json` wrote; TypeError or ValueError for what isn't such a record."""
        known = {field.name for field in fields(cls)}
        if not known.issuperset(record):
            raise ValueError(f"unknown settings of reading: {', '.join(sorted(set(record) - known))}")
        values: dict[str, Any] = {}
        for name, value in record.items():
            if name in _LISTS:
                values[name] = tuple(str(item) for item in value)
            else:
                values[name] = int(value) if name in _WHOLE_NUMBERS else str(value)
        return cls(**values)

    def or_else(self, other: Reading) -> Reading:
        """This one, and the other's settings where this one says nothing; lists of both are joined."""
        values: dict[str, Any] = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name in _LISTS:
                values[field.name] = tuple(dict.fromkeys((*mine, *theirs)))
            else:
                values[field.name] = theirs if mine is None else mine
        return Reading(**values)

    @property
    def flags(self) -> str:
        """The settings as the flags that would tell them.

        >>> Reading(decimal=",", skip_lines=2, missing_marks=("?", "n. a.")).flags
        "--decimal , --skip-lines 2 --missing-mark '?' --missing-mark 'n. a.'"
        """
        words: list[str] = []
        for name, value in self.to_json().items():
            flag = "--" + _FLAGS.get(name, name).replace("_", "-")
            for item in value if isinstance(value, list) else [value]:
                words += [flag, shlex.quote(str(item))]
        return " ".join(words)

    @property
    def of_the_file(self) -> Reading:
        """Those that say how the file is made, without those that say what its cells mean."""
        return Reading(**{name: getattr(self, name) for name in _OF_THE_FILE})


NOTHING_TOLD = Reading()
