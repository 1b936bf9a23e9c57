"""Good nights: a table as it should be, which nothing may stop."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from ai.ml.retraining.drill.formats import to_csv
from ai.ml.retraining.drill.kind import File, Kind, Scene, with_labels, with_numbers

NOISE = 0.01
"""Of a column's spread."""


def _grown(scene: Scene) -> pa.Table:
    return scene.tonight


def _grown_by(scene: Scene, share: float) -> pa.Table:
    """A part of the newer rows only."""
    return scene.tonight.slice(0, scene.old_rows + round(share * (scene.rows - scene.old_rows)))


def _other_columns(scene: Scene) -> pa.Table:
    return scene.tonight.select(list(reversed(scene.tonight.column_names)))


def _other_rows(scene: Scene) -> pa.Table:
    return scene.tonight.take(pa.array(scene.rng("order").permutation(scene.rows)))


def _noise(scene: Scene) -> pa.Table:
    """A little noise on every number of fractions."""
    table, rng = scene.tonight, scene.rng("noise")
    for name in scene.number_columns:
        values = scene.numbers(name)
        if (values[~np.isnan(values)] % 1 != 0).any():
            table = with_numbers(table, name, values + NOISE * np.nanstd(values) * rng.normal(size=len(values)))
    return table


def _corrected(scene: Scene) -> pa.Table:
    """One label of two hundred was wrong and is put right."""
    labels, rng = scene.labels(), scene.rng("corrected")
    places = rng.permutation(scene.rows)[: scene.rows // 200]
    labels[places] = rng.permutation(scene.labels())[: len(places)]
    return with_labels(scene, labels)


def _window(scene: Scene) -> pa.Table:
    """The oldest rows have left the table."""
    return scene.tonight.slice(scene.rows - scene.old_rows)


def _new_rows_only(scene: Scene) -> pa.Table:
    """Other rows of the same world, not one that the champion knows."""
    return scene.tonight.slice(scene.old_rows)


def _few_missing(scene: Scene) -> pa.Table:
    """One cell of a hundred more is missing in every column of numbers."""
    table, rng = scene.tonight, scene.rng("few missing")
    for name in scene.number_columns:
        values = scene.numbers(name)
        values[rng.random(scene.rows) < 0.01] = np.nan
        table = with_numbers(table, name, values)
    return table


def _csv(scene: Scene, delimiter: str, mark: str) -> File:
    return File((mark + to_csv(scene.tonight, delimiter)).encode())


def _resampled(scene: Scene, seed: int) -> pa.Table:
    """The champion's rows, and of the newer ones two of three by chance."""
    newer = np.arange(scene.old_rows, scene.rows)
    chosen = scene.rng(f"good {seed}").permutation(newer)[: 2 * len(newer) // 3]
    return scene.tonight.take(pa.array([*range(scene.old_rows), *np.sort(chosen).tolist()]))


KINDS = (
    Kind("good", "more rows", _grown),
    Kind("good", "a few more rows", partial(_grown_by, share=0.2)),
    Kind("good", "columns in another order", _other_columns),
    Kind("good", "rows in another order", _other_rows),
    Kind("good", "a little noise", _noise),
    Kind("good", "some labels corrected", _corrected),
    Kind("good", "the oldest rows left out", _window),
    Kind("good", "new rows only", _new_rows_only),
    Kind("good", "a few more cells missing", _few_missing),
    Kind("good", "the same as CSV", partial(_csv, delimiter=",", mark="")),
    Kind("good", "as CSV with semicolons and a mark of its order", partial(_csv, delimiter=";", mark="\ufeff")),
    *(Kind("good", f"other new rows, {seed}", partial(_resampled, seed=seed)) for seed in (1, 2)),
)
