from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from builders import mixed_table

from ai.ml.core.contract.derive import derive_contract
from ai.ml.core.contract.drift import measure_values
from ai.ml.core.contract.target import target_values
from ai.ml.core.contract.target_record import factor_between, record_target, target_sentence
from ai.ml.core.input_contract import InputContract
from ai.ml.core.types import TaskType, TrainingConfig


def contract_of(task: TaskType) -> InputContract:
    return derive_contract(mixed_table(400, task=task), TrainingConfig("y")).contract


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_contract_keeps_its_targets_figures_and_reads_old_ones_without(task: TaskType) -> None:
    contract = contract_of(task)
    assert contract.target is not None
    record = json.loads(json.dumps(contract.to_json(), allow_nan=False))
    assert InputContract.from_json(record) == contract
    del record["target"]
    old = InputContract.from_json(record)
    assert old == replace(contract, target=None)
    assert old.to_json() == record, "an old contract is written as it was"


def test_the_sentence_names_task_classes_and_counts() -> None:
    table = mixed_table(400)
    yes = table["y"].to_pylist().count("yes")
    told = target_sentence(contract_of("classification"))
    assert told.startswith("'y', classification: ")
    assert f"'yes' {yes} ({yes / 400:.1%})" in told
    assert f"'no' {400 - yes} ({1 - yes / 400:.1%})" in told
    values = np.array(mixed_table(400, task="regression")["y"].to_pylist())
    assert target_sentence(contract_of("regression")).endswith(f"median {np.sort(values)[199]:.4g}")
    many = record_target(contract_of("classification"), np.array([f"c{i % 20}" for i in range(200)], dtype=object))
    assert target_sentence(replace(contract_of("classification"), target=many)).endswith(", and 12 more")


def test_a_scaled_target_is_told_by_its_factor_and_a_moved_one_is_not() -> None:
    values = np.random.default_rng(0).lognormal(3, 1, 2_000)
    record = record_target(contract_of("regression"), values)
    other = np.random.default_rng(1).lognormal(3, 1, 2_000)
    assert factor_between(record, 100 * other) == pytest.approx(100, rel=0.1)
    assert factor_between(record, other) is None
    assert factor_between(record, np.log(other)) is None


def test_a_targets_drift_is_that_of_a_column() -> None:
    labels = target_values(contract_of("classification"), mixed_table(400))
    record = record_target(contract_of("classification"), labels)
    assert measure_values(record, labels, 400).psi == pytest.approx(0)
    swapped = np.array(["yes" if label == "no" else "no" for label in labels[labels == "no"]], dtype=object)
    moved = measure_values(record, swapped, 400)
    assert (moved.severity, moved.ks) == ("major", None)
    unknown = measure_values(record, np.array(["strange"] * 100, dtype=object), 400)
    assert unknown.severity == "major"
