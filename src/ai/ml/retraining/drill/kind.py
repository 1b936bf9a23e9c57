"""One way in which a table goes wrong, and the tables that it is tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa

from ai.ml.core.contract.target import target_array, target_values
from ai.ml.core.files.atomic import sha256_bytes
from ai.ml.core.input_contract import InputContract
from ai.ml.core.tables.cells import one_array, read_numbers

Family = Literal["labels", "columns", "rows", "format", "target", "good"]
FAMILIES: tuple[Family, ...] = ("labels", "columns", "rows", "format", "target", "good")


class NotApplicable(Exception):
    """The table has nothing that this could break; the message says what it lacks."""


@dataclass(frozen=True)
class File:
    """A night's table as a file."""

    content: bytes
    suffix: str = ".csv"


@dataclass(frozen=True)
class Scene:
    """Three cuts of the user's table, and what is known of its columns."""

    champions: pa.Table
    """What the champion learned from and was measured on."""
    tonight: pa.Table
    """The champion's rows and then the newer ones: an undamaged night."""
    kept: pa.Table
    """Rows that neither model sees, for the truth."""
    contract: InputContract
    """The champion's."""

    @property
    def target(self) -> str:
        """The target's column."""
        return self.contract.target_column

    @property
    def is_classification(self) -> bool:
        """Whether labels are classes."""
        return self.contract.task == "classification"

    @property
    def rows(self) -> int:
        """Of tonight."""
        return self.tonight.num_rows

    @property
    def old_rows(self) -> int:
        """Of tonight, those that the champion knew: the first ones."""
        return self.champions.num_rows

    def labels(self) -> np.ndarray:
        """`(n_rows,)` texts as objects, or float64, of tonight; to be changed at will."""
        return target_values(self.contract, self.tonight).copy()

    def rng(self, name: str) -> np.random.Generator:
        """Chance that is the same for a kind in every drill."""
        return np.random.default_rng(int(sha256_bytes(name.encode())[:8], 16))

    def some_rows(self, name: str, count: int) -> np.ndarray:
        """Numbers of `count` of tonight's rows, by a kind's own chance."""
        return self.rng(name).permutation(self.rows)[:count]

    def codes(self) -> np.ndarray:
        """`(n_rows,)` float64 of tonight's labels: the classes numbered in the order of their names, or the values."""
        labels = self.labels()
        if not self.is_classification:
            return labels
        return np.unique(labels.astype(str), return_inverse=True)[1].astype(np.float64)

    @cached_property
    def number_columns(self) -> tuple[str, ...]:
        """Columns of numbers, those that say most of the target first."""
        names = [column.name for column in self.contract.columns if column.kind == "number"]
        said = {name: _association(self.numbers(name), self.labels()) for name in names}
        return tuple(sorted(names, key=lambda name: -said[name]))

    def columns_of(self, kind: Literal["number", "category", "date"], least: int = 1) -> tuple[str, ...]:
        """Names of the columns of a kind; those of numbers that say most first.

        Raises:
            NotApplicable: there are fewer than `least`.
        """
        names = tuple(column.name for column in self.contract.columns if column.kind == kind)
        if len(names) < least:
            raise NotApplicable(f"it takes {least} {kind} column{'s' * (least != 1)}, the table has {len(names)}")
        return self.number_columns if kind == "number" else names

    def numbers(self, name: str) -> np.ndarray:
        """`(n_rows,)` float64 of a column, NaN where a cell is missing."""
        return read_numbers(one_array(self.tonight.column(name)))[0].astype(np.float64)

    def texts(self, name: str) -> list[str | None]:
        """A column's cells as texts."""
        return [None if cell is None else str(cell) for cell in self.tonight.column(name).to_pylist()]


@dataclass(frozen=True)
class Kind:
    """One way to break a table, or for the family `good` one that breaks nothing."""

    family: Family
    name: str
    make: Callable[[Scene], pa.Table | File]
    """Raises `NotApplicable`."""


def with_cells(table: pa.Table, name: str, cells: pa.Array | list[object]) -> pa.Table:
    """The table with other cells under a name."""
    place = table.column_names.index(name)
    return table.set_column(place, name, cells if isinstance(cells, pa.Array) else pa.array(cells))


def with_numbers(table: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    """The table with other numbers under a name, NaN as missing cells."""
    return with_cells(table, name, pa.array(values, mask=np.isnan(values)))


def with_gaps(table: pa.Table, name: str, places: np.ndarray) -> pa.Table:
    """The table with some of a column's cells missing."""
    cells = table.column(name).to_pylist()
    for place in places:
        cells[place] = None
    return with_cells(table, name, pa.array(cells, table.schema.field(name).type))


def first_digits(values: np.ndarray) -> np.ndarray:
    """`(n,)` float64 of numbers rounded to their first digit."""
    size = 10.0 ** np.floor(np.log10(np.where(values == 0, 1.0, np.abs(values))))
    return np.round(values / size) * size


def with_labels(scene: Scene, labels: np.ndarray) -> pa.Table:
    """Tonight with other labels `(n_rows,)`, each a class of the table's own or a number."""
    name = target_name(scene)
    if not scene.is_classification:
        return with_cells(scene.tonight, name, pa.array(labels.astype(np.float64)))
    now = scene.labels()
    place = {label: row for row, label in reversed(list(enumerate(now)))}
    rows = pa.array([place[label] for label in labels])
    return with_cells(scene.tonight, name, target_array(scene.tonight, scene.target).take(rows))


def target_name(scene: Scene) -> str:
    """The target's column as tonight's table spells it."""
    names = scene.tonight.column_names
    return (
        scene.target if scene.target in names else next(name for name in names if name.strip() == scene.target.strip())
    )


def _association(values: np.ndarray, target: np.ndarray) -> float:
    """How much a column of numbers says of the target: a share of variance, 0 to 1."""
    known = ~np.isnan(values)
    if known.sum() < 10 or np.ptp(values[known]) == 0:
        return 0.0
    ranks = np.argsort(np.argsort(values[known])).astype(np.float64)
    if target.dtype.kind == "f":
        others = np.argsort(np.argsort(target[known])).astype(np.float64)
        return float(np.corrcoef(ranks, others)[0, 1] ** 2) * float(known.mean())
    codes = np.unique(target[known].astype(str), return_inverse=True)[1]
    means = np.bincount(codes, ranks) / np.bincount(codes)
    return float(np.var(means[codes]) / np.var(ranks)) * float(known.mean())
