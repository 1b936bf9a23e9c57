"""Column-wise features against scikit-learn's own, bit for bit."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction import DictVectorizer
from sklearn.preprocessing import StandardScaler

from ai.ml.core import parallel as column_threads
from ai.ml.core.errors import BundleRefused, DataRefused
from ai.ml.core.tables.cells import coerce
from ai.ml.frameworks.pytorch.features import standard_scaler as moments
from ai.ml.frameworks.pytorch.features.cells import known_columns, raw_cells, raw_columns, row_columns, typed_cells
from ai.ml.frameworks.pytorch.features.fit import fit_features
from ai.ml.frameworks.pytorch.features.matrix import apply_features, encode_table, fill_matrix
from ai.ml.frameworks.pytorch.features.plan import ColumnPlan

NUMBERS = st.one_of(
    st.none(),
    st.floats(-1e12, 1e12),
    st.sampled_from([0.0, -0.0, 1e300, -1e300, 5e-324, float("inf"), float("-inf"), float("nan")]),
)
TEXTS = st.sampled_from(["", "a", "b", "Łódź", "a=b", "x y", "名前", "A", "1e", "true"])
NAMES = st.sampled_from(["n1", "n2", "weight kg", "größe"])
CATEGORY_NAMES = st.sampled_from(["c1", "c2", "plan", "stadt"])


@st.composite
def typed_tables(draw: st.DrawFn, min_rows: int = 2) -> pa.Table:
    """Tables as `Conformer` gives them: float64 with nulls, and dictionaries of texts."""
    rows = draw(st.integers(min_rows, 25))
    columns: dict[str, pa.Array] = {}
    for name in draw(st.lists(NAMES, unique=True, max_size=3)):
        cells = draw(st.lists(NUMBERS, min_size=rows, max_size=rows))
        columns[name] = pa.array(cells, pa.float64())
    for name in draw(st.lists(CATEGORY_NAMES, unique=True, min_size=1, max_size=3)):
        texts = pa.array(draw(st.lists(TEXTS, min_size=rows, max_size=rows)), pa.string())
        columns[name] = texts.dictionary_encode() if draw(st.booleans()) else texts
    order = draw(st.permutations(list(columns)))
    return pa.table({name: columns[name] for name in order})


def as_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The same cells as dicts: a null number is NaN, as DictVectorizer wants it."""
    return [{name: (np.nan if cell is None else cell) for name, cell in row.items()} for row in table.to_pylist()]


def sklearn_features(
    vectorizer: DictVectorizer, medians: np.ndarray, scaler: StandardScaler, rows: list[dict[str, Any]]
) -> np.ndarray:
    encoded = vectorizer.transform(rows)
    matrix = np.asarray(encoded.toarray() if vectorizer.sparse else encoded, dtype=np.float64)
    with np.errstate(over="ignore"):
        return scaler.transform(np.where(np.isfinite(matrix), matrix, medians))


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def bounded(table: pa.Table) -> pa.Table:
    """Without numbers whose square overflows: StandardScaler can't be fitted on those."""
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_floating(column.type):
            cells = [None if cell is None or abs(cell) > 1e100 else cell for cell in column.to_pylist()]
            column = pa.array(cells, pa.float64())
        columns[name] = column
    return pa.table(columns)


@settings(max_examples=150)
@given(typed_tables())
def test_fitting_gives_what_scikit_learn_fits(table: pa.Table) -> None:
    table = bounded(table)
    rows = as_rows(table)
    fitted = fit_features(table)
    reference = DictVectorizer(sparse=False).fit(rows)
    assert fitted.vectorizer.feature_names_ == reference.feature_names_
    assert fitted.vectorizer.vocabulary_ == reference.vocabulary_
    matrix = reference.transform(rows)
    finite = np.where(np.isfinite(matrix), matrix, np.nan)
    medians = np.array([0.0 if np.isnan(c).all() else np.nanmedian(c) for c in finite.T])
    assert same_bits(fitted.medians, medians)
    scaler = StandardScaler().fit(np.where(np.isfinite(matrix), matrix, medians))
    for name in ("mean_", "var_", "scale_"):
        assert same_bits(getattr(fitted.scaler, name), getattr(scaler, name)), name
    assert type(fitted.scaler.n_samples_seen_) is type(scaler.n_samples_seen_)
    assert same_bits(fitted.scaled, sklearn_features(reference, medians, scaler, rows))


