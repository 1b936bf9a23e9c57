"""Targets that are another question, or the same one in another measure."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ai.ml.retraining.drill.kind import (
    Kind,
    NotApplicable,
    Scene,
    first_digits,
    target_name,
    with_cells,
    with_gaps,
    with_labels,
)


def _values(scene: Scene) -> np.ndarray:
    if scene.is_classification:
        raise NotApplicable("classes have no measure")
    return scene.labels()


def _another_column(scene: Scene) -> pa.Table:
    """Another column's cells under the target's name: the export's columns moved by one."""
    names = [column.name for column in scene.contract.columns if column.kind == "category"] or list(
        scene.number_columns
    )
    cells = scene.tonight.column(names[0])
    kept = scene.tonight.filter(cells.is_valid())
    return with_cells(kept, target_name(scene), kept.column(names[0]).combine_chunks())


def _scaled(scene: Scene) -> pa.Table:
    return with_labels(scene, 100 * _values(scene))


def _newer_scaled(scene: Scene) -> pa.Table:
    """Only the newer rows are in cents."""
    values = _values(scene)
    values[scene.old_rows :] *= 100
    return with_labels(scene, values)


def _taxed(scene: Scene) -> pa.Table:
    """A fifth more, as with a tax."""
    return with_labels(scene, 1.2 * _values(scene))


def _logged(scene: Scene) -> pa.Table:
    values = _values(scene)
    return with_labels(scene, np.sign(values) * np.log1p(np.abs(values)))


def _rounded(scene: Scene) -> pa.Table:
    """Nothing but the first digit is left."""
    return with_labels(scene, first_digits(_values(scene)))


def _other_task(scene: Scene) -> pa.Table:
    """Numbers for classes, bands for numbers."""
    if scene.is_classification:
        numbers = scene.rng("task").normal(size=scene.rows)
        return with_cells(scene.tonight, target_name(scene), pa.array(numbers))
    bands = np.array(["low", "middle", "high"])[
        np.searchsorted(np.quantile(scene.labels(), [1 / 3, 2 / 3]), scene.labels())
    ]
    return with_cells(scene.tonight, target_name(scene), pa.array(bands.tolist()))


def _merged(scene: Scene) -> pa.Table:
    """Every class but the commonest is called the rest; of values the upper half is cut off at the median."""
    labels = scene.labels()
    if not scene.is_classification:
        return with_labels(scene, np.minimum(labels, np.median(labels)))
    names, counts = np.unique(labels.astype(str), return_counts=True)
    if len(names) < 3:
        raise NotApplicable("it takes three classes")
    common = str(names[counts.argmax()])
    rest = next(str(name) for name in names if name != common)
    return with_labels(scene, np.where(labels == common, common, rest).astype(object))


def _constant(scene: Scene) -> pa.Table:
    labels = scene.labels()
    return with_labels(scene, np.full(scene.rows, labels[0], dtype=labels.dtype))


def _missing(scene: Scene) -> pa.Table:
    """A tenth of the rows have no label."""
    return with_gaps(scene.tonight, target_name(scene), scene.some_rows("no label", scene.rows // 10))


KINDS = (
    Kind("target", "another column under its name", _another_column),
    Kind("target", "scaled by a hundred", _scaled),
    Kind("target", "the newer rows scaled by a hundred", _newer_scaled),
    Kind("target", "a fifth more", _taxed),
    Kind("target", "logarithms", _logged),
    Kind("target", "its first digit only", _rounded),
    Kind("target", "another task", _other_task),
    Kind("target", "classes merged, values cut off", _merged),
    Kind("target", "one label for all", _constant),
    Kind("target", "a tenth of the labels missing", _missing),
)
