"""The same rows in other batches, orders, forms and threads: every variant must give the same bits."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ai.ml.core.environment_faults import is_environment_fault
from ai.ml.core.tables.reader import read_table, write_table
from ai.ml.frameworks.pytorch.inference.scorer import Answers, Scorer
from ai.ml.retraining.evidence.answers import AnswerSet
from ai.ml.retraining.evidence.compare import compare_answers
from ai.ml.retraining.evidence.evidence import Evidence, plain_labels

SINGLE_ROWS = 48
"""How many rows are scored one at a time, spread over the holdout."""
ODD_BATCHES = (3, 37, 257, 1023, 1025)
EXTRA_COLUMN = "bundlegate extra"


@dataclass(frozen=True)
class Variant:
    """One other form of the same request."""

    name: str
    rows: np.ndarray
    """Index into the holdout rows, in the order in which `answer` gives them."""
    answer: Callable[[], AnswerSet]


def check_variants(scorer: Scorer, evidence: Evidence, answers: AnswerSet) -> list[dict[str, Any]]:
    """Score the holdout rows in every variant and compare with `answers`.

    Args:
        scorer: over the bundle as loaded here.
        evidence: whose holdout rows to use.
        answers: what `scorer` gave for the whole of `evidence` at once.

    Returns:
        Per variant its name, the figures of the comparison, the first difference, and `error` where it raised.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [_run(variant, answers) for variant in _variants(scorer, evidence.holdout, Path(folder))]


def _run(variant: Variant, answers: AnswerSet) -> dict[str, Any]:
    try:
        got = variant.answer()
    # An error of a variant is a finding of the check.
    except Exception as error:
        if is_environment_fault(error):
            raise
        return {"variant": variant.name, "error": f"{type(error).__name__}: {error}", "difference": None}
    expected = answers.raw[variant.rows], answers.decoded[variant.rows]
    comparison = compare_answers(*expected, got.raw, got.decoded)
    difference = comparison.difference
    if difference is not None:
        difference = {**difference, "row": int(variant.rows[difference["row"]]), "variant": variant.name}
    return {"variant": variant.name, "error": None, "difference": difference, **comparison.figures()}


def _variants(scorer: Scorer, holdout: pa.Table, folder: Path) -> Iterator[Variant]:
    count = holdout.num_rows
    every = np.arange(count)
    singles = np.unique(np.linspace(0, count - 1, min(count, SINGLE_ROWS)).astype(np.int64))
    yield Variant("one row at a time", singles, lambda: _in_pieces(scorer, holdout.take(singles), 1))
    for size in ODD_BATCHES:
        if size < count:
            yield Variant(f"batches of {size}", every, lambda size=size: _in_pieces(scorer, holdout, size))
    shuffled = np.random.default_rng(0).permutation(count)
    yield Variant("permuted rows", shuffled, lambda: _answers(scorer.score_table(holdout.take(shuffled))))
    for name, table in _table_forms(holdout):
        yield Variant(name, every, lambda table=table: _answers(scorer.score_table(table)))
    yield Variant("rows as dicts", every, lambda: _answers(scorer.score_rows(holdout.to_pylist())))
    for suffix in ("parquet", "csv"):
        path = folder / f"rows.{suffix}"
        yield Variant(f"{suffix} file", every, lambda path=path: _through_file(scorer, holdout, path))
    if importlib.util.find_spec("pandas") is not None:
        yield Variant("pandas DataFrame", every, lambda: _through_pandas(scorer, holdout))
    for threads in sorted({1, os.cpu_count() or 1}):
        yield Variant(f"{threads} thread(s)", every, lambda n=threads: _with_threads(scorer, holdout, n))


def _table_forms(holdout: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    yield "permuted columns", holdout.select(holdout.column_names[::-1])
    yield "an extra column", holdout.append_column(EXTRA_COLUMN, pa.array(["x"] * holdout.num_rows))
    pieces = [holdout.slice(0, 1), holdout.slice(1)]
    yield "other chunks", pa.concat_tables(pieces)
    yield "dictionary-encoded texts", _recast(holdout, pa.dictionary(pa.int32(), pa.string()))
    yield "large texts", _recast(holdout, pa.large_string())


def _recast(table: pa.Table, text_type: pa.DataType) -> pa.Table:
    texts = {field.name for field in table.schema if pa.types.is_string(field.type)}
    fields = [pa.field(field.name, text_type) if field.name in texts else field for field in table.schema]
    return table.cast(pa.schema(fields))


def _answers(answers: Answers) -> AnswerSet:
    return AnswerSet(answers.raw, plain_labels(answers.decoded))


def _in_pieces(scorer: Scorer, table: pa.Table, size: int) -> AnswerSet:
    pieces = [_answers(scorer.score_table(table.slice(start, size))) for start in range(0, table.num_rows, size)]
    raw, decoded = [piece.raw for piece in pieces], [piece.decoded for piece in pieces]
    return AnswerSet(np.concatenate(raw), np.concatenate(decoded))


def _through_file(scorer: Scorer, table: pa.Table, path: Path) -> AnswerSet:
    write_table(table, path)
    return _answers(scorer.score_table(read_table(path)))


def _through_pandas(scorer: Scorer, table: pa.Table) -> AnswerSet:
    return _answers(scorer.score_table(read_table(table.to_pandas())))


def _with_threads(scorer: Scorer, table: pa.Table, threads: int) -> AnswerSet:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _answers(scorer.score_table(table))
    finally:
        torch.set_num_threads(before)