@pytest.mark.parametrize("names", [["n0"], ["c0"], ["n0", "n1"], ["c0", "n0"], ["n0", "n1", "n2", "c0", "c1"]])
def test_sums_over_many_blocks_and_threads_are_scikit_learns(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_threads, "MIN_ROWS", 0)
    monkeypatch.setattr(moments, "BLOCK_BYTES", 1 << 14)
    rng = np.random.default_rng(3)
    columns: dict[str, pa.Array] = {}
    for name in names:
        if name.startswith("n"):
            columns[name] = pa.array(rng.lognormal(3, 2, 20_011), mask=rng.random(20_011) < 0.1)
        else:
            cells = pa.array([None, *"abcdefg"]).take(pa.array(rng.integers(0, 8, 20_011)))
            columns[name] = cells.dictionary_encode()
    table = pa.table(columns)
    rows = [{name: cell for name, cell in row.items() if cell is not None or name[0] == "n"} for row in as_rows(table)]
    rows = [{name: cell for name, cell in row.items() if name[0] == "n" or cell == cell} for row in rows]
    matrix = DictVectorizer(sparse=False).fit_transform(rows)
    medians = np.nanmedian(matrix, axis=0)
    scaler = StandardScaler().fit(np.where(np.isfinite(matrix), matrix, medians))
    fitted = fit_features(table)
    assert same_bits(fitted.medians, medians)
    for name in ("mean_", "var_", "scale_"):
        assert same_bits(getattr(fitted.scaler, name), getattr(scaler, name)), name
    assert same_bits(fitted.scaled, scaler.transform(np.where(np.isfinite(matrix), matrix, medians)))


@settings(max_examples=150)
@given(typed_tables(), typed_tables(min_rows=0), st.sampled_from(["=", "::", "|"]), st.booleans())
def test_encoding_gives_what_scikit_learn_transforms(
    training: pa.Table, table: pa.Table, separator: str, sparse: bool
) -> None:
    training = bounded(training)
    vectorizer = DictVectorizer(sparse=sparse, separator=separator).fit(as_rows(training))
    encoded = vectorizer.transform(as_rows(training))
    matrix = np.asarray(encoded.toarray() if sparse else encoded)
    medians = np.nan_to_num(np.arange(matrix.shape[1]) * 0.5)
    scaler = StandardScaler().fit(np.where(np.isfinite(matrix), matrix, medians))
    ours = apply_features(vectorizer, medians, scaler, encode_table(vectorizer, table))
    if table.num_rows == 0:
        assert ours.shape == (0, matrix.shape[1])
        return
    assert same_bits(ours, sklearn_features(vectorizer, medians, scaler, as_rows(table)))


def raw_matrix(vectorizer: DictVectorizer, table: pa.Table) -> np.ndarray:
    return fill_matrix(vectorizer, raw_columns(table, known_columns(vectorizer)), table.num_rows)


def rows_matrix(vectorizer: DictVectorizer, rows: list[dict[str, Any]]) -> np.ndarray:
    return fill_matrix(vectorizer, row_columns(rows, known_columns(vectorizer)), len(rows))


RAW_CELLS = st.one_of(
    st.none(),
    st.sampled_from(
        ["", " NA ", "n/a", "null", ".", "red", " red ", "12", "1e3", " -0.5", "nan", "inf", "12_000", "Ünal"]
    ),
    st.floats(allow_nan=True),
    st.integers(-(2**40), 2**40),
    st.booleans(),
)


@settings(max_examples=150)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), RAW_CELLS), min_size=1, max_size=20))
def test_rows_follow_the_cell_rules_and_an_absent_key_stays_zero(rows: list[dict[str, Any]]) -> None:
    coerced = [
        {key: (np.nan if (value := coerce(cell)) is None else value) for key, cell in row.items()} for row in rows
    ]
    vectorizer = DictVectorizer(sparse=False).fit([*coerced, {"a": 1.0, "b": "red"}])
    before = [dict(row) for row in rows]
    found, expected = rows_matrix(vectorizer, rows), np.asarray(vectorizer.transform(coerced), dtype=np.float64)
    # A missing cell is a NaN, whichever: it is imputed before anything is computed with it.
    assert same_bits(*(np.where(np.isnan(matrix), np.nan, matrix) for matrix in (found, expected)))
    assert repr(rows) == repr(before)


@settings(max_examples=100)
@given(st.lists(st.one_of(st.none(), TEXTS, st.sampled_from(["3", " 4.5 ", "NA", "nan"])), min_size=1, max_size=30))
def test_a_raw_table_gives_the_bits_of_its_rows(cells: list[str | None]) -> None:
    table = pa.table({"a": pa.array(cells, pa.string()), "n": pa.array(range(len(cells)))})
    rows = table.to_pylist()
    vectorizer = DictVectorizer(sparse=False).fit(
        [{key: (np.nan if (value := coerce(cell)) is None else value) for key, cell in row.items()} for row in rows]
    )
    assert same_bits(raw_matrix(vectorizer, table), rows_matrix(vectorizer, rows))


def test_two_columns_with_one_feature_are_refused() -> None:
    table = pa.table({"a": pa.array(["b", "c"]), "a=b": pa.array([1.0, 2.0])})
    with pytest.raises(DataRefused, match="both give a feature 'a=b'"):
        fit_features(table)


def test_a_table_without_columns_is_refused() -> None:
    with pytest.raises(DataRefused, match="no column is left"):
        fit_features(pa.table({}))


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(DataRefused, match="no row is left"):
        fit_features(pa.table({"a": pa.array([], pa.float64())}))


