"""Classes that look like one class written in two ways: `yes` and `Yes`, `>50K` and `>50K.`, `1` and `yes`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from ai.ml.core.contract.findings import Finding
from ai.ml.core.input_contract import ColumnContract

_WORDS = {
    **dict.fromkeys(("yes", "y", "true", "t", "1", "1.0", "ja", "oui", "si", "sí"), "\0yes"),
    **dict.fromkeys(("no", "n", "false", "f", "0", "0.0", "nein", "non"), "\0no"),
}
HINTS_SHOWN = 3
_BOTH = {"\0yes", "\0no"}
# Not a minus: A and A- are two grades, 1 and -1 two classes.
_EDGES = re.compile(r"^[\s.,;:'\"`]+|[\s.,;:'\"`]+$")
_BETWEEN = re.compile(r"[\s_-]+")


def like_known(new: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Which new classes look like another spelling of a known one.

    >>> like_known([">50K.", "Yes", "maybe"], ["<=50K", ">50K", "yes", "no"])
    {'>50K.': '>50K', 'Yes': 'yes'}

    Args:
        new: labels that a model doesn't know.
        known: those that it knows.
    """
    known = list(known)
    plain = {_plain(label): label for label in reversed(known)}
    # 1 is yes where the classes are a yes and a no; among the ratings 1 to 5 it is a number.
    words = {_WORDS[_plain(label)]: label for label in reversed(known) if _plain(label) in _WORDS}
    is_yes_or_no = set(words) == _BOTH and len(known) <= 3
    found: dict[str, str] = {}
    for label in new:
        reading = _plain(label)
        other = plain.get(reading) or (words.get(_WORDS.get(reading, "")) if is_yes_or_no else None)
        if other is not None and other != label:
            found[label] = other
    return found


def spelled_twice(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs of classes of one table that look like the same one, the rarer first.

    >>> spelled_twice({"yes": 90, "no": 200, "Yes": 4})
    [('Yes', 'yes')]
    """
    common = sorted(counts, key=lambda label: (-counts[label], label))
    pairs: list[tuple[str, str]] = []
    for place, label in enumerate(common):
        other = like_known([label], common[:place])
        pairs += [(label, other[label])] if label in other else []
    return pairs


def spelling_hint(new: Iterable[str], known: Iterable[str]) -> str:
    """`'Yes' looks like 'yes' in another spelling`, for the end of a sentence; empty where none does."""
    found = [f"{label!r} looks like {other!r}" for label, other in like_known(new, known).items()]
    more = f" and {len(found) - HINTS_SHOWN} more" if len(found) > HINTS_SHOWN else ""
    return f"{', '.join(found[:HINTS_SHOWN])}{more} in another spelling" if found else ""


def find_spellings(target: ColumnContract | None) -> list[Finding]:
    """A word on classes of the training table that look like the same one."""
    if target is None or target.levels is None:
        return []
    return [
        Finding(
            "spellings",
            target.name,
            f"target {target.name!r}: {rare!r} ({target.levels[rare]:,} rows) looks like {common!r} "
            f"({target.levels[common]:,}) in another spelling, and is learned as a class of its own: write them alike",
        )
        for rare, common in spelled_twice(target.levels)
    ]


def _plain(label: str) -> str:
    folded = unicodedata.normalize("NFKC", label).casefold()
    trimmed = _EDGES.sub("", folded)
    return _BETWEEN.sub(" ", trimmed) or folded.strip()
