"""Options of reading a table: configured at a training, kept in its contract, used again at every scoring."""

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
    """The configured options of reading; `ai.ml.core.tables.ReadOptions` documents each."""

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
        """The configured options as JSON values, without defaults."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if name in _LISTS else value for name, value in found.items() if value not in (None, ())
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Reading:
        """Parse the output of `to_json`; TypeError or ValueError for anything else."""
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
        """These options, completed by the other's where they are unset; lists of both are joined."""
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
        """The options as command-line flags.

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
        """The options of the file's form, without those of its cells' meaning."""
        return Reading(**{name: getattr(self, name) for name in _OF_THE_FILE})


NOTHING_TOLD = Reading()
