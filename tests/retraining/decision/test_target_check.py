"""Labels and world against those that the champion learned: what is beyond a limit, and how often chance is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ai.ml.core.contract.target_record import record_target
from ai.ml.core.input_contract import ColumnContract, InputContract
from ai.ml.retraining.decision.predictions import Predictions
from ai.ml.retraining.decision.target_check import (
    KnownRows,
    TargetCheck,
    check_distribution,
    check_labels,
    check_loss,
    check_new_labels,
    new_to,
)
from ai.ml.retraining.decision.two_samples import unpaired_rise
from ai.ml.retraining.settings.target_check import TargetCheckSettings

SETTINGS = TargetCheckSettings()


def rows(labels: np.ndarray, first_key: int = 0) -> KnownRows:
    return KnownRows(np.arange(first_key, first_key + len(labels), dtype=np.uint64), labels)


def labels_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array(["no", "yes"], dtype=object), count, p=[0.7, 0.3])


def flipped(labels: np.ndarray, share: float) -> np.ndarray:
    changed = labels.copy()
    places = np.random.default_rng(1).permutation(len(labels))[: round(share * len(labels))]
    changed[places] = np.where(labels[places] == "no", "yes", "no")
    return changed


def label_check(before: KnownRows, now: KnownRows) -> TargetCheck:
    check = TargetCheck()
    check_labels(check, before, now, SETTINGS)
    return check


@pytest.mark.parametrize("share", [0.05, 0.1, 1.0])
def test_labels_of_known_rows_that_changed_are_counted_and_named(share: float) -> None:
    labels = labels_of(600)
    check = label_check(rows(labels), rows(flipped(labels, share)))
    assert check.figures["changed_labels"]["changed"] == round(600 * share)
    (said,) = check.beyond
    assert said.startswith(f"{round(600 * share)} of 600 rows that it knows have another label now ({share:.0%})")
    assert "most often 'yes' for 'no'" in said


def test_corrected_labels_new_rows_and_few_rows_are_no_reason() -> None:
    labels = labels_of(600)
    assert not label_check(rows(labels), rows(flipped(labels, 0.01))).beyond
    assert not label_check(rows(labels), rows(flipped(labels, 1.0), first_key=10_000)).figures, (
        "none of them came again"
    )
    assert not label_check(rows(labels[:15]), rows(flipped(labels, 1.0))).figures


def test_cells_that_go_with_two_labels_anyway_are_no_proof() -> None:
    rng = np.random.default_rng(3)
    keys, labels = rng.integers(0, 150, 600).astype(np.uint64), labels_of(600)
    fresh = KnownRows(rng.integers(0, 150, 600).astype(np.uint64), labels_of(600, seed=5))
    check = label_check(KnownRows(keys, labels), fresh)
    assert not check.beyond, check.figures


def test_a_factor_of_all_known_values_is_told() -> None:
    euro = np.random.default_rng(0).lognormal(3, 1, 200)
    (said,) = label_check(rows(euro), rows(100 * euro)).beyond
    assert said.endswith("(100%), 100 times what it was")
    (moved,) = label_check(rows(euro), rows(np.roll(euro, 1))).beyond
    assert "such as" in moved


def contract(task: str) -> InputContract:
    return InputContract.from_json(
        {"format": 1, "target_column": "y", "task": task, "classes": None, "columns": [], "rows": 0}
    )


def distribution(record: ColumnContract, values: np.ndarray) -> list[str]:
    check = TargetCheck()
    check_distribution(check, record, 2_000, values, SETTINGS)
    return check.beyond


def test_the_targets_own_drift_names_class_or_factor() -> None:
    record = record_target(contract("classification"), labels_of(2_000))
    assert distribution(record, labels_of(700, seed=4)) == []
    swapped = flipped(labels_of(700, seed=4), 1.0)
    assert distribution(record, swapped)[0].startswith("the target has moved: class ")
    lost = distribution(record, np.array(["no"] * 700, dtype=object))
    assert lost == [f"class 'yes' doesn't come any more ({record.levels['yes']:,} rows at its training)"]
    values = np.random.default_rng(0).lognormal(3, 1, 2_000)
    numbers = record_target(contract("regression"), values)
    assert distribution(numbers, np.random.default_rng(1).lognormal(3, 1, 500)) == []
    (scaled,) = distribution(numbers, 100 * values)
    assert "all about 100 times what they were" in scaled


def test_outcomes_that_are_not_known_yet_are_seen_in_the_new_rows_alone() -> None:
    """Among all rows they are a small drift."""
    rng = np.random.default_rng(5)
    for task, labels in (("classification", labels_of(2_000)), ("regression", rng.lognormal(3, 1, 2_000))):
        record = record_target(contract(task), labels)
        known = replace(contract(task), rows=2_000, target=record)
        usual = labels_of(150, seed=4) if task == "classification" else rng.lognormal(3, 1, 150)
        middle = "no" if task == "classification" else float(np.median(labels))
        for values, beyond in (
            (usual, 0),
            (np.full(150, middle, usual.dtype), 1),
            (np.full(40, middle, usual.dtype), 0),
        ):
            check = TargetCheck()
            check_new_labels(check, known, values)
            assert len(check.beyond) == beyond
            assert not beyond or check.beyond[0].startswith("the target of 150 new rows isn't what it was: ")


def scored(sharpness: float, seed: int, count: int = 400, wrong: float = 0.0) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, count)
    margin = np.where(truth == 1, sharpness, -sharpness) + rng.normal(size=count)
    probability = 1 / (1 + np.exp(-1.5 * margin))
    truth = np.where(rng.random(count) < wrong, 1 - truth, truth)
    return Predictions("d", "classification", truth, np.stack([1 - probability, probability], axis=1))


def losses(before: Predictions, now: Predictions, who: str = "the live model") -> TargetCheck:
    check = TargetCheck()
    check_loss(check, who, before, now, SETTINGS.loss_rise, SETTINGS.confidence)
    return check


def test_a_loss_that_surely_rose_is_told_with_both_figures() -> None:
    check = losses(scored(1.5, 0), scored(1.5, 1, wrong=0.3))
    figures = check.figures["champion_loss"]
    assert figures["rise"]["low"] > 0.25 * figures["before"]
    (said,) = check.beyond
    assert said == (
        f"the live model's log loss went from {figures['before']:.4g} at its promotion to {figures['now']:.4g} "
        "on 400 rows"
    )
    (other,) = losses(scored(1.5, 0), scored(1.5, 1, wrong=0.3), "the challenger").beyond
    assert other.startswith("the challenger's log loss is ")


def test_chance_seldom_holds_a_good_night() -> None:
    held = sum(bool(losses(scored(1.5, seed, 100), scored(1.5, 1_000 + seed, 100)).beyond) for seed in range(300))
    assert held <= 6, "2 % of the good nights"


def test_a_loss_near_zero_may_rise_by_a_little() -> None:
    sure = scored(30, 0)
    assert not losses(sure, scored(20, 1)).beyond
    errors = np.random.default_rng(0).normal(size=300)
    truth = 100 * np.random.default_rng(1).normal(size=300)
    before, now = (Predictions("d", "regression", truth, truth + scale * errors) for scale in (0.01, 0.3))
    assert not losses(before, now).beyond
    (said,) = losses(before, Predictions("d", "regression", truth, truth + 30 * errors)).beyond
    assert "RMSE went from" in said


def test_the_interval_of_two_samples_covers_the_truth() -> None:
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        interval = unpaired_rise(
            rng.exponential(1.0, 200), rng.exponential(1.5, 150), root=False, confidence=0.95, resamples=500
        )
        covered += interval.low <= 0.5 <= interval.high
    assert covered >= 88


def test_rows_that_are_new_to_it_count_alone_where_there_are_enough() -> None:
    known = rows(labels_of(100))
    keys = np.arange(40, 200, dtype=np.uint64)
    assert new_to(known, keys).sum() == 100
    assert new_to(known, keys[:80]).all(), "too few are new: all count"
