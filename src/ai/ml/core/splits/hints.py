"""Hints on how a table should be split, by time or by group; they decide nothing."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ai.ml.core.contract.findings import Finding
from ai.ml.core.input_contract import InputContract
from ai.ml.core.splits.instants import read_instants
from ai.ml.core.tables.cells import one_array
from ai.ml.core.types import TrainingConfig

IN_ORDER = 0.95
"""Of neighbouring rows: as many that rise, or fall, make a column the order in which the rows came."""
MIN_INSTANTS = 10
MIN_GROUPS = 20
MIN_PER_GROUP, MAX_PER_GROUP = 1.5, 1_000.0
"""Rows for each value: with one each it names rows, with very many it is a category like others."""
_TIME_NAME = re.compile(
    r"(?i)^(?:date|time|timestamp|datetime|day|created|created_?(?:at|on)|(?:event|order|booking|transaction|snapshot)_?"
    r"(?:date|time|day|ts))$"
)
_KEY_NAME = re.compile(r"(?i:(?:^|[_\s.-])(?:id|uuid|key)$)|[a-z]I[dD]$")


def split_hints(table: pa.Table, contract: InputContract, config: TrainingConfig) -> tuple[Finding, ...]:
    """A note for a column that looks like the time of the rows, and one for a key with several rows each.

    Only columns that the split doesn't go by, in a table that it doesn't order by time or cut by groups already.
    """
    found: list[Finding] = []
    others = [name for name in table.column_names if name.strip() != contract.target_column.strip()]
    if config.split.kind != "time":
        dates = {column.name: column.date_format for column in contract.columns if column.kind == "date"}
        for name in others:
            if name in dates and _is_time_of_rows(name, f"{name}:{dates[name]}", table.column(name)):
                message = (
                    f"{name!r} looks like the time of the rows: --time {name!r} holds out the newest ones, which is "
                    "how the model will be used"
                )
                found.append(Finding("split", name, message))
                break
    if config.split.group is None and not config.split.key:
        for name in others:
            if _KEY_NAME.search(name) and (groups := _groups(table.column(name))):
                message = (
                    f"{name!r} looks like a key with several rows each ({groups:,} in {table.num_rows:,} rows): "
                    f"--group {name!r} keeps the rows of one on one side"
                )
                found.append(Finding("split", name, message))
                break
    return tuple(found)


def _is_time_of_rows(name: str, entry: str, values: pa.ChunkedArray) -> bool:
    times = read_instants(entry, values)
    known = times.values[times.known]
    if len(np.unique(known)) < MIN_INSTANTS:
        return False
    steps = np.diff(known.astype(np.int64))
    return bool(_TIME_NAME.search(name)) or max((steps >= 0).mean(), (steps <= 0).mean()) >= IN_ORDER


def _groups(values: pa.ChunkedArray) -> int:
    """The number of groups in the column; 0 where it doesn't look like a key of groups."""
    array = one_array(values)
    if pa.types.is_nested(array.type):
        return 0
    content = len(array) - array.null_count
    groups = len(pc.unique(array.drop_null()))
    is_group = groups >= MIN_GROUPS and MIN_PER_GROUP <= content / groups <= MAX_PER_GROUP
    return groups if is_group else 0
