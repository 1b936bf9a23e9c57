"""Whether labels and their relation to the inputs have changed since the champion: four measures with intervals.

Known rows whose label is another now; the target's own distribution; the champion's loss on rows that are new to it
against its loss at its promotion; the challenger's against the same. None of it can be told apart from a world that has
changed, so it holds a night and says so: a person knows which of the two it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ai.ml.core.contract.drift import ColumnDrift, measure_values
from ai.ml.core.contract.target_record import factor_between
from ai.ml.core.input_contract import ColumnContract, InputContract
from ai.ml.core.number_text import figure
from ai.ml.retraining.decision.metrics import row_losses
from ai.ml.retraining.decision.predictions import Predictions
from ai.ml.retraining.decision.two_samples import unpaired_rise
from ai.ml.retraining.settings.target_check import TargetCheckSettings

MIN_MATCHED = 20
"""Minimum of rows that occur again, for a comparison of their labels."""
MIN_NEW = 50
"""Minimum of new rows for a loss of their own; with fewer, all rows count that the champion never learned from."""
MIN_RISE = {"log_loss": 0.02, "rmse": 0.01}
"""A loss near 0 may rise by this, whatever share of it that is: nats, or a part of the target's spread."""
MAX_CHANCE = 0.001
"""The probability of such a drift by chance."""
EXPECTED = 10.0
"""Expected rows of a class, from which on their absence can't be chance."""
SAME_VALUE = 1e-6


@dataclass(frozen=True)
class KnownRows:
    """Rows by their identifying number, with their labels."""

    keys: np.ndarray
    """`(n_rows,)` uint64."""
    labels: np.ndarray
    """`(n_rows,)` texts as objects, or float64."""


@dataclass
class TargetCheck:
    """The measurements, those beyond a limit, and those that couldn't be made."""

    beyond: list[str] = field(default_factory=list[str])
    """One phrase for each limit that is significantly exceeded."""
    noted: list[str] = field(default_factory=list[str])
    """Notes on the table that hold no promotion."""
    unknown: list[str] = field(default_factory=list[str])
    figures: dict[str, Any] = field(default_factory=dict[str, Any])
    """The figures in the ledger's form."""

    def to_json(self) -> dict[str, Any]:
        """The findings as JSON values."""
        lists = {name: list(getattr(self, name)) for name in ("beyond", "noted", "unknown")}
        return lists | self.figures


def check_labels(
    check: TargetCheck, before: KnownRows, now: KnownRows, settings: TargetCheckSettings, *, whole: bool = False
) -> None:
    """Compare the labels of rows that the champion was measured on with those that the same rows have now.

    Only rows whose cells are unlike all others' count. Where equal cells with unequal labels are usual, some of these
    are other rows by accident; as many are allowed for.

    Args:
        check: gets figures and phrases.
        before: of the champion's evidence.
        now: tonight's rows among which they may be.
        settings: the limits.
        whole: whether all of tonight's rows that could be among them are there: then one that isn't is gone.
    """
    old, conflicts = _unambiguous(before)
    new, _ = _unambiguous(now)
    if whole:
        gone = int((~np.isin(before.keys, now.keys)).sum())
        check.figures["known_rows"] = {"rows": len(before.keys), "gone": gone}
        if gone:
            check.noted.append(
                f"{gone:,} of the {len(before.keys):,} rows that the champion was measured on don't come again as they "
                "were"
            )
    _, first, second = np.intersect1d(old.keys, new.keys, assume_unique=True, return_indices=True)
    matched = len(first)
    if matched < MIN_MATCHED:
        return
    changed = ~_same(old.labels[first], new.labels[second])
    share, low = float(changed.mean()), _least_share(int(changed.sum()), matched, settings.confidence)
    accidents = conflicts * len(now.keys) / len(before.keys) / matched
    check.figures["changed_labels"] = {
        "rows": matched,
        "changed": int(changed.sum()),
        "at_least": low,
        "by_accident": accidents,
    }
    if share <= accidents:
        return
    sentence = f"{changed.sum():,} of {matched:,} rows that it knows have another label now ({share:.0%})"
    sentence += _example(old.labels[first][changed], new.labels[second][changed])
    (check.beyond if low - accidents > settings.changed_labels else check.noted).append(sentence)


def check_distribution(
    check: TargetCheck, record: ColumnContract, rows: int, values: np.ndarray, settings: TargetCheckSettings
) -> None:
    """Compare tonight's target with the champion's record of its own.

    Args:
        check: gets figures and phrases.
        record: class counts or percentiles.
        rows: that the record was made of.
        values: `(n_rows,)` texts as objects, or float64.
        settings: the limits.
    """
    drift = measure_values(record, values, rows)
    check.figures["target_drift"] = {"psi": drift.psi, "psi_p_value": drift.psi_p_value, "ks": drift.ks}
    if record.levels is not None:
        total = sum(record.levels.values())
        come = {str(value) for value in values}
        lost = [
            label
            for label, count in record.levels.items()
            if label not in come and count / total * len(values) >= EXPECTED
        ]
        check.beyond += [
            f"class {label!r} doesn't come any more ({record.levels[label]:,} rows at its training)" for label in lost
        ]
        if lost:
            return
    if _is_beyond(drift, settings):
        check.beyond.append(f"the target has moved: {_moved(record, values)} ({_figures(drift)})")


