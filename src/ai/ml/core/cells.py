"""What a raw cell means: a number, a text, or nothing. One rule for every reader of cells."""

from __future__ import annotations

from numbers import Number
from typing import Any

MISSING_TOKENS = frozenset({"", "na", "n/a", "nan", "none", "null", "."})


def coerce(value: Any) -> float | str | None:
    """A number as float, a text as it stands (outer blanks gone), None for missing.

    Text that reads as a number is that number; the tokens of `MISSING_TOKENS` (any case), None and NaN are missing.

    >>> coerce(" 12.5 "), coerce("N/A"), coerce("red"), coerce(True)
    (12.5, None, 'red', 1.0)
    """
    if value is None:
        return None
    if isinstance(value, str):
        return coerce_text(value)
    if isinstance(value, Number):
        number = float(value)  # pyright: ignore[reportArgumentType]
        return None if number != number else number
    return coerce_text(str(value))


def coerce_text(text: str) -> float | str | None:
    """The same for a text."""
    text = text.strip()
    if text.lower() in MISSING_TOKENS:
        return None
    number = read_number(text)
    if number is None:
        return text
    return None if number != number else number


def read_number(text: str) -> float | None:
    """The number that a text reads as, None if it doesn't; `12_000` is a code, not a number."""
    if "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None
