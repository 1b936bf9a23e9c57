"""Columns that went wrong: the one that says most of the target, unless the kind asks for another."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ai.ml.retraining.drill.kind import Kind, NotApplicable, Scene, first_digits, with_cells, with_gaps, with_numbers

UNIT = 1_000.0
SENTINEL = -999.0


def _first(scene: Scene) -> str:
    """The column of numbers that says most, or else any other."""
    return scene.number_columns[0] if scene.number_columns else scene.contract.columns[0].name


def _rename(scene: Scene) -> pa.Table:
    name = _first(scene)
    return scene.tonight.rename_columns([f"{each}_v2" if each == name else each for each in scene.tonight.column_names])


def _drop(scene: Scene) -> pa.Table:
    return scene.tonight.drop_columns([_first(scene)])


def _swap(scene: Scene) -> pa.Table:
    """The cells of two columns of numbers change places."""
    first, second = scene.columns_of("number", 2)[:2]
    table = with_cells(scene.tonight, first, scene.tonight.column(second).combine_chunks())
    return with_cells(table, second, scene.tonight.column(first).combine_chunks())


def _empty(scene: Scene) -> pa.Table:
    name = _first(scene)
    kind = scene.tonight.schema.field(name).type
    return with_cells(scene.tonight, name, pa.nulls(scene.rows, kind))


def _half_empty(scene: Scene) -> pa.Table:
    name = _first(scene)
    return with_gaps(scene.tonight, name, scene.some_rows("half empty", scene.rows // 2))


def _constant(scene: Scene) -> pa.Table:
    name = _first(scene)
    cells = scene.tonight.column(name).drop_null()
    return with_cells(scene.tonight, name, pa.array([cells[0].as_py()] * scene.rows, cells.type))


def _unit(scene: Scene) -> pa.Table:
    name = scene.columns_of("number")[0]
    return with_numbers(scene.tonight, name, scene.numbers(name) * UNIT)


def _new_unit(scene: Scene) -> pa.Table:
    """Only the newer rows come in another unit."""
    name = scene.columns_of("number")[0]
    values = scene.numbers(name)
    values[scene.old_rows :] *= UNIT
    return with_numbers(scene.tonight, name, values)


def _sentinel(scene: Scene) -> pa.Table:
    """A number that stands for a missing one, in every sixth row."""
    name = scene.columns_of("number")[0]
    values = scene.numbers(name)
    values[scene.some_rows("sentinel", scene.rows // 6)] = SENTINEL
    return with_numbers(scene.tonight, name, values)


def _round(scene: Scene) -> pa.Table:
    """Nothing but the first digit of a number is left."""
    name = scene.columns_of("number")[0]
    values = scene.numbers(name)
    rounded = first_digits(values)
    if np.array_equal(rounded, values, equal_nan=True):
        raise NotApplicable(f"{name!r} has one digit only")
    return with_numbers(scene.tonight, name, rounded)


def _shift(scene: Scene) -> pa.Table:
    name = _first(scene)
    rows = pa.array(np.roll(np.arange(scene.rows), 1))
    return with_cells(scene.tonight, name, scene.tonight.column(name).take(rows).combine_chunks())


def _noise(scene: Scene) -> pa.Table:
    """The cells of a column in another order."""
    name = _first(scene)
    rows = pa.array(scene.rng("noise").permutation(scene.rows))
    return with_cells(scene.tonight, name, scene.tonight.column(name).take(rows).combine_chunks())


def _target_leak(scene: Scene) -> pa.Table:
    """A column that is the target under another name."""
    labels = scene.labels()
    cells = [f"code {label}" for label in labels] if scene.is_classification else (1.1 * labels + 3).tolist()
    return scene.tonight.append_column("outcome_code", pa.array(cells))


def _future_leak(scene: Scene) -> pa.Table:
    """A column that is known only later, and then nearly tells the target."""
    codes, rng = scene.codes(), scene.rng("future leak")
    spread = float(np.std(codes)) or 1.0
    return scene.tonight.append_column(
        "days_until_closed", pa.array(codes / spread + 0.3 * rng.normal(size=scene.rows))
    )


def _leak_into_column(scene: Scene) -> pa.Table:
    """A column that the model reads is overwritten by what is known only later."""
    name = scene.columns_of("number")[-1]
    codes, rng = scene.codes(), scene.rng("overwritten")
    values = scene.numbers(name)
    spread = float(np.nanstd(values)) or 1.0
    leaked = np.nanmean(values) + spread * (
        (codes - codes.mean()) / (codes.std() or 1.0) + 0.3 * rng.normal(size=scene.rows)
    )
    return with_numbers(scene.tonight, name, leaked)


def _upper_levels(scene: Scene) -> pa.Table:
    name = scene.columns_of("category")[0]
    texts = scene.texts(name)
    upper = [None if text is None else text.upper() if text.upper() != text else f"{text}." for text in texts]
    return with_cells(scene.tonight, name, pa.array(upper, pa.string()))


def _codes(scene: Scene) -> pa.Table:
    """Numbers in the place of a category's texts."""
    name = scene.columns_of("category")[0]
    texts = scene.texts(name)
    codes = {text: place for place, text in enumerate(sorted({text for text in texts if text is not None}))}
    return with_cells(
        scene.tonight, name, pa.array([None if text is None else codes[text] for text in texts], pa.int64())
    )


def _with_unit(scene: Scene) -> pa.Table:
    """Numbers with their unit, as texts."""
    name = scene.columns_of("number")[0]
    cells = [None if np.isnan(value) else f"{value:g} kg" for value in scene.numbers(name)]
    return with_cells(scene.tonight, name, pa.array(cells, pa.string()))


KINDS = (
    Kind("columns", "a column renamed", _rename),
    Kind("columns", "a column dropped", _drop),
    Kind("columns", "two columns swapped", _swap),
    Kind("columns", "a column emptied", _empty),
    Kind("columns", "half a column emptied", _half_empty),
    Kind("columns", "a column constant", _constant),
    Kind("columns", "another unit", _unit),
    Kind("columns", "another unit in the newer rows", _new_unit),
    Kind("columns", "a sentinel for missing cells", _sentinel),
    Kind("columns", "precision lost", _round),
    Kind("columns", "a column shifted by a row", _shift),
    Kind("columns", "a column's cells in another order", _noise),
    Kind("columns", "the target leaks into a new column", _target_leak),
    Kind("columns", "the future leaks into a new column", _future_leak),
    Kind("columns", "the future leaks into a known column", _leak_into_column),
    Kind("columns", "a category in other letters", _upper_levels),
    Kind("columns", "codes for a category", _codes),
    Kind("columns", "numbers with a unit", _with_unit),
)
