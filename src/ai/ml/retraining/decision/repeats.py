"""How often the same held-out rows have decided: intervals hold for rows that weren't used before.

Each decision leaves a sketch of its rows, the least of their numbers (Broder 1997, min-wise hashing). What part of an
earlier decision's rows decides again is what part of its sketch is among tonight's numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ai.ml.core.splits.rule import SplitRule, keys_of

SKETCH = 32
"""Numbers kept, eight hexadecimal signs each: a share of one half is then known to some 0.1."""
MOSTLY = 0.5
_SALT = "who decided"


def row_numbers(rule: SplitRule, table: pa.Table) -> np.ndarray:
    """`(n_rows,)` uint64 that name the rows of a decision, for its sketch."""
    key = () if rule.kind == "time" else rule.key
    return keys_of(table, key, rule.cells, _SALT)[0]


def sketch_of(numbers: np.ndarray) -> list[str]:
    """The smallest distinct numbers, as hexadecimal texts."""
    return [f"{int(number) >> 32:08x}" for number in np.unique(numbers)[:SKETCH]]


def times_decided(decisions: Iterable[Mapping[str, Any]], numbers: np.ndarray) -> int:
    """The number of earlier decisions that were mostly made by the present rows."""
    tonight = {f"{int(number) >> 32:08x}" for number in numbers}
    sketches = [decision.get("sketch") or [] for decision in decisions]
    return sum(sum(each in tonight for each in sketch) >= MOSTLY * len(sketch) for sketch in sketches if sketch)


def rows_sentence(decision: Mapping[str, Any]) -> str:
    """A sentence on the rows of a decision's document: how many, of how many groups, left out, and how often before.

    >>> rows_sentence({"rows": 188, "overlap": {"held_out": 200, "learned_from": 12}, "decided_before": 3})
    '188 rows; 12 of 200 held out were learned from and left out; mostly the same rows decided 3 times before'
    """
    if not decision.get("rows"):
        return ""
    overlap, groups = decision.get("overlap") or {}, decision.get("groups")
    parts = [f"{decision['rows']:,} rows" + (f" of {groups:,} groups" if groups else "")]
    if overlap.get("learned_from"):
        parts.append(f"{overlap['learned_from']:,} of {overlap['held_out']:,} held out were learned from and left out")
    return "; ".join([*parts, *filter(None, [repeats_sentence(decision.get("decided_before"))])])


def repeats_sentence(times: int | None) -> str:
    """A sentence if the same rows decided before; empty if not, or where it isn't known."""
    return f"mostly the same rows decided {times} time{'s' * (times != 1)} before" if times else ""
