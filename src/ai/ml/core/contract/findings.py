"""What deriving a contract found worth a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FindingKind = Literal[
    "all_missing",
    "amounts",
    "identifier",
    "codes",
    "maybe_codes",
    "maybe_dates",
    "maybe_numbers",
    "mixed",
    "dates",
    "leak",
    "spellings",
    "repeats",
    "excluded",
    "not_there",
    "split",
    "times",
    "training",
]


@dataclass(frozen=True)
class Finding:
    """One thing that was dropped, decided or suspected."""

    kind: FindingKind
    column: str | None
    message: str
    """One sentence: what was found, what was done about it, and how to have it otherwise."""
