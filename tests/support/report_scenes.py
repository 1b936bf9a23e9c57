"""Models for the tests of cards and reports, with names and labels that try to break out of a page."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from builders import mixed_table

from ai.ml.core.types import TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.backtest.candidate import PROVED, OriginOutcome
from ai.ml.retraining.backtest.outcome import ALWAYS, BEST, NEVER, BacktestSummary, Course, Gain, Night, answer
from ai.ml.retraining.decision.evaluation import EvaluatedBundle
from ai.ml.retraining.evidence.seal import stage_candidate
from ai.ml.retraining.gate.verdict import VERDICT_FORMAT, CheckResult, Environment, Verdict
from ai.ml.retraining.reporting.inputs import Material

EVIL_COLUMN = "<script>alert(1)</script>"
EVIL_LABEL = "<img src=x onerror=alert(2)>"
EVIL_LEVEL = '"><svg onload=alert(3)> & $x$ | `c`'


def evil_table(n_rows: int, task: TaskType, classes: int = 2) -> pa.Table:
    """A mixed table whose column names, levels and labels are markup."""
    table = mixed_table(n_rows, seed=3, task=task)
    table = table.rename_columns([EVIL_COLUMN if name == "income" else name for name in table.column_names])
    cities = [EVIL_LEVEL if cell == "Oslo" else cell for cell in table["city"].to_pylist()]
    table = table.set_column(table.column_names.index("city"), "city", pa.array(cities))
    if task == "regression":
        return table
    labels = [EVIL_LABEL if cell == "yes" else "no" for cell in table["y"].to_pylist()]
    if classes == 3:
        labels = ["third" if i % 5 == 0 else label for i, label in enumerate(labels)]
    return table.set_column(table.column_names.index("y"), "y", pa.array(labels))


def trained(folder: Path, task: TaskType, *, classes: int = 2, epochs: int = 3, **settings: Any) -> Material:
    """Train on 240 rows and seal; what a report of it is made of, the verdict aside."""
    table = evil_table(240, task, classes)
    result = train(table, TrainingConfig("y", epochs=epochs, hidden_dim=8, test_size=0.4, **settings))
    holdout: pa.Table = table.take(pa.array(result.holdout_rows))
    folder.mkdir(parents=True)
    digest = stage_candidate(folder, result, holdout, lineage={"rows": table.num_rows})
    history = [dataclasses.asdict(report) for report in result.history]
    baseline = {
        "name": "linear model",
        "metric": "rmse",
        "value": 2.0,
        "candidate": 1.0,
        "gain": 1.0,
        "low": 0.5,
        "high": 1.5,
    }
    findings = [finding.message for finding in result.findings]
    return Material(
        "churn",
        EvaluatedBundle(folder),
        holdout,
        "the rows held out from training",
        history,
        verdict(digest),
        findings=findings,
        baselines=[baseline],
    )


def verdict(digest: str, *, passed: bool = True) -> Verdict:
    """One check of each required kind."""
    difference = None if passed else {"row": 3, "column": EVIL_COLUMN, "expected": "1.0", "got": "2.0", "ulp": 9}
    checks = [
        CheckResult(
            name,
            "current",
            passed or name != "replay",
            {"rows": 40},
            f"{name} looked",
            difference if name == "replay" else None,
        )
        for name in ("integrity", "replay", "invariance", "fixpoint")
    ]
    return Verdict(VERDICT_FORMAT, digest, {}, (Environment("current", {"torch": "2"}),), tuple(checks))


def some_backtest(origins: int = 6) -> BacktestSummary:
    """A backtest in figures alone: nothing was trained for it."""

    def gain(estimate: float) -> Gain:
        return Gain(estimate=estimate, low=estimate - 0.012, high=estimate + 0.011)

    def course(name: str, kind: Literal["policy", "reference"], serves: list[int]) -> Course:
        nights = [
            Night(
                origin=number,
                outcome="PROMOTE" if place == 0 or serves[place - 1] != served else "HOLD",
                reason="log_loss is better by 0.02 (+0.008 to +0.031 at 95%), above the margin 0",
                gain=gain(0.02 - 0.01 * (place % 3)) if place else None,
                came_true=gain(0.015 - 0.009 * (place % 4)) if place else None,
                learned_from=0,
                serves=served,
                loss=0.4 - 0.01 * served + 0.02 * (place % 2),
            )
            for place, (number, served) in enumerate(zip(range(1, origins + 1), serves, strict=True))
        ]
        loss = sum(night.loss for night in nights) / origins
        return Course(name=name, kind=kind, loss=loss, over_never=gain(0.4 - loss), nights=tuple(nights))

    newest = list(range(1, origins + 1))
    courses = (
        course("better", "policy", [1, 1, 3, 3, 3, 3]),
        course("not-worse:2%", "policy", [1, 2, 3, 3, 5, 6]),
        course(NEVER, "reference", [1] * origins),
        course(ALWAYS, "reference", newest),
        course(BEST, "reference", newest),
    )
    trained = [
        OriginOutcome(
            model=f"origin-{number:03}",
            origin=number,
            label=f"before 2026-0{number}-01",
            rows=1000 * number,
            later_rows=1000,
            outcome=PROVED,
            digest=f"{number}" * 64,
            reason="8 checks passed in 1 environment; 700 replayed rows are equal bit for bit",
            exit_code=0,
            seconds=12.5,
        )
        for number in newest
    ]
    return BacktestSummary(
        name="churn",
        source="visits.parquet",
        rows=7000,
        order="by day",
        metric="log_loss",
        confidence=0.95,
        notes=("3 rows without a readable time in 'day' are left out",),
        origins=tuple(trained),
        courses=courses,
        sentence=answer("churn", "log_loss", courses, 6000, origins),
        exit_code=0,
    )
