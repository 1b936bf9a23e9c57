"""Levels written otherwise: codes that lost their leading zeros, texts in other letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def loose_form(text: str) -> str:
    """A level without what another writer may have changed of it.

    >>> loose_form("00501"), loose_form("000"), loose_form("Basic Plan")
    ('501', '0', 'basic plan')
    """
    if text.isascii() and text.isdigit():
        return text.lstrip("0") or "0"
    return text.casefold()


def levels_by_form(levels: Iterable[str]) -> dict[str, str]:
    """Those of a column's levels that can be written otherwise, by their loose form; not where two share one.

    >>> levels_by_form(["00501", "10001", "Yes", "A", "a"])
    {'501': '00501', 'yes': 'Yes'}

    Args:
        levels: all different.
    """
    forms = {level: loose_form(level) for level in levels}
    shared = Counter(forms.values())
    return {form: level for level, form in forms.items() if shared[form] == 1 and _varies(level)}


def _varies(level: str) -> bool:
    return loose_form(level) != level or level.upper() != level.lower()
