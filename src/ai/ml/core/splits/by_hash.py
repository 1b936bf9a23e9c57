"""Sides by the rows' own numbers: a row is held out because of what it is, not because of the rows beside it.

A row is held out where its number lies below `share` of all 64-bit numbers, so it stays where it is however the table
grows, shrinks or is sorted. Only a class that would be on one side alone moves rows: see `sides_by_keys`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ai.ml.core.splits.text_hash import hash_text, mix


@dataclass(frozen=True)
class HashedSides:
    """The held-out rows, and the numbers whose side isn't the one of the limit."""

    held: np.ndarray
    """`(n_rows,)` bool."""
    lent: tuple[int, ...] = ()
    """Numbers held out though they are above the limit: all rows that have them."""
    kept: tuple[int, ...] = ()
    """Numbers not held out though they are below it."""


def limit_of(share: float) -> np.uint64:
    """The number below which `share` of all 64-bit numbers lie."""
    return np.uint64(min(int(share * 2.0**64), 2**64 - 1))


def other_keys(keys: np.ndarray, purpose: str) -> np.ndarray:
    """Numbers `(n_rows,)` uint64 for another choice among the same rows, independent of the first one."""
    return mix(keys ^ hash_text(purpose))


def sides_by_keys(keys: np.ndarray, share: float, classes: np.ndarray, least_rows: int = 1) -> HashedSides:
    """Hold out the rows whose numbers are small enough, and keep every class on both sides where that can be.

    All rows with one number stay together. A class none of whose rows would be left to learn from keeps those of its
    greatest number. After that, a class without a held-out row lends those of its least number that leave every class
    something to learn from; a class with one number only is one to learn from.

    Args:
        keys: `(n_rows,)` uint64.
        share: of the numbers that are held out.
        classes: `(n_rows,)` codes from 0 on; all 0 where there are no classes.
        least_rows: held out whatever the share, by further small numbers.
    """
    limit = limit_of(share)
    held = keys < limit
    if 1 < least_rows < len(keys) and held.sum() < least_rows:
        limit = np.partition(keys, least_rows - 1)[least_rows - 1] + np.uint64(1)
        held = keys < limit
    if not len(keys):
        return HashedSides(held)
    total = np.bincount(classes)
    lent: list[int] = []
    kept: list[int] = []
    learned = total - np.bincount(classes[held], minlength=len(total))
    for label in np.flatnonzero((learned == 0) & (total > 0)):
        number = keys[classes == label].max()
        held &= keys != number
        kept.append(int(number))
    for label in np.flatnonzero((np.bincount(classes[held], minlength=len(total)) == 0) & (total > 0)):
        of_class = classes == label
        # Another class may have lent rows of this one with its own.
        if not (held & of_class).any():
            number = _lendable(keys, held, classes, of_class)
            if number is not None:
                held |= keys == number
                lent.append(int(number))
    return HashedSides(held, tuple(lent), tuple(kept))


def _lendable(keys: np.ndarray, held: np.ndarray, classes: np.ndarray, of_class: np.ndarray) -> np.uint64 | None:
    """The least number of a class whose rows are no other class's last ones to learn from."""
    learned = np.bincount(classes[~held], minlength=int(classes.max()) + 1)
    for number in np.unique(keys[of_class]):
        going = np.bincount(classes[keys == number], minlength=len(learned))
        if (learned[going > 0] > going[going > 0]).all():
            return number
    return None
