"""The rule of a split as stored in a bundle: whether its model may have learned from a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ai.ml.core.errors import BundleRefused, DataRefused
from ai.ml.core.split_config import SplitKind
from ai.ml.core.splits.by_hash import limit_of
from ai.ml.core.splits.instants import read_instants
from ai.ml.core.splits.row_keys import RULE_FORMAT, named_as, row_keys


@dataclass(frozen=True)
class SplitRule:
    """The kind of rule that decides a row's side."""

    kind: SplitKind
    share: float
    """The configured share of held-out rows."""
    cells: tuple[str, ...] = ()
    """The columns that the model reads: they name a row that has no key."""
    key: tuple[str, ...] = ()
    """The columns of the key or of the group."""
    salt: str = ""
    lent: tuple[int, ...] = ()
    """Numbers of rows that were held out though they are above the limit."""
    kept: tuple[int, ...] = ()
    """Numbers of rows that were learned from though they are below it."""
    time: str | None = None
    """The column of the times, with its format."""
    learned_before: str | None = None
    """The instant, or the number, before which rows were learned from."""
    group: str | None = None
    """For a split by time: the column whose equal values stay together; of a split by group it is the key."""

    def to_json(self) -> dict[str, Any]:
        """The manifest's record; JSON has no 64-bit numbers, so they are hexadecimal texts."""
        numbers = {name: [f"{number:016x}" for number in getattr(self, name)] for name in ("lent", "kept")}
        record = asdict(self) | {"cells": list(self.cells), "key": list(self.key)} | numbers
        return {"format": RULE_FORMAT} | {name: value for name, value in record.items() if value not in (None, [], "")}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> SplitRule:
        """Parse the output of `to_json`.

        Raises:
            BundleRefused: it is no rule, or one of a newer bundlegate.
        """
        try:
            if record["format"] > RULE_FORMAT:
                raise BundleRefused(
                    f"the rule of the split has format {record['format']}, this bundlegate reads {RULE_FORMAT}: "
                    "install the newer one"
                )
            if record["kind"] not in ("random", "hash", "time", "group"):
                raise ValueError(f"kind {record['kind']!r}")
            lent, kept = (tuple(int(number, 16) for number in record.get(name, ())) for name in ("lent", "kept"))
            cells, key = (tuple(map(str, record.get(name, ()))) for name in ("cells", "key"))
            more = record.get("time"), record.get("learned_before"), record.get("group")
            share, salt = float(record["share"]), str(record.get("salt", ""))
            return cls(record["kind"], share, cells, key, salt, lent, kept, *more)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, BundleRefused):
                raise
            raise BundleRefused(f"the rule of the split can't be read: {error!r}") from None

    @property
    def description(self) -> str:
        """How rows were chosen, as a phrase."""
        columns = " and ".join(self.key)
        match self.kind:
            case "time":
                return f"the newest by {self.time}, learned from before {self.learned_before}"
            case "group":
                return f"whole groups by a hash of {columns}"
            case "hash":
                return f"by a hash of {columns}" if columns else "by a hash of the cells that the model reads"
            case "random":
                return "at random"

    def missing_columns(self, table: pa.Table) -> list[str]:
        """The columns that the rule needs for these rows and that aren't there; cells only where a row has no key."""
        needed, table = (*self.key, *self.cells), self._named(table)
        if self.time is not None:
            needed = (self.time.partition(":%")[0],)
        elif self.key and set(self.key) <= set(table.column_names) and row_keys(table, self.key)[1].all():
            needed = self.key
        return [name for name in needed if name not in table.column_names]

    def may_have_learned(self, table: pa.Table) -> np.ndarray | None:
        """`(n_rows,)` bool: whether each row is on the side that was learned from; None where the rule can't say.

        A row that came later counts as learned from where its side was: the rule doesn't know when it came.

        Raises:
            DataRefused: a column can't be read any more, or its times are numbers now and were dates, or the reverse.
        """
        if self.kind == "random" or self.missing_columns(table):
            return None
        table = self._named(table)
        if self.kind == "time" and self.time is not None and self.learned_before is not None:
            times = read_instants(self.time, table.column(self.time.partition(":%")[0]))
            return times.known & (times.values < self._before(times.are_dates)) if times.known.any() else times.known
        numbers = keys_of(table, self.key, self.cells, self.salt)[0]
        learned = numbers >= limit_of(self.share)
        learned &= ~np.isin(numbers, np.array(self.lent, dtype=np.uint64))
        return learned | np.isin(numbers, np.array(self.kept, dtype=np.uint64))

    def groups_of(self, table: pa.Table) -> np.ndarray | None:
        """`(n_rows,)` int64 from 0 on, equal for rows of one group; None where the split knows none, or can't tell.

        Raises:
            DataRefused: a column can't be read any more.
        """
        group = self.key if self.kind == "group" else () if self.group is None else (self.group,)
        table = named_as(table, (*group, *self.cells))
        if not group or not {*group, *self.cells} <= set(table.column_names):
            return None
        return np.unique(keys_of(table, group, self.cells, "")[0], return_inverse=True)[1]

    def _named(self, table: pa.Table) -> pa.Table:
        times = () if self.time is None else (self.time.partition(":%")[0],)
        return named_as(table, (*self.key, *self.cells, *times))

    def _before(self, are_dates: bool) -> np.datetime64 | float:
        limit = self.learned_before or ""
        try:
            return np.datetime64(limit, "us") if are_dates else float(limit)
        except ValueError:
            now, then = ("dates", "numbers") if are_dates else ("numbers", "dates")
            raise DataRefused(f"column {self.time!r} holds {now} now and held {then} at the training") from None


def keys_of(table: pa.Table, key: tuple[str, ...], cells: tuple[str, ...], salt: str) -> tuple[np.ndarray, np.ndarray]:
    """`(n_rows,)` uint64 that decide a row's side, and `(n_rows,)` bool: it has a key.

    A row without a key, or of no group, goes by its own cells.

    Raises:
        DataRefused: a cell's type can't be read.
    """
    table = named_as(table, (*key, *cells))
    if not key:
        return row_keys(table, cells, salt)[0], np.ones(table.num_rows, dtype=bool)
    keys, named = row_keys(table, key, salt)
    return (keys if named.all() else np.where(named, keys, row_keys(table, cells, salt)[0])), named
