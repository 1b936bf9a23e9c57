from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from builders import mixed_table
from scipy.stats import ks_2samp

from ai.ml.core.contract import Conformer, InputContract, derive_contract
from ai.ml.core.contract.drift import ColumnDrift, DriftMeter, measure_drift
from ai.ml.core.errors import DataRefused
from ai.ml.core.files.atomic import dump_json
from ai.ml.core.types import TrainingConfig

TRAINING = mixed_table(3000)


def contract() -> InputContract:
    return derive_contract(TRAINING, TrainingConfig("y")).contract


def drift_of(table: pa.Table) -> dict[str, ColumnDrift]:
    return {column.column: column for column in measure_drift(contract(), [table]).columns}


def changed(column: str, cells: object) -> pa.Table:
    table = mixed_table(2000, seed=5)
    return table.set_column(table.schema.get_field_index(column), column, cells)


def test_the_same_distribution_is_stable() -> None:
    report = measure_drift(contract(), [mixed_table(2000, seed=5)])
    assert report.severity == "stable"
    assert max(column.psi for column in report.columns) < 0.05
    assert measure_drift(contract(), [TRAINING]).columns[0].psi < 0.01


@pytest.mark.parametrize("factor", [1.05, 1.3, 3.0])
def test_ks_agrees_with_scipy_on_the_raw_values(factor: float) -> None:
    table = changed("income", pc.multiply(mixed_table(2000, seed=5)["income"], factor))
    exact = ks_2samp(TRAINING["income"].drop_null().to_numpy(), table["income"].drop_null().to_numpy())
    found = drift_of(table)["income"]
    assert found.ks == pytest.approx(exact.statistic, abs=0.012)
    assert (found.ks_p_value < 0.01) == (exact.pvalue < 0.01)


def test_psi_of_two_levels_by_hand() -> None:
    trained = pa.table({"c": ["a"] * 60 + ["b"] * 40, "y": ["p", "q"] * 50})
    came = pa.table({"c": ["a"] * 30 + ["b"] * 70})
    report = measure_drift(derive_contract(trained, TrainingConfig("y")).contract, [came])
    expected = (0.3 - 0.6) * np.log(0.3 / 0.6) + (0.7 - 0.4) * np.log(0.7 / 0.4)
    assert report.columns[0].psi == pytest.approx(expected)
    assert report.severity == "major"


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("age", pa.nulls(2000, pa.float64())),
        ("age", pa.array([40.0] * 2000)),
        ("plan", pa.array(["gold"] * 2000)),
        ("signup", pa.array(np.datetime64("2025-01-01") + np.arange(2000) % 90)),
    ],
)
def test_what_has_moved_is_named(column: str, cells: pa.Array) -> None:
    report = measure_drift(contract(), [changed(column, cells)])
    assert (report.columns[0].column, report.severity) == (column, "major")
    assert all(other.severity == "stable" for other in report.columns[1:])
    with pytest.raises(DataRefused, match=f"major or worse: '{column}'"):
        report.refuse_from("major")


def test_pieces_give_the_same_report_as_the_whole() -> None:
    table = changed("plan", pa.array(["pro", "gold"] * 1000))
    meter, conformer = DriftMeter(contract()), Conformer(contract())
    for start in range(0, 2000, 333):
        meter.add(conformer.table(table.slice(start, 333)))
    assert meter.report() == measure_drift(contract(), [table])
    assert json.loads(dump_json(meter.report().to_json()))["rows"] == 2000


def test_no_rows_are_no_drift() -> None:
    assert measure_drift(contract(), [mixed_table(5).slice(0, 0)]).severity == "stable"


@pytest.mark.parametrize("rows", [5, 20, 60])
def test_a_few_rows_are_no_drift_by_accident(rows: int) -> None:
    reports = [measure_drift(contract(), [mixed_table(rows, seed=seed)]) for seed in range(40)]
    assert max(column.psi for report in reports for column in report.columns) > 0.25
    alarms = sum(column.severity != "stable" for report in reports for column in report.columns)
    assert alarms <= 0.03 * 40 * len(contract().columns)


def test_no_rows_are_no_proof_that_nothing_moved() -> None:
    contract = derive_contract(pa.table({"x": [1.5, 2.5] * 20, "y": ["a", "b"] * 20}), TrainingConfig("y")).contract
    report = measure_drift(contract, [pa.table({"x": pa.array([], pa.float64())})])
    assert report.sentence == "no drift could be measured: there are no rows"
