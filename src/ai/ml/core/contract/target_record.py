"""The target's own figures: kept with a model, held against a later table, and told to a person."""

from __future__ import annotations

import numpy as np

from ai.ml.core.contract.kinds import percentiles
from ai.ml.core.input_contract import ColumnContract, InputContract
from ai.ml.core.number_text import figure

MOST_CLASSES = 8
"""Named in a sentence with their counts."""


def record_target(contract: InputContract, values: np.ndarray) -> ColumnContract:
    """Class counts or percentiles of a target.

    Args:
        contract: which task it is.
        values: `(n_rows,)` labels as objects, or float64; at least one.
    """
    name = contract.target_column
    if contract.task == "regression":
        ordered = np.sort(values.astype(np.float64))
        return ColumnContract(name, "number", 0.0, float(ordered[0]), float(ordered[-1]), percentiles(ordered))
    labels, counts = np.unique(values.astype(str), return_counts=True)
    levels = {str(label): int(count) for label, count in zip(labels, counts, strict=True)}
    return ColumnContract(name, "category", 0.0, levels=levels)


def target_sentence(contract: InputContract) -> str:
    """`'churned', classification: 'no' 300 (75.0%), 'yes' 100 (25.0%)`, from the contract's record."""
    record, head = contract.target, f"{contract.target_column!r}, {contract.task}"
    if record is None:
        return head
    if record.levels is None:
        least, middle, largest = (figure(record.quantiles[place]) for place in (0, 50, 100))
        return f"{head}: {least} to {largest}, median {middle}"
    total = sum(record.levels.values())
    common = sorted(record.levels.items(), key=lambda item: -item[1])
    shown = [f"{label!r} {count:,} ({count / total:.1%})" for label, count in common[:MOST_CLASSES]]
    rest = [] if len(common) <= MOST_CLASSES else [f"and {len(common) - MOST_CLASSES} more"]
    return f"{head}: {', '.join([*shown, *rest])}"


def factor_between(record: ColumnContract, values: np.ndarray) -> float | None:
    """By which factor all of a number's distribution seems to be multiplied; None where it isn't one factor.

    Args:
        record: of the training.
        values: `(n_rows,)` float64.
    """
    before = np.asarray(record.quantiles, dtype=np.float64)[5:100:5]
    now = np.quantile(values, np.arange(5, 100, 5) / 100)
    known = (before != 0) & (np.sign(before) == np.sign(now))
    if known.sum() < max(5, len(before) / 2):
        return None
    ratios = now[known] / before[known]
    middle = float(np.median(ratios))
    even = np.quantile(np.abs(np.log(ratios / middle)), 0.8) < 0.1
    return middle if even and not 0.8 < middle < 1.25 else None