def test_a_scaler_of_another_width_is_refused() -> None:
    vectorizer = DictVectorizer(sparse=False).fit([{"a": 1.0, "b": 2.0}])
    scaler = StandardScaler().fit([[1.0], [2.0]])
    with pytest.raises(BundleRefused, match="fitted on 1 columns, the vectorizer gives 2"):
        apply_features(vectorizer, None, scaler, np.zeros((1, 2)))


@pytest.mark.parametrize("medians", [None, np.ones(5)])
def test_absent_or_misfit_medians_impute_zero(medians: np.ndarray | None) -> None:
    vectorizer = DictVectorizer(sparse=False).fit([{"a": 1.0}])
    scaler = StandardScaler().fit([[1.0], [3.0]])
    result = apply_features(vectorizer, medians, scaler, np.array([[np.nan]]))
    assert same_bits(result, scaler.transform([[0.0]]))


def test_dates_and_decimals_in_a_raw_table_are_what_they_are_in_rows() -> None:
    days = [datetime.date(2024, 2, 29), None, datetime.date(2025, 1, 1)]
    prices = [Decimal("0.10"), Decimal("12345678901234.567"), None]
    table = pa.table({"day": pa.array(days), "price": pa.array(prices, pa.decimal128(20, 3))})
    vectorizer = DictVectorizer(sparse=False).fit([{"day": "2024-02-29", "price": 1.0}, {"day": 0.0}])
    encoded = raw_matrix(vectorizer, table)
    rows = [{"day": day, "price": price} for day, price in zip(days, prices, strict=True)]
    assert same_bits(encoded, rows_matrix(vectorizer, rows))
    assert encoded[0, vectorizer.vocabulary_["day=2024-02-29"]] == 1
    assert encoded[1, vectorizer.vocabulary_["price"]] == 12345678901234.567


def test_columns_without_a_feature_stay_unread() -> None:
    vectorizer = DictVectorizer(sparse=False).fit([{"a": 1.0, "city": "Oslo", "x=y": "z"}])
    known = known_columns(vectorizer)
    assert {"a", "city", "x=y"} <= known  # type: ignore[operator]
    assert "cit" not in known
    assert "b" not in known
    odd = pa.table({"a": [2.0], "b": [[1, 2]], "x=y": ["z"]})
    assert raw_matrix(vectorizer, odd).tolist() == [[2.0, 0.0, 1.0]]
    assert rows_matrix(vectorizer, [{"a": 2.0, "b": [1, 2], "x=y": "z"}]).tolist() == [[2.0, 0.0, 1.0]]


@settings(max_examples=150)
@given(typed_tables(), typed_tables(min_rows=0), st.booleans(), st.booleans(), st.sampled_from([1, 4, 64]))
def test_tiles_filled_by_columns_hold_the_bits_of_the_scaled_matrix(
    training: pa.Table, table: pa.Table, with_mean: bool, with_std: bool, tile_rows: int
) -> None:
    training = bounded(training)
    vectorizer = DictVectorizer(sparse=False).fit(as_rows(training))
    medians = np.arange(len(vectorizer.feature_names_)) - 1.5
    matrix = np.asarray(vectorizer.transform(as_rows(training)))
    scaler = StandardScaler(with_mean=with_mean, with_std=with_std).fit(np.where(np.isfinite(matrix), matrix, medians))
    for dtype in (np.float64, np.float32):
        with np.errstate(over="ignore"):
            expected = apply_features(vectorizer, medians, scaler, encode_table(vectorizer, table)).astype(dtype)
            got = planned(ColumnPlan(vectorizer, medians, scaler), table, tile_rows, dtype)
        assert same_bits(got, expected)


def planned(plan: ColumnPlan, table: pa.Table, tile_rows: int, dtype: type) -> np.ndarray:
    assert plan.take([typed_cells(name, table.column(name)) for name in table.column_names])
    fill = plan.filler(table.num_rows, tile_rows, np.dtype(dtype))
    tile = np.full((tile_rows, len(plan.vectorizer.feature_names_)), np.nan, dtype)
    parts = [tile[:0].copy()]
    for start in range(0, table.num_rows, tile_rows):
        stop = min(start + tile_rows, table.num_rows)
        fill(tile, start, stop)
        parts.append(tile[: stop - start].copy())
    return np.concatenate(parts)


def test_a_plan_leaves_to_the_general_way_what_it_cannot_do() -> None:
    vectorizer = DictVectorizer(sparse=False).fit([{"a": "b", "a=b": 2.0, "c": "x"}, {"c": 1.0}])
    scaler = StandardScaler().fit(np.eye(3))
    shared = pa.table({"a": ["b"], "a=b": [3.0]})
    assert not ColumnPlan(vectorizer, None, scaler).take([raw_cells(n, shared.column(n)) for n in shared.column_names])
    mixed = pa.table({"c": ["x", "2"]})
    assert not ColumnPlan(vectorizer, None, scaler).take([raw_cells("c", mixed.column("c"))])


def test_a_column_of_lists_is_refused() -> None:
    vectorizer = DictVectorizer(sparse=False).fit([{"a": 1.0}])
    with pytest.raises(DataRefused, match="column 'a' holds list"):
        encode_table(vectorizer, pa.table({"a": [[1, 2]]}))
