"""Work that falls apart by columns, done by a few threads: numpy and Arrow let go of the interpreter while they count.

Each piece is computed as it would be alone, so the results don't depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MOST_THREADS = 4
"""More would wait for the memory, not for a core."""
LEAST_ROWS = 100_000
"""Smaller tables are done before a thread has started; a batch is smaller too, and has a thread that reads ahead."""

_Piece = TypeVar("_Piece")
_Result = TypeVar("_Result")


def map_columns(work: Callable[[_Piece], _Result], pieces: Sequence[_Piece], n_rows: int) -> list[_Result]:
    """`[work(piece) for piece in pieces]`, at the same time where the table has many rows.

    Raises:
        What `work` raises for the first piece in order that fails.
    """
    threads = min(thread_count(), len(pieces))
    if threads < 2 or n_rows < LEAST_ROWS:
        return [work(piece) for piece in pieces]
    with ThreadPoolExecutor(threads, thread_name_prefix="columns") as pool:
        return list(pool.map(work, pieces))


def thread_count() -> int:
    """The cores that this process may use, at most `MOST_THREADS`."""
    return min(available_cores(), MOST_THREADS)


def available_cores() -> int:
    """Those that the system lets this process run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
