"""Texts that stand for a missing cell among numbers: known marks, and one that the column itself gives away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ai.ml.core.tables.cells import as_texts

_SIGNS = ("?", "??", "-", "--", "---", "–", "—", "*", "..", "…", "\\n")
_WORDS = ("#n/a", "#na", "<na>", "(null)", "[null]", "nil", "n.a.", "n.a", "n/d", "k.a.", "unknown", "missing")
_EXCEL_ERRORS = ("#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!")
MISSING_MARKS = frozenset((*_SIGNS, *_WORDS, *_EXCEL_ERRORS))
"""In lower case. Only among numbers: in a category, `unknown` is a level like any other."""
LONE_MARK_SHARE = 0.5
"""Of the cells with content, that must be numbers for a single other text to stand for a missing one."""

_AMOUNT = re.compile(r"(?P<before>[^\w\s.,+-]?)\s?[-+]?\d[\d.,\s'’]*?\s?(?P<after>[^\d\s.,]{0,4})")
_AMOUNT_SHARE = 0.9
_UNIT_SHARE = 0.1
"""Of the texts, with the same sign: losses in brackets may be few."""


def have_units(texts: Sequence[str]) -> bool:
    """Are nearly all of these numbers, many of them with one and the same sign or unit?

    >>> have_units(["73%", "8%"]), have_units(["$1,250.00", "$3"]), have_units(["12 kg", "7 kg"])
    (True, True, True)
    >>> have_units(["(12.3)", "4.5", "6"]), have_units(["1a", "2b", "red"]), have_units(["12", "7"])
    (True, False, False)
    """
    found = [_AMOUNT.fullmatch(text.strip()) for text in texts]
    affixes = Counter((match["before"], match["after"]) for match in found if match)
    amounts = affixes.total()
    affixes.pop(("", ""), None)
    units = affixes.most_common(1)[0][1] if affixes else 0
    return amounts >= _AMOUNT_SHARE * len(texts) and units >= max(1, _UNIT_SHARE * len(texts))


def marks_of(array: pa.Array, is_text: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """Which of a column's texts are known marks.

    Args:
        array: `(n_rows,)` texts.
        is_text: `(n_rows,)` bool: cells with content that is no number.

    Returns:
        marked: `(n_rows,)` bool: the cell is a known mark.
        counts: each distinct text of `is_text` with its number, the most frequent first.
    """
    if not is_text.any():
        return np.zeros(len(array), dtype=bool), {}
    codes, texts = as_texts(array)
    known = np.array([(text or "").strip().casefold() in MISSING_MARKS for text in texts] + [False])
    found = np.bincount(codes[is_text], minlength=len(texts))
    counts: dict[str, int] = {}
    for index in np.flatnonzero(found):
        text = (texts[index] or "").strip()
        counts[text] = counts.get(text, 0) + int(found[index])
    return known[codes] & is_text, dict(sorted(counts.items(), key=lambda item: -item[1]))
