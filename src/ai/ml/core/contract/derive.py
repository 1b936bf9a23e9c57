"""From a training table to its contract: kinds, figures, refusals, and a finding for everything that was decided."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from ai.ml.core.contract.dates import DATE_SUFFIXES
from ai.ml.core.contract.findings import Finding
from ai.ml.core.contract.kinds import KindRules, date_name
from ai.ml.core.contract.leakage import find_leaks
from ai.ml.core.contract.spellings import find_spellings
from ai.ml.core.contract.target import TargetColumn
from ai.ml.core.contract.target_record import record_target
from ai.ml.core.errors import DataRefused, UsageError
from ai.ml.core.input_contract import ColumnContract, InputContract
from ai.ml.core.parallel import map_columns
from ai.ml.core.tables.read_options import told_of
from ai.ml.core.types import TrainingConfig

MAX_FEATURES = 10_000
"""Width of the matrix that the network reads: beyond it, a category was meant as something else."""


@dataclass(frozen=True)
class Derived:
    """A contract and what was found on the way."""

    contract: InputContract
    findings: tuple[Finding, ...]
    target: np.ndarray = field(compare=False, repr=False)
    """`(n_rows,)` of the table: object of labels, or float64."""


def derive_contract(table: pa.Table, config: TrainingConfig) -> Derived:
    """Find out what a model trained on this table reads.

    Args:
        table: raw, as `read_table` gives it, target included.
        config: target, task, and the options about columns.

    Raises:
        DataRefused: no rows, duplicate names, a target or a column that can't be used, names that collide, or
            categories that are too wide.
        UsageError: the config names a column that isn't there, or excludes the target.
    """
    names = table.column_names
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataRefused(f"more than one column is called {', '.join(map(repr, twice))}; rename or drop all but one")
    if not table.num_rows:
        raise DataRefused(f"the table has no rows, only the names {', '.join(map(repr, names[:20]))}")
    check_column_options(names, config)
    target = TargetColumn.read(table, config.target_column)
    task = target.find_task(config.task)
    values = target.values(task)
    rules = KindRules(config)
    findings: list[Finding] = []
    columns: list[ColumnContract] = []
    inputs = [
        name for name in names if name.strip() != config.target_column.strip() and name not in config.exclude_columns
    ]
    for inferred in map_columns(lambda name: rules.infer(name, table.column(name)), inputs, table.num_rows):
        findings += inferred.findings
        if inferred.column is not None:
            columns.append(inferred.column)
    if not columns:
        reasons = "; ".join(finding.message for finding in findings)
        raise DataRefused(f"no column is left to learn from{': ' + reasons if reasons else ''}")
    _refuse_collisions(columns)
    _refuse_width(columns)
    classes = sorted(target.labels) if task == "classification" else None
    read = told_of(table)
    contract = InputContract(config.target_column, task, classes, tuple(columns), table.num_rows, reading=read)
    contract = replace(contract, target=record_target(contract, values))
    findings += find_spellings(contract.target)
    return Derived(contract, (*findings, *find_leaks(contract, table, values)), values)


def check_column_options(names: Sequence[str], config: TrainingConfig) -> None:
    """Check the config's column options against a table's names.

    Raises:
        UsageError: it names a column that isn't there, excludes the target, or contradicts itself.
    """
    if config.target_column in config.exclude_columns:
        raise UsageError(f"the target {config.target_column!r} can't be excluded")
    options = {
        "exclude_columns": config.exclude_columns,
        "date_columns": tuple(map(date_name, config.date_columns)),
        "category_columns": config.category_columns,
        "number_columns": config.number_columns,
        "keep_columns": config.keep_columns,
    }
    for name in config.number_columns:
        if name in (*config.category_columns, *options["date_columns"]):
            raise UsageError(f"column {name!r} is said to be numbers and something else as well")
    for option, listed in options.items():
        for name in listed:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(map(repr, names[:20]))}"
                raise UsageError(f"{option} names {name!r}, which isn't in the table{hint}")


def features_of(column: ColumnContract) -> int:
    """How many features a column becomes at most."""
    if column.kind == "category":
        return len(column.levels or ()) + (column.missing_share > 0)
    return len(DATE_SUFFIXES) if column.kind == "date" else 1


def _refuse_collisions(columns: Sequence[ColumnContract]) -> None:
    """No cell of one column may ever land on another's feature, not even a category that training hasn't seen."""
    categories = {column.name for column in columns if column.kind == "category"}
    owner: dict[str, str] = {}
    for column in columns:
        for cut, letter in enumerate(column.name):
            if letter == "=" and column.name[:cut] in categories:
                raise DataRefused(
                    f"column {column.name!r} has the name that the category {column.name[cut + 1 :]!r} of column "
                    f"{column.name[:cut]!r} would get; rename one"
                )
        features = [column.name + suffix for suffix in DATE_SUFFIXES] if column.kind == "date" else [column.name]
        for name in features:
            if name in owner:
                raise DataRefused(f"columns {owner[name]!r} and {column.name!r} both become {name!r}; rename one")
            owner[name] = column.name


def _refuse_width(columns: Sequence[ColumnContract]) -> None:
    width = sum(map(features_of, columns))
    if width <= MAX_FEATURES:
        return
    widest = sorted(columns, key=features_of, reverse=True)[:5]
    shown = ", ".join(f"{column.name!r} {features_of(column):,}" for column in widest)
    raise DataRefused(
        f"the columns would become {width:,} features, the limit is {MAX_FEATURES:,}; the widest: {shown}. Exclude "
        "them (--exclude COLUMN), or merge their rare values before training"
    )
