"""Cuts the past: for each origin the rows that existed then, and those from then until the next origin."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa

from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.files.atomic import make_dirs
from ai.ml.core.number_text import counted
from ai.ml.core.splits.instants import Instants, read_instants
from ai.ml.core.tables.fingerprint import fingerprint
from ai.ml.core.tables.locations import source_name
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.records import FileRef, Record
from ai.ml.retraining.runs.steps.source import read_source, without_dictionaries
from ai.ml.retraining.runs.work_folder import locked_work_dir, work_dir
from ai.ml.retraining.settings.backtest import BacktestConfig
from ai.ml.retraining.settings.retrain import RetrainConfig


class Origin(Record):
    """A past night: the rows that existed then, and the later ones."""

    number: int
    """From 1 on."""
    label: str
    """`before 2026-03-01`, or `the first 1,200 rows`."""
    rows: int
    later_rows: int
    """Rows after it, until the next origin."""
    table: FileRef
    """Parquet: the rows that existed then."""
    later: FileRef
    """Parquet: the later rows."""
    instant: str | None = None
    """The first instant that isn't in the table, where rows are in order of dates."""

    @property
    def model(self) -> str:
        """The model's name in the backtest's own store."""
        return f"origin-{self.number:03}"


class OriginPlan(Record):
    """All origins of a backtest, the oldest first."""

    source: str
    rows: int
    order: str
    """`by signed_up`, or `by the order of the table`."""
    origins: tuple[Origin, ...]
    notes: tuple[str, ...]


def backtest_dir(config: RetrainConfig) -> Path:
    """The backtest's work folder: losing it costs time and nothing else."""
    return work_dir(config) / "backtest"


def locked_backtest(config: BacktestConfig) -> AbstractContextManager[None]:
    """Lock the backtest's folder while a run lasts.

    Raises:
        Busy: another backtest of this model runs.
    """
    return locked_work_dir(backtest_dir(config), f"the backtest of {config.name}")


def cut_origins(config: BacktestConfig) -> OriginPlan:
    """Read the source once, and keep each origin's rows and those after it in files of their own, in their order.

    Raises:
        DataRefused: the table can't be read, or is too short for so many origins.
        UsageError: there is no such column to order by.
    """
    table, settings = read_source(config.data), config.backtest
    times = _times(config, table)
    known = np.ones(table.num_rows, dtype=bool) if times is None else times.known
    notes = tuple(_missing_times(config, known))
    limits = _limits(int(known.sum()), settings.origins, settings.first)
    folder = backtest_dir(config) / "tables"
    make_dirs(folder)
    if times is None:
        order_of_rows = np.arange(table.num_rows)
        origins = [_write_origin(table, order_of_rows, bounds, number, folder) for number, bounds in _numbered(limits)]
        order = "by the order of the table"
    else:
        origins, more = _by_time(table, times, limits, folder)
        notes, order = (*notes, *more), f"by {(config.order or '').partition(':%')[0]}"
    current_files = {file.path for origin in origins for file in (origin.table, origin.later)}
    for old in folder.glob("*.parquet"):
        if str(old) not in current_files:
            old.unlink(missing_ok=True)
    return OriginPlan(
        source=source_name(config.data.source), rows=table.num_rows, order=order, origins=tuple(origins), notes=notes
    )


def origin_config(config: BacktestConfig, origin: Origin) -> RetrainConfig:
    """The settings of one origin's own run, in a store of the backtest."""
    single = config.single
    return single.model_copy(
        update={
            "name": origin.model,
            "store": str(backtest_dir(config) / "origins"),
            "data": single.data.of_part(origin.table.path),
        }
    )


def _times(config: BacktestConfig, table: pa.Table) -> Instants | None:
    if config.order is None:
        return None
    name = config.order.partition(":%")[0]
    if name not in table.column_names:
        raise UsageError(f"the origins go by {name!r}, which isn't in the table; there are {table.column_names[:20]}")
    return read_instants(config.order, table.column(name))


def _missing_times(config: BacktestConfig, known: np.ndarray) -> Iterator[str]:
    absent = int((~known).sum())
    if absent:
        verb = "is" if absent == 1 else "are"
        yield f"{counted(absent, 'row')} without a readable time in {config.order!r} {verb} left out"


def _limits(rows: int, origins: int, first: float) -> list[int]:
    """The number of rows by each origin and at the end, rising."""
    limits = [round(rows * (first + (1 - first) * step / origins)) for step in range(origins + 1)]
    if limits[0] < 1 or any(after <= before for before, after in itertools.pairwise(limits)):
        raise DataRefused(
            f"{counted(rows, 'row')} can't be cut into {origins} origins with rows after each: fewer --origins, or a "
            "smaller --first"
        )
    return limits


def _numbered(limits: list[int]) -> Iterator[tuple[int, tuple[int, int]]]:
    yield from enumerate(itertools.pairwise(limits), start=1)


def _by_time(table: pa.Table, times: Instants, limits: list[int], folder: Path) -> tuple[list[Origin], tuple[str, ...]]:
    """Rows of one instant are on one side: each origin's limit moves back to where its instant begins."""
    numbers = np.flatnonzero(times.known)
    order_of_rows = numbers[np.argsort(times.values[numbers], kind="stable")]
    values = times.values[order_of_rows]
    begins = sorted({int(np.searchsorted(values, values[limit])) for limit in limits[:-1]} - {0})
    if len(begins) < 2:
        raise DataRefused("the rows are of too few different times for two origins: a smaller --first may help")
    lost = len(limits) - 1 - len(begins)
    notes = (f"{counted(lost, 'origin')} fewer than asked for: rows of one time stay together",) if lost else ()
    origins: list[Origin] = []
    for number, bounds in _numbered([*begins, len(order_of_rows)]):
        cutoff = values[bounds[0]]
        cutoff_text = _cutoff_text(cutoff)
        origin = _write_origin(table, order_of_rows, bounds, number, folder)
        instant = str(cutoff) if times.are_dates else None
        origins.append(origin.model_copy(update={"label": f"before {cutoff_text}", "instant": instant}))
    return origins, notes


def _write_origin(
    table: pa.Table, order_of_rows: np.ndarray, bounds: tuple[int, int], number: int, folder: Path
) -> Origin:
    """Both tables of an origin, the rows of each in the order of the source."""
    begin, end = bounds
    parts = {"table": np.sort(order_of_rows[:begin]), "later": np.sort(order_of_rows[begin:end])}
    files: dict[str, FileRef] = {}
    for name, rows in parts.items():
        part = without_dictionaries(table.take(pa.array(rows)))
        path = folder / f"{number:03}-{name}.{fingerprint(part)[:16]}.parquet"
        write_table(part, path)
        files[name] = FileRef.of(path)
    label = f"the first {begin:,} rows"
    return Origin(
        number=number, label=label, rows=begin, later_rows=end - begin, table=files["table"], later=files["later"]
    )


def _cutoff_text(cutoff: np.datetime64 | float) -> str:
    """The text of an instant; a midnight is its day alone."""
    return str(cutoff).removesuffix("T00:00:00.000000").removesuffix(".000000").removesuffix(".0")
