"""Labels that went wrong: each on rows whose inputs are as they were."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from ai.ml.retraining.drill.kind import Kind, NotApplicable, Scene, target_name, with_cells, with_labels


def _flip(scene: Scene, share: float) -> pa.Table:
    """Another class, or another row's value, in a share of the rows."""
    labels, rng = scene.labels(), scene.rng(f"flip {share}")
    places = rng.permutation(scene.rows)[: round(share * scene.rows)]
    if scene.is_classification:
        classes = np.array(sorted(set(labels)), dtype=object)
        codes = np.searchsorted(classes.astype(str), labels[places].astype(str))
        labels[places] = classes[(codes + rng.integers(1, len(classes), len(places))) % len(classes)]
    else:
        labels[places] = labels[rng.permutation(places)]
    return with_labels(scene, labels)


def _swap(scene: Scene) -> pa.Table:
    """The two commonest classes change places; values are turned round within their range."""
    labels = scene.labels()
    if not scene.is_classification:
        return with_labels(scene, labels.min() + labels.max() - labels)
    first, second = _by_count(scene)[:2]
    swapped = np.where(labels == first, second, np.where(labels == second, first, labels))
    return with_labels(scene, swapped.astype(object))


def _shuffle(scene: Scene) -> pa.Table:
    return with_labels(scene, scene.rng("shuffle").permutation(scene.labels()))


def _lose_class(scene: Scene) -> pa.Table:
    """No row of the rarest class, of the upper third of the values, comes any more."""
    labels = scene.labels()
    lost = labels == _by_count(scene)[-1] if scene.is_classification else labels > np.quantile(labels, 2 / 3)
    return scene.tonight.filter(pa.array(~lost))


def _new_class(scene: Scene) -> pa.Table:
    """A class, or a marker among the values, that nobody knew, in every twentieth row."""
    places = scene.some_rows("new class", max(2, scene.rows // 20))
    if not scene.is_classification:
        values = scene.labels()
        values[places] = 10 * np.abs(values).max() + 999_999
        return with_labels(scene, values)
    return _spelled(scene, {int(place): "unknown yet" for place in places})


def _shift(scene: Scene) -> pa.Table:
    return with_labels(scene, np.roll(scene.labels(), 1))


def _spell_twice(scene: Scene) -> pa.Table:
    """Every other row of the commonest class is written in other letters, or with a full stop."""
    if not scene.is_classification:
        raise NotApplicable("values have no spellings")
    common = _by_count(scene)[0]
    other = common.upper() if common.upper() != common else common.lower()
    other = f"{common}." if other == common else other
    places = np.flatnonzero(scene.labels() == common)[::2]
    return _spelled(scene, dict.fromkeys(places.tolist(), other))


def _rename_classes(scene: Scene) -> pa.Table:
    """Codes in the place of all classes' names."""
    if not scene.is_classification:
        raise NotApplicable("values have no names")
    codes = {label: f"code {place}" for place, label in enumerate(_by_count(scene))}
    return _spelled(scene, {row: codes[label] for row, label in enumerate(scene.labels())})


def _not_known_yet(scene: Scene) -> pa.Table:
    """The newer rows, whose outcome isn't known yet, come with the commonest label, the median."""
    labels = scene.labels()
    labels[scene.old_rows :] = _by_count(scene)[0] if scene.is_classification else np.median(labels)
    return with_labels(scene, labels)


def _by_count(scene: Scene) -> list[str]:
    """The classes, the commonest first."""
    names, counts = np.unique(scene.labels().astype(str), return_counts=True)
    return [str(name) for name in names[np.argsort(-counts, kind="stable")]]


def _spelled(scene: Scene, changed: dict[int, str]) -> pa.Table:
    texts: list[object] = list(scene.labels())
    for place, label in changed.items():
        texts[place] = label
    return with_cells(scene.tonight, target_name(scene), [str(text) for text in texts])


KINDS = (
    *(Kind("labels", f"{share:.0%} of the labels wrong", partial(_flip, share=share)) for share in (0.05, 0.1, 0.3)),
    Kind("labels", "labels swapped", _swap),
    Kind("labels", "labels shuffled", _shuffle),
    Kind("labels", "a class lost", _lose_class),
    Kind("labels", "a new class", _new_class),
    Kind("labels", "labels shifted by a row", _shift),
    Kind("labels", "a class in two spellings", _spell_twice),
    Kind("labels", "classes renamed to codes", _rename_classes),
    Kind("labels", "outcomes that aren't known yet", _not_known_yet),
)
