"""What the answers hang on: permutation importance of the raw columns, and partial dependence of the top ones.

Both ask the model through its scorer with raw cells changed, so that what a column does through all its features is
seen as one. scikit-learn's `permutation_importance` wants a matrix; the idea is the same: Breiman L (2001), Random
Forests, section 10.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ai.ml.core.contract import ColumnContract
from ai.ml.core.input_contract import Kind
from ai.ml.retraining.decision.evaluation import EvaluatedBundle
from ai.ml.retraining.decision.metrics import measure
from ai.ml.retraining.decision.predictions import Predictions

REPEATS = 5
BUDGET_ROWS = 1_000_000
"""Rows that all permutations together may score."""
MAX_ROWS, MIN_ROWS = 2_000, 100
MAX_COLUMNS = 400
CURVE_ROWS = 200
CURVE_POINTS = 15
CURVE_LEVELS = 10
EPOCH = datetime.date(1970, 1, 1)


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
    kind: Kind
    grid: tuple[Any, ...]
    """`(n_points,)` numbers, texts, or a date's days since 1970-01-01."""
    averages: np.ndarray
    """`(n_outputs, n_points)` float64: probability of each class, or the value."""
    deciles: tuple[float, ...]
    """Of the training values; empty for a category."""
    levels: int = 0
    """Of a category, of which the most frequent are in the grid."""


def permutation_importance(subject: EvaluatedBundle, table: pa.Table, seed: int = 0) -> tuple[list[Importance], int]:
    """Importance of each raw column, the greatest first, and how many rows it was measured on.

    Args:
        subject: the model.
        table: raw rows with their truth.
        seed: of the sample and the shuffles.
    """
    columns = [column.name for column in subject.contract.columns][:MAX_COLUMNS]
    rng = np.random.default_rng(seed)
    affordable = BUDGET_ROWS // max(1, REPEATS * len(columns))
    rows = min(table.num_rows, max(MIN_ROWS, min(MAX_ROWS, affordable)))
    sample = table.take(pa.array(np.sort(rng.permutation(table.num_rows)[:rows])))
    truth = subject.truth(sample)
    base = _loss(subject, truth, sample)
    importances: list[Importance] = []
    for name in columns:
        position = sample.column_names.index(name)
        drops: list[float] = []
        for _ in range(REPEATS):
            shuffled = sample.column(position).take(pa.array(rng.permutation(rows)))
            drops.append(_loss(subject, truth, sample.set_column(position, name, shuffled)) - base)
        importances.append(Importance(name, float(np.mean(drops)), float(np.std(drops)), tuple(drops)))
    return sorted(importances, key=lambda importance: (-importance.mean, importance.column)), rows


def _loss(subject: EvaluatedBundle, truth: np.ndarray, table: pa.Table) -> float:
    scored = Predictions(subject.digest, subject.task, truth, subject.answers(table))
    return measure(scored)["rmse" if subject.task == "regression" else "log_loss"]


def partial_dependence(
    subject: EvaluatedBundle, table: pa.Table, columns: list[str], seed: int = 0
) -> tuple[list[DependenceCurve], list[str]]:
    """A curve per column, and the columns without one, which had fewer than two values at training."""
    rng = np.random.default_rng(seed)
    rows = min(table.num_rows, CURVE_ROWS)
    sample = table.take(pa.array(np.sort(rng.permutation(table.num_rows)[:rows])))
    contracts = {column.name: column for column in subject.contract.columns}
    grids = {name: _grid(contracts[name]) for name in columns}
    curves = [_curve(subject, sample, contracts[name], grid) for name, grid in grids.items() if len(grid) > 1]
    return curves, [name for name, grid in grids.items() if len(grid) < 2]


def _curve(
    subject: EvaluatedBundle, sample: pa.Table, column: ColumnContract, grid: tuple[Any, ...]
) -> DependenceCurve:
    position = sample.column_names.index(column.name)
    averages: list[np.ndarray] = []
    for value in grid:
        answers = subject.answers(sample.set_column(position, column.name, _cells(column.kind, value, sample.num_rows)))
        averages.append(np.atleast_1d(answers.mean(axis=0)))
    deciles = tuple(column.quantiles[10:100:10])
    return DependenceCurve(
        column.name, column.kind, grid, np.stack(averages, axis=1), deciles, len(column.levels or ())
    )


def _cells(kind: Kind, value: Any, rows: int) -> pa.Array:
    """`(rows,)`, the same cell in each, as a raw table has it."""
    if kind == "date":
        return pa.array([EPOCH + datetime.timedelta(days=int(value))] * rows, pa.date32())
    return pa.array([value] * rows, pa.string() if kind == "category" else pa.float64())


def _grid(column: ColumnContract) -> tuple[Any, ...]:
    if column.kind == "category":
        levels = column.levels or {}
        return tuple(sorted(levels, key=lambda text: (-levels[text], text))[:CURVE_LEVELS])
    if len(column.quantiles) < 101:
        return ()
    # Percentiles are values that occurred: for a date, days like those that the model has seen.
    picks = np.linspace(2, 98, CURVE_POINTS).round().astype(int)
    return tuple(float(value) for value in np.unique(np.asarray(column.quantiles)[picks]))
