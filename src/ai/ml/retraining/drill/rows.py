"""Rows that went wrong: lost, doubled, of another time or of other people."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ai.ml.core.contract.dates import ISO, read_dates
from ai.ml.core.tables.cells import one_array
from ai.ml.retraining.drill.kind import Kind, NotApplicable, Scene, with_cells

FUTURE_DAYS = 365


def _sample(scene: Scene, share: float) -> pa.Table:
    rows = np.sort(scene.some_rows(f"sample {share}", max(20, round(share * scene.rows))))
    return scene.tonight.take(pa.array(rows))


def _doubled(scene: Scene) -> pa.Table:
    return pa.concat_tables([scene.tonight, scene.tonight])


def _some_repeated(scene: Scene) -> pa.Table:
    """A tenth of the rows stand there five times, as a join makes them."""
    some = scene.tonight.take(pa.array(scene.some_rows("repeated", scene.rows // 10)))
    return pa.concat_tables([scene.tonight, *[some] * 4])


def _stuck_feed(scene: Scene) -> pa.Table:
    """In the place of the newer rows one and the same row."""
    newer = scene.rows - scene.old_rows
    return scene.tonight.take(pa.array([*range(scene.old_rows), *[scene.old_rows] * newer]))


def _old_file(scene: Scene) -> pa.Table:
    return scene.champions


def _older_file(scene: Scene) -> pa.Table:
    return scene.champions.slice(0, max(20, scene.old_rows // 2))


def _day_missing(scene: Scene) -> pa.Table:
    """No row of the day that most rows are of among the newer ones; without dates a block of rows."""
    dated = [column for column in scene.contract.columns if column.kind == "date"]
    if not dated:
        first = scene.old_rows - scene.rows // 10
        return pa.concat_tables([scene.tonight.slice(0, first), scene.tonight.slice(first + scene.rows // 5)])
    days = days_of(scene, dated[0].name)
    known, counts = np.unique(days[~np.isnat(days)], return_counts=True)
    return scene.tonight.filter(pa.array(days != known[counts.argmax()]))


def _unsorted_join(scene: Scene) -> pa.Table:
    """Half of the columns belong to other rows: two exports were put side by side, one of them sorted otherwise."""
    names = [column.name for column in scene.contract.columns]
    if len(names) < 2:
        raise NotApplicable("it takes two columns")
    order, table = pa.array(scene.rng("join").permutation(scene.rows)), scene.tonight
    for name in {*names[::2], *scene.number_columns[:1]}:
        table = with_cells(table, name, scene.tonight.column(name).take(order).combine_chunks())
    return table


def _population(scene: Scene) -> pa.Table:
    """Only rows above the median of the column of numbers that says most."""
    name = scene.columns_of("number")[0]
    values = scene.numbers(name)
    chosen = values > np.nanmedian(values)
    if chosen.sum() < 20:
        raise NotApplicable(f"too few rows are above the median of {name!r}")
    return scene.tonight.filter(pa.array(chosen))


def _future(scene: Scene) -> pa.Table:
    """A tenth of the rows are of next year."""
    name = scene.columns_of("date")[0]
    days, rng = days_of(scene, name), scene.rng("future")
    newest = days[~np.isnat(days)].max()
    places = rng.permutation(scene.rows)[: scene.rows // 10]
    days[places] = newest + rng.integers(1, FUTURE_DAYS, len(places)).astype("timedelta64[D]")
    return with_cells(scene.tonight, name, _as_before(scene, name, days))


def days_of(scene: Scene, name: str) -> np.ndarray:
    """`(n_rows,)` datetime64[D] of a column of dates, NaT where a cell is missing."""
    column = next(column for column in scene.contract.columns if column.name == name)
    return read_dates(one_array(scene.tonight.column(name)), column.date_format or ISO)[0].astype("datetime64[D]")


def _as_before(scene: Scene, name: str, days: np.ndarray) -> pa.Array:
    """Days in the type, or the writing, that the column had."""
    kind, dates = scene.tonight.schema.field(name).type, pa.array(days)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return dates.cast(kind)
    column = next(column for column in scene.contract.columns if column.name == name)
    return pc.strftime(dates.cast(pa.timestamp("s")), format=column.date_format or ISO)


KINDS = (
    Kind("rows", "half of the rows", lambda scene: _sample(scene, 0.5)),
    Kind("rows", "a tenth of the rows", lambda scene: _sample(scene, 0.1)),
    Kind("rows", "every row twice", _doubled),
    Kind("rows", "some rows five times", _some_repeated),
    Kind("rows", "one row in the place of the newer ones", _stuck_feed),
    Kind("rows", "one day missing", _day_missing),
    Kind("rows", "the old file again", _old_file),
    Kind("rows", "an older file", _older_file),
    Kind("rows", "an unsorted join", _unsorted_join),
    Kind("rows", "another population", _population),
    Kind("rows", "rows of the future", _future),
)
