"""Sides by time: what is held out is newer than everything that is learned from.

Rows of one instant are on one side. A row whose time isn't known is on none: it may be of the future.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.split_config import SplitConfig, holdout_of, span_of
from ai.ml.core.splits.instants import Instants


@dataclass(frozen=True)
class TimedSides:
    """The learned and the held-out rows; a row can be on neither side."""

    learned: np.ndarray
    """`(n_rows,)` bool."""
    held: np.ndarray
    """`(n_rows,)` bool."""
    cutoff: Any
    """datetime64[us] or float64: the first instant that is held out."""
    learned_before: Any
    """The end of the learned rows: the cutoff less the gap."""


def sides_by_time(
    times: Instants, config: SplitConfig, share: float, groups: np.ndarray | None, least_rows: int = 1
) -> TimedSides | None:
    """Hold out the newest rows.

    By share, the holdout begins at the latest instant with at least `share` of the rows from there on; where that is
    the first of all, at the second. Rows of a group of which a row is held out, and rows within the gap before the
    cutoff, are on neither side.

    Args:
        times: of all rows.
        config: of kind `time`; its `holdout` goes before the share.
        share: of the rows whose time is known.
        groups: `(n_rows,)` any numbers, the same for rows of one group; None without groups.
        least_rows: held out whatever the share.

    Returns:
        None where all rows are of one instant, so that nothing is older than the rest.

    Raises:
        UsageError: a span or a date where the times are numbers.
    """
    known = times.known
    values = times.values[known]
    if config.holdout is None:
        cutoff = _cutoff(values, max(int(np.ceil(len(values) * share)), least_rows))
        if cutoff is None:
            return None
    else:
        cutoff = _given_cutoff(times, config)
    held, learned = known.copy(), known.copy()
    held[known] = values >= cutoff
    before = cutoff if config.gap is None else cutoff - _gap(times, config)
    learned[known] = values < before
    if groups is not None:
        learned &= ~np.isin(groups, groups[held])
    return TimedSides(learned, held, cutoff, before)


def _cutoff(values: np.ndarray, rows: int) -> Any:
    ordered = np.sort(values)
    if not len(ordered) or ordered[0] == ordered[-1]:
        return None
    cutoff = ordered[max(len(ordered) - rows, 0)]
    return cutoff if cutoff > ordered[0] else ordered[np.searchsorted(ordered, ordered[0], side="right")]


def _given_cutoff(times: Instants, config: SplitConfig) -> Any:
    _refuse_numbers(times, config, "holdout", config.holdout)
    given = holdout_of(config.holdout or "")
    if isinstance(given, np.datetime64):
        return given
    known = times.values[times.known]
    if not len(known):
        raise DataRefused(f"no row has a time in {config.time_column!r}")
    # The span ends with the newest row: one exactly its length older isn't in it.
    return known.max() - given + np.timedelta64(1, "us")


def _gap(times: Instants, config: SplitConfig) -> np.timedelta64:
    _refuse_numbers(times, config, "gap", config.gap)
    return span_of("gap", config.gap or "")


def _refuse_numbers(times: Instants, config: SplitConfig, name: str, value: str | None) -> None:
    if not times.are_dates:
        raise UsageError(f"{name} {value!r} needs dates, and column {config.time_column!r} holds numbers")
