"""Texts that stand for a missing cell among numbers: known marks, and one that the column itself gives away."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ai.ml.core.tables.cells import as_texts

MISSING_MARKS = frozenset(
    {
        *("?", "??", "-", "--", "---", "–", "—", "*", "..", "…", "\\n"),
        *(
            "#n/a",
            "#na",
            "<na>",
            "(null)",
            "[null]",
            "nil",
            "n.a.",
            "n.a",
            "n/d",
            "k.a.",
            "unknown",
            "missing",
            "not available",
        ),
        *("#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!"),
    }
)
"""In lower case. Only among numbers: in a category, `unknown` is a level like any other."""
LONE_MARK_SHARE = 0.5
"""Of the cells with content, that must be numbers for a single other text to stand for a missing one."""


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
    for place in np.flatnonzero(found):
        text = (texts[place] or "").strip()
        counts[text] = counts.get(text, 0) + int(found[place])
    return known[codes] & is_text, dict(sorted(counts.items(), key=lambda item: -item[1]))
