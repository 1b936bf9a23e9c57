"""What a model is asked: target, task and classes; and whether a later table asks the same."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ai.ml.core.contract.spellings import spelling_hint
from ai.ml.core.contract.target import TargetColumn
from ai.ml.core.errors import DataRefused
from ai.ml.core.input_contract import InputContract, TaskType
from ai.ml.core.number_text import counted
from ai.ml.core.tables.cells import column_name
from ai.ml.core.types import TrainingConfig

CLASSES_SHOWN = 8


@dataclass(frozen=True)
class Problem:
    """What a table is to teach, before anything is trained on it."""

    target: str
    task: TaskType
    classes: Mapping[str, int] | None
    """Rows of each class, in the order of the classes; None for a regression."""
    not_numbers: int = 0
    """Rows of a regression whose target is none."""
    rows: int = 0


def find_problem(table: pa.Table, config: TrainingConfig) -> Problem:
    """Read off a table what it is to teach.

    Args:
        table: with the target's column at least.
        config: target, and the task where it isn't `auto`.

    Raises:
        DataRefused: the target isn't there, or has missing cells; or there are no rows.
    """
    if not table.num_rows:
        raise DataRefused(f"the table has no rows, so none with a target {config.target_column!r}")
    target = TargetColumn.read(table, config.target_column)
    task = target.task(config.task)
    if task == "regression":
        return Problem(target.name, task, None, target.not_numbers, table.num_rows)
    return Problem(target.name, task, target.class_rows, rows=table.num_rows)


def problem_change(before: InputContract, now: Problem, who: str = "the champion") -> str | None:
    """What a table or a model asks that an earlier model doesn't answer, in a phrase; None where they ask the same.

    Args:
        before: the earlier model's contract.
        now: of the table or of the later model.
        who: the earlier model, for the sentence.
    """
    if column_name(before.target_column) != column_name(now.target):
        return f"the target is {now.target!r}, {who} predicts {before.target_column!r}"
    if before.task != now.task:
        theirs = "amounts (a regression)" if before.task == "regression" else f"{len(before.classes or ())} classes"
        ours = "amounts (a regression)" if now.classes is None else f"{len(now.classes)} classes"
        return f"target {now.target!r} is taken for {ours}, {who} predicts {theirs}"
    if now.classes is None:
        if not now.not_numbers:
            return None
        return (
            f"target {now.target!r} is no number in {now.not_numbers:,} of {now.rows:,} rows, {who} predicts "
            "amounts (a regression)"
        )
    known = before.classes or []
    new, lost = sorted(set(now.classes) - set(known)), sorted(set(known) - set(now.classes))
    said: list[str] = []
    if new:
        hint = spelling_hint(new, known)
        named = _named(new, now.classes) + (f" ({hint})" if hint else "")
        said.append(f"target {now.target!r} has classes that {who} doesn't know: {named}")
    if lost:
        said.append(f"no row of target {now.target!r} has {who}'s class {_shown(map(repr, lost))}")
    return " and ".join(said) or None


def problem_of(contract: InputContract) -> Problem:
    """What a trained model answers; how many rows each class had isn't known of it."""
    classes = None if contract.classes is None else dict.fromkeys(contract.classes, 0)
    return Problem(contract.target_column, contract.task, classes, rows=contract.rows)


def missing_inputs(before: InputContract, names: Sequence[str]) -> str | None:
    """The columns that a model reads and a table lacks, in a phrase with what they may be called now; None without any.

    Args:
        before: the model's contract.
        names: of the table's columns.
    """
    present = {column_name(name) for name in names}
    read = {column_name(column.name) for column in before.columns} | {column_name(before.target_column)}
    absent = [column.name for column in before.columns if column_name(column.name) not in present]
    if not absent:
        return None
    new = [name for name in names if column_name(name) not in read]
    said = [f"{name!r}{_perhaps(name, absent, new)}" for name in absent]
    return f"the champion reads columns that aren't there: {_shown(said)}"


def input_changes(before: InputContract, after: InputContract) -> dict[str, list[str]]:
    """What one model asks of a table that an earlier one didn't, and the reverse: `added` and `removed` columns."""
    ours, theirs = ([column.name for column in contract.columns] for contract in (after, before))
    known, kept = ({column_name(name) for name in names} for names in (theirs, ours))
    return {
        "added": [name for name in ours if column_name(name) not in known],
        "removed": [name for name in theirs if column_name(name) not in kept],
    }


def _perhaps(name: str, absent: Sequence[str], new: Sequence[str]) -> str:
    """What a column may be called now: the only new one for the only absent one, else the one most like it."""
    like = list(new) if len(new) == len(absent) == 1 else difflib.get_close_matches(name, new, n=1, cutoff=0.5)
    return f" (renamed to {like[0]!r}?)" if like else ""


def _named(names: Sequence[str], rows: Mapping[str, int]) -> str:
    return _shown(_with_rows(names, rows) if any(rows.values()) else map(repr, names))


def _with_rows(names: Iterable[str], rows: Mapping[str, int]) -> list[str]:
    return [f"{name!r} ({counted(rows[name], 'row')})" for name in names]


def _shown(names: Iterable[str]) -> str:
    all_names = list(names)
    more = len(all_names) - CLASSES_SHOWN
    return ", ".join(all_names[:CLASSES_SHOWN]) + (f" and {more} more" if more > 0 else "")