def check_new_labels(check: TargetCheck, contract: InputContract, values: np.ndarray) -> None:
    """Compare the target of rows that came since the champion's training with its record, where there are enough.

    Outcomes that aren't known yet come as the commonest class, or as one amount: among all rows that is a small drift.

    Args:
        check: gets figures and phrases.
        contract: the champion's.
        values: `(n_new_rows,)` texts as objects, or float64.
    """
    record = contract.target
    if record is None or len(values) < MIN_NEW:
        return
    drift = measure_values(record, values, contract.rows)
    check.figures["new_target_drift"] = {"rows": len(values), "psi": drift.psi, "psi_p_value": drift.psi_p_value}
    if drift.severity == "major" and drift.psi_p_value < MAX_CHANCE:
        sentence = f"the target of {len(values):,} new rows isn't what it was: {_moved(record, values)}"
        check.beyond.append(f"{sentence} ({_figures(drift)})")


def check_loss(
    check: TargetCheck, who: str, before: Predictions, now: Predictions, limit: float, confidence: float
) -> None:
    """Compare a loss on tonight's rows with the champion's loss at its promotion.

    Args:
        check: gets figures and phrases.
        who: `the live model` or `the challenger`.
        before: the champion's answers to the rows that it was promoted on.
        now: answers to rows of tonight, none of them learned from.
        limit: the share of the loss by which it may have risen.
        confidence: of the interval.
    """
    metric = "log_loss" if before.task == "classification" else "rmse"
    old, new = row_losses(before), row_losses(now)
    if len(old) < 2 or len(new) < 2 or not (np.isfinite(old).all() and np.isfinite(new).all()):
        return
    rise = unpaired_rise(old, new, root=metric == "rmse", confidence=confidence)
    value = float(np.sqrt(old.mean()) if metric == "rmse" else old.mean())
    spread = 1.0 if metric == "log_loss" else float(np.std(before.truth))
    name = "champion_loss" if who == "the live model" else "challenger_loss"
    check.figures[name] = {
        "metric": metric,
        "before": value,
        "now": value + rise.estimate,
        "rows_before": len(old),
        "rows": len(new),
        "rise": {"estimate": rise.estimate, "low": rise.low, "high": rise.high},
    }
    if rise.low <= max(limit * value, MIN_RISE[metric] * spread):
        return
    words, then, today = metric.replace("_", " ").replace("rmse", "RMSE"), figure(value), figure(value + rise.estimate)
    if who == "the live model":
        check.beyond.append(
            f"the live model's {words} went from {then} at its promotion to {today} on {len(new):,} rows"
        )
    else:
        check.beyond.append(f"the challenger's {words} is {today} where the live model had {then} at its promotion")


def new_to(before: KnownRows, keys: np.ndarray) -> np.ndarray:
    """`(n_rows,)` bool: which rows the champion wasn't measured on, or all of them where too few are new."""
    new = is_new(before, keys)
    return new if new.sum() >= MIN_NEW else np.ones(len(keys), dtype=bool)


def is_new(before: KnownRows, keys: np.ndarray) -> np.ndarray:
    """`(n_rows,)` bool: which rows the champion wasn't measured on."""
    return ~np.isin(keys, before.keys)


def _unambiguous(rows: KnownRows) -> tuple[KnownRows, int]:
    """One row for each key that goes with one label, and how many rows have a key that goes with several."""
    labels = rows.labels.astype(str) if rows.labels.dtype == object else rows.labels
    pairs = np.unique(np.rec.fromarrays([rows.keys, labels]))
    keys, counts = np.unique(pairs["f0"], return_counts=True)
    alone = np.isin(pairs["f0"], keys[counts == 1])
    return KnownRows(pairs["f0"][alone], pairs["f1"][alone]), int((~alone).sum())


def _same(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    if old.dtype.kind != "f":
        return old == new
    return np.isclose(old, new, rtol=SAME_VALUE, atol=0.0)


def _least_share(count: int, rows: int, confidence: float) -> float:
    """The lower end of Clopper and Pearson's interval."""
    from scipy.stats import beta

    return 0.0 if not count else float(beta.ppf((1 - confidence) / 2, count, rows - count + 1))


def _example(old: np.ndarray, new: np.ndarray) -> str:
    if old.dtype.kind == "f":
        known = (old != 0) & (new != 0)
        ratios = new[known] / old[known]
        if known.sum() and np.quantile(np.abs(ratios / np.median(ratios) - 1), 0.9) < 0.01:
            return f", {figure(float(np.median(ratios)))} times what it was"
        return f", such as {figure(float(new[0]))} for {figure(float(old[0]))}"
    pairs, counts = np.unique(np.rec.fromarrays([old, new]), return_counts=True)
    was, now = pairs[int(counts.argmax())]
    return f", most often {str(now)!r} for {str(was)!r}"


def _is_beyond(drift: ColumnDrift, settings: TargetCheckSettings) -> bool:
    is_major = drift.severity == "major" or settings.target_drift == "moderate"
    chance = min(drift.psi_p_value, 1.0 if drift.ks_p_value is None else drift.ks_p_value)
    return drift.severity != "stable" and is_major and chance < MAX_CHANCE


def _figures(drift: ColumnDrift) -> str:
    return f"PSI {drift.psi:.2f}" + ("" if drift.ks is None else f", KS {drift.ks:.2f}")


def _moved(record: ColumnContract, values: np.ndarray) -> str:
    if record.levels is None:
        factor = factor_between(record, values)
        middle = f"the median was {figure(record.quantiles[50])} and is {figure(float(np.median(values)))}"
        return middle if factor is None else f"{middle}, all about {figure(factor, 3)} times what they were"
    total = sum(record.levels.values())
    labels, counts = np.unique(values.astype(str), return_counts=True)
    now = dict(zip(labels.tolist(), (counts / len(values)).tolist(), strict=True))
    shares = {label: (count / total, now.get(label, 0.0)) for label, count in record.levels.items()}
    label = max(shares, key=lambda each: abs(shares[each][1] - shares[each][0]))
    was, has = shares[label]
    return f"class {label!r} was {was:.1%} of the rows and is {has:.1%}"
