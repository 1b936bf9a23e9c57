"""A row's bits don't depend on what it arrives with: batch, order, form of the input, threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from builders import mixed_table, tiny_bundle, tiny_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from ai.ml.core.tables.reader import read_table
from ai.ml.core.types import TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import Precision, Scorer, ScoringSettings
from ai.ml.frameworks.pytorch.models.networks import TRAINING_MODES
from ai.ml.frameworks.pytorch.trainer.training import train

ROWS = tiny_rows(2_500, seed=11)
TABLE = pa.Table.from_pylist(ROWS)
PRECISIONS: tuple[Precision, ...] = ("exact", "fast")


@pytest.fixture(scope="module")
def whole() -> dict[tuple[str, str, str], tuple[Scorer, np.ndarray]]:
    """Every mode × task × precision with its answers to all rows at once."""
    scored = {}
    for task in ("classification", "regression"):
        for mode in TRAINING_MODES:
            bundle = tiny_bundle(task, mode, hidden_dim=32)
            for precision in PRECISIONS:
                scorer = Scorer(bundle, ScoringSettings(precision))
                scored[task, mode, precision] = scorer, scorer.score_table(TABLE).raw
    return scored


@pytest.mark.slow(6)
@settings(max_examples=20)
@given(offset=st.integers(0, 2_400), size=st.sampled_from([1, 2, 7, 63, 64, 65, 1_000, 1_023, 1_024, 1_025]))
def test_batches_of_any_size_at_any_offset(whole: dict, offset: int, size: int) -> None:
    for scorer, expected in whole.values():
        got = scorer.score_table(TABLE.slice(offset, size)).raw
        assert got.tobytes() == expected[offset : offset + size].tobytes()


@pytest.mark.slow(5)
@settings(max_examples=6)
@given(seed=st.integers(0, 10_000))
def test_permuted_rows_and_columns(whole: dict, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(ROWS))
    names = [str(name) for name in rng.permutation(TABLE.column_names)]
    table = TABLE.take(pa.array(order)).select(names).append_column("extra", pa.array(order))
    for scorer, expected in whole.values():
        assert scorer.score_table(table).raw.tobytes() == expected[order].tobytes()


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_another_number_of_threads(whole: dict) -> None:
    for (task, mode, precision), (scorer, expected) in whole.items():
        assert scorer.score_table(TABLE).raw.tobytes() == expected.tobytes(), (task, mode, precision)
        # A scorer may also be made under another number of threads than it works with.
        fresh = Scorer(scorer.bundle, scorer.settings)
        assert fresh.score_table(TABLE.slice(700, 900)).raw.tobytes() == expected[700:1600].tobytes()


@pytest.mark.slow(7)
def test_rows_tables_and_frames_of_bundles_without_a_contract(whole: dict) -> None:
    frame = TABLE.to_pandas()
    forms = [
        pa.Table.from_batches(TABLE.to_batches(max_chunksize=97)),
        TABLE.cast(
            pa.schema([(f.name, pa.large_string() if pa.types.is_string(f.type) else f.type) for f in TABLE.schema])
        ),
        read_table(frame),
        read_table(frame.convert_dtypes()),
        read_table(frame.astype({"city": "category", "plan": object})),
        read_table(pl.from_arrow(TABLE)),
    ]
    for scorer, expected in whole.values():
        for form in forms:
            assert scorer.score_table(form).raw.tobytes() == expected.tobytes()
        assert scorer.score_rows(ROWS).raw.tobytes() == expected.tobytes()


@pytest.mark.slow(5)
@settings(max_examples=8)
@given(
    rows=st.lists(st.integers(0, 2_499), min_size=1, max_size=40), form=st.sampled_from(["dicts", "pandas", "polars"])
)
def test_any_rows_in_any_order_and_form(whole: dict, rows: list[int], form: str) -> None:
    """Rows may also come more than once."""
    picked = TABLE.take(pa.array(rows))
    for scorer, expected in whole.values():
        if form == "dicts":
            raw = scorer.score_rows([ROWS[row] for row in rows]).raw
        else:
            raw = scorer.score_table(read_table(picked.to_pandas() if form == "pandas" else pl.from_arrow(picked))).raw
        assert raw.tobytes() == expected[rows].tobytes()


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_form_of_a_trained_bundles_table(task: TaskType) -> None:
    table = mixed_table(400, seed=5, task=task)
    bundle = train(table, TrainingConfig("y", epochs=2)).bundle
    scorer = Scorer(bundle)
    inputs = table.drop_columns(["y"])
    expected = scorer.score_table(inputs)
    frame = pd.DataFrame(inputs.to_pandas())
    texts = pa.table(
        {name: [None if v is None else str(v) for v in inputs[name].to_pylist()] for name in inputs.column_names}
    )
    for form in (table, inputs.select(inputs.column_names[::-1]), read_table(frame), texts):
        answers = scorer.score_table(form)
        assert answers.raw.tobytes() == expected.raw.tobytes()
        assert answers.decoded.tolist() == expected.decoded.tolist()
    assert scorer.score_rows(inputs.to_pylist()).raw.tobytes() == expected.raw.tobytes()
    sparse_rows = [{key: cell for key, cell in row.items() if cell is not None} for row in inputs.to_pylist()]
    assert scorer.score_rows(sparse_rows).raw.tobytes() == expected.raw.tobytes(), "an absent key isn't a blank cell"
