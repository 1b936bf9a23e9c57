"""Numbers written with a decimal comma or thousands marks: by which flags such texts would be read."""

from __future__ import annotations

import re
from collections.abc import Collection

SURE_SHARE = 0.9
"""Of the texts: as many with foreign marks make it likely that the column is one of numbers."""
_COMMA = re.compile(r"[-+]?(?:[0-9]+|[0-9]{1,3}(?:(?P<group>[. \u00a0\u202f'’])[0-9]{3})+),[0-9]+")
_PLAIN = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")
_COMMAS_BETWEEN = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")

_BLANKS_BETWEEN = re.compile(r"[-+]?[0-9]{1,3}(?:(?P<group>[ \u00a0\u202f])[0-9]{3})+(?:\.[0-9]+)?")


def flags_for(texts: Collection[str], known: tuple[float, float] | None = None) -> str | None:
    """The flags that would read these texts as numbers; None where they aren't numbers in the marks of other lands.

    Texts such as `1,234` only may be either: then both ways are named, or the one whose numbers are in a known range.

    >>> flags_for(["12,5", "3,25"])
    '--decimal ,'
    >>> flags_for(["8.316,60", "991,75"])
    "--decimal , --thousands '.'"
    >>> flags_for(["1,234.50", "12,000.00"])
    "--thousands ','"
    >>> flags_for(["29 738", "5 678"])
    "--thousands ' '"
    >>> flags_for(["1,234", "5,678"])
    "--thousands ',' or --decimal ,"
    >>> flags_for(["1,234", "5,678"], known=(900.0, 6000.0))
    "--thousands ','"

    Args:
        texts: of a column's cells.
        known: the least and the greatest number that such a column held.
    """
    shown = [text.strip() for text in texts]
    plain = sum(_PLAIN.fullmatch(text) is not None for text in shown)
    decimal = [found for text in shown if (found := _COMMA.fullmatch(text))]
    between = [found for text in shown if (found := _COMMAS_BETWEEN.fullmatch(text))]
    spaced = [found for text in shown if (found := _BLANKS_BETWEEN.fullmatch(text))]
    most = max(len(decimal), len(between), len(spaced))
    if not most or most + plain < SURE_SHARE * len(shown):
        return None
    if len(spaced) > max(len(between), len(decimal)):
        return f"--thousands {spaced[0]['group']!r}"
    if len(between) == len(decimal):
        return _of_two(shown, known)
    if len(between) > len(decimal):
        return "--thousands ','"
    groups = [found["group"] for found in decimal if found["group"]]
    return f"--decimal , --thousands {groups[0]!r}" if groups else "--decimal ,"


def _of_two(texts: Collection[str], known: tuple[float, float] | None) -> str:
    """For texts with three digits behind each comma."""
    ways = {"--thousands ','": "", "--decimal ,": "."}
    if known is not None:
        inside = {flag: sum(_is_within(text, mark, known) for text in texts) for flag, mark in ways.items()}
        likely = [flag for flag in ways if inside[flag] >= SURE_SHARE * len(texts)]
        ways = likely or list(ways)
    return " or ".join(ways)


def _is_within(text: str, mark: str, known: tuple[float, float]) -> bool:
    number = text.replace(",", mark)
    return _PLAIN.fullmatch(number) is not None and known[0] <= float(number) <= known[1]
