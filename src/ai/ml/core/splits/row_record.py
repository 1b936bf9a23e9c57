"""A compact record of a set of rows, without their cells, to test whether a row was in it.

Sorted 32-bit prefixes of salted 64-bit row numbers, four bytes a row. A row that was there is always found; another one
is taken for it with a chance of at most rows / 2³²: one in 4,300 for a million rows. It keeps no raw data, but who has
the salt can try rows that they know, as with any such hash.
"""

from __future__ import annotations

import numpy as np

from ai.ml.core.errors import BundleRefused

RECORD_NAME = "training_rows.bin"
_MAGIC = b"bundlegate rows 1\n"
_SHIFT = np.uint64(32)


def encode_rows(keys: np.ndarray) -> bytes:
    """The record of `(n_rows,)` uint64; the same rows in any order give the same bytes."""
    return _MAGIC + np.unique(keys >> _SHIFT).astype("<u4").tobytes()


def error_rate(record: bytes) -> float:
    """The chance that a row which wasn't there is taken for one that was."""
    return len(_prefixes(record)) / 2.0**32


def among_rows(record: bytes, keys: np.ndarray) -> np.ndarray:
    """`(n_rows,)` bool: which of `(n_rows,)` uint64 the record holds.

    Raises:
        BundleRefused: it is no record, or one of a newer bundlegate.
    """
    known, prefixes = _prefixes(record), keys >> _SHIFT
    if not len(known):
        return np.zeros(len(keys), dtype=bool)
    indices = np.minimum(np.searchsorted(known, prefixes), len(known) - 1)
    return known[indices] == prefixes


def _prefixes(record: bytes) -> np.ndarray:
    body = record[len(_MAGIC) :]
    if not record.startswith(_MAGIC) or len(body) % 4:
        raise BundleRefused(f"{RECORD_NAME} is no record of rows that this bundlegate reads")
    return np.frombuffer(body, "<u4").astype(np.uint64)
