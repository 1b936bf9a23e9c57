"""What the answers hang on: permutation importance of the raw columns, and partial dependence of the top ones.

Both ask the model through its scorer with raw cells changed, so that what a column does through all its features is
seen as one. scikit-learn's `permutation_importance` wants a matrix; the idea is the same: Breiman L (2001), Random
Forests, section 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ai.ml.core.contract import ColumnContract
from ai.ml.retraining.decision import Scored, measure
from ai.ml.retraining.subject import Subject

REPEATS = 5
BUDGET_ROWS = 1_000_000
"""Rows that all permutations together may score."""
MOST_ROWS, LEAST_ROWS = 2_000, 100
MOST_COLUMNS = 400
CURVE_ROWS = 200
CURVE_POINTS = 15
CURVE_LEVELS = 10


@dataclass(frozen=True)
class Importance:
    """How much worse the decision's metric gets when a column's cells are shuffled."""

    column: str
    mean: float
    spread: float
    """Standard deviation over the repeats."""
    drops: tuple[float, ...]


@dataclass(frozen=True)
class DependenceCurve:
    """The mean answer with every row's cell set to one value after the other."""

    column: str
    categorical: bool
    grid: tuple[Any, ...]
    """`(n_points,)` numbers or texts."""
    averages: np.ndarray
    """`(n_outputs, n_points)` float64: probability of each class, or the value."""
    deciles: tuple[float, ...]
    """Of a number's training values."""


def permutation_importance(subject: Subject, table: pa.Table, seed: int = 0) -> tuple[list[Importance], int]:
    """Importance of each raw column, the greatest first, and how many rows it was measured on.

    Args:
        subject: the model.
        table: raw rows with their truth.
        seed: of the sample and the shuffles.
    """
    columns = [column.name for column in subject.contract.columns][:MOST_COLUMNS]
    rng = np.random.default_rng(seed)
    most = BUDGET_ROWS // max(1, REPEATS * len(columns))
    rows = min(table.num_rows, max(LEAST_ROWS, min(MOST_ROWS, most)))
    sample = table.take(pa.array(np.sort(rng.permutation(table.num_rows)[:rows])))
    truth = subject.truth(sample)
    base = _loss(subject, truth, sample)
    found: list[Importance] = []
    for name in columns:
        place = sample.column_names.index(name)
        drops: list[float] = []
        for _ in range(REPEATS):
            shuffled = sample.column(place).take(pa.array(rng.permutation(rows)))
            drops.append(_loss(subject, truth, sample.set_column(place, name, shuffled)) - base)
        found.append(Importance(name, float(np.mean(drops)), float(np.std(drops)), tuple(drops)))
    return sorted(found, key=lambda importance: (-importance.mean, importance.column)), rows


def _loss(subject: Subject, truth: np.ndarray, table: pa.Table) -> float:
    scored = Scored(subject.digest, subject.task, truth, subject.answers(table))
    return measure(scored)["rmse" if subject.task == "regression" else "log_loss"]


def partial_dependence(subject: Subject, table: pa.Table, columns: list[str], seed: int = 0) -> list[DependenceCurve]:
    """A curve per column; dates and columns without two values are left out."""
    rng = np.random.default_rng(seed)
    rows = min(table.num_rows, CURVE_ROWS)
    sample = table.take(pa.array(np.sort(rng.permutation(table.num_rows)[:rows])))
    known = {column.name: column for column in subject.contract.columns}
    curves = [_curve(subject, sample, known[name]) for name in columns]
    return [curve for curve in curves if curve is not None]


def _curve(subject: Subject, sample: pa.Table, column: ColumnContract) -> DependenceCurve | None:
    grid = _grid(column)
    if len(grid) < 2:
        return None
    place = sample.column_names.index(column.name)
    kind = pa.string() if column.kind == "category" else pa.float64()
    averages: list[np.ndarray] = []
    for value in grid:
        cells = pa.array([value] * sample.num_rows, kind)
        answers = subject.answers(sample.set_column(place, column.name, cells))
        averages.append(np.atleast_1d(answers.mean(axis=0)))
    deciles = tuple(column.quantiles[10:100:10]) if column.kind == "number" else ()
    return DependenceCurve(column.name, column.kind == "category", grid, np.stack(averages, axis=1), deciles)


def _grid(column: ColumnContract) -> tuple[Any, ...]:
    if column.kind == "category":
        levels = column.levels or {}
        return tuple(sorted(levels, key=lambda text: (-levels[text], text))[:CURVE_LEVELS])
    if column.kind != "number" or len(column.quantiles) < 101:
        return ()
    picks = np.linspace(2, 98, CURVE_POINTS).round().astype(int)
    return tuple(float(value) for value in np.unique(np.asarray(column.quantiles)[picks]))
