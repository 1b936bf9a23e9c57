"""Two bundles on the same rows: metrics with the gain of one over the other, slices, and the rows that differ most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ai.ml.core.contract.problem import problem_change, problem_of
from ai.ml.core.errors import DataRefused
from ai.ml.retraining.decision.evaluation import EvaluatedBundle, unknown_classes, with_known_classes
from ai.ml.retraining.decision.metrics import finite, gains, measure
from ai.ml.retraining.decision.predictions import Predictions, rows_of
from ai.ml.retraining.settings.decision import METRICS, DecisionSettings

MIN_SLICE_ROWS = 5
MAX_SLICES = 50


@dataclass(frozen=True)
class SideBySide:
    """The comparison of two bundles on the same rows."""

    rows: int
    metrics: dict[str, dict[str, Any]]
    """By metric: `first`, `second`, and `gain` of the second over the first with its interval."""
    slices: dict[str, dict[str, Any]]
    """By the value of the slice column: `rows`, and the metric that decides as above."""
    apart: list[dict[str, Any]]
    """The rows whose answers differ most: number of the row from 1 on, truth, both answers, by how much, its cells."""
    note: str | None = None
    """Rows that were left out, for their class."""

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return dict(vars(self))


def side_by_side(
    first: EvaluatedBundle, second: EvaluatedBundle, table: pa.Table, slice_column: str | None, most_apart: int
) -> SideBySide:
    """Score the same rows with two bundles.

    Args:
        first: of a model.
        second: of the same model or another that answers the same question.
        table: raw rows with their truth.
        slice_column: whose values are looked at one by one; None for none.
        most_apart: how many of the rows that differ most.

    Raises:
        DataRefused: the two answer different questions, a row meets no contract, there are none, or no such column.
    """
    change = problem_change(first.contract, problem_of(second.contract), "the first one")
    if change is not None:
        raise DataRefused(f"the two bundles can't be compared: of the second {change}")
    if slice_column is not None and slice_column not in table.column_names:
        raise DataRefused(f"slice column {slice_column!r} is not in the table")
    if not table.num_rows:
        raise DataRefused("the table has no rows to compare on")
    unknown = unknown_classes(first, table)
    one, other = (with_known_classes(bundle.predictions(table)) for bundle in (first, second))
    known = table
    if one.task == "classification" and len(one.truth) < table.num_rows:
        known = table.filter(pa.array(first.truth(table) >= 0))
    return SideBySide(
        len(one.truth),
        _metrics(one, other),
        {} if slice_column is None else _slices(one, other, known, slice_column),
        _apart(first, one, other, known, most_apart),
        None if unknown is None else f"{unknown}: left out",
    )


def _metrics(first: Predictions, second: Predictions) -> dict[str, dict[str, Any]]:
    policy, names = DecisionSettings(), METRICS[first.task]
    values = [finite(measure(each, policy, names)) for each in (first, second)]
    found = gains(second, first, policy, [name for name in values[1] if name in values[0]])
    return {
        name: {"first": values[0][name], "second": values[1][name], "gain": finite(vars(gain))}
        for name, gain in found.items()
    }


def _slices(first: Predictions, second: Predictions, table: pa.Table, column: str) -> dict[str, dict[str, Any]]:
    texts = np.array([str(cell) for cell in table[column].to_pylist()])
    names, counts = np.unique(texts, return_counts=True)
    found: dict[str, dict[str, Any]] = {}
    metric = "log_loss" if first.task == "classification" else "rmse"
    for name in names[np.argsort(-counts, kind="stable")][:MAX_SLICES]:
        rows = texts == name
        if rows.sum() >= MIN_SLICE_ROWS:
            parts = [replace(rows_of(each, rows), slices=None) for each in (first, second)]
            found[str(name)] = {"rows": int(rows.sum()), "metric": metric, **_metrics(*parts)[metric]}
    return found


def _apart(
    bundle: EvaluatedBundle, first: Predictions, second: Predictions, table: pa.Table, most: int
) -> list[dict[str, Any]]:
    differences = np.abs(first.answers - second.answers)
    if first.task == "classification":
        differences = differences.max(axis=1)
    indices = np.argsort(-differences, kind="stable")[:most]
    rows = table.take(pa.array(indices)).to_pylist()
    found: list[dict[str, Any]] = []
    for index, cells in zip(indices, rows, strict=True):
        answers = [_answer(bundle, each, int(index)) for each in (first, second)]
        truth = first.truth[index]
        shown_truth = bundle.classes[int(truth)] if first.task == "classification" else float(truth)
        found.append(
            {"row": int(index) + 1, "truth": shown_truth, "first": answers[0], "second": answers[1]}
            | {"difference": float(differences[index]), "cells": {name: _plain(cell) for name, cell in cells.items()}}
        )
    return found


def _answer(bundle: EvaluatedBundle, predictions: Predictions, index: int) -> Any:
    """A number, or the likeliest class with its probability."""
    if predictions.task == "regression":
        return float(predictions.answers[index])
    likeliest = int(predictions.answers[index].argmax())
    return {"class": bundle.classes[likeliest], "probability": float(predictions.answers[index, likeliest])}


def _plain(cell: Any) -> Any:
    return cell if cell is None or isinstance(cell, bool | int | str) else str(cell)
