"""Fit and encode a wide mixed table from Parquet: column-wise, against scikit-learn's two ways, in the same run.

    python benchmarks/encoding.py                     # 1,000,000 rows x 20 columns
    python benchmarks/encoding.py --rows 50000

`DictVectorizer` gets fewer rows (`--dict-rows`), as its dicts don't fit into memory otherwise: compare rows per second.
Each way reads the Parquet file itself, imputes medians and scales. The matrices are compared on the rows that all have.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction import DictVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ai.ml.core.contract import Conformer, derive_contract
from ai.ml.core.tables import read_batches, read_table, write_table
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.features import apply_features, encode_table, finite_medians, fit_features, impute

NUMBERS = tuple(f"n{i}" for i in range(12))
CATEGORIES = tuple(f"c{i}" for i in range(8))


def mixed(n_rows: int, seed: int = 0) -> pa.Table:
    """Twelve numbers (four whole), eight categories of 2 to 40 levels, 3 % missing numbers, and a target."""
    rng = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {}
    for index, name in enumerate(NUMBERS):
        values = rng.integers(0, 500, n_rows) if index < 4 else np.round(rng.lognormal(3, 1, n_rows), 4)
        columns[name] = pa.array(values.astype(np.float64), mask=rng.random(n_rows) < 0.03)
    for index, name in enumerate(CATEGORIES):
        levels = pa.array([f"level {i}" for i in range((2, 3, 4, 5, 8, 12, 20, 40)[index])])
        columns[name] = levels.take(pa.array(rng.integers(0, len(levels), n_rows)))
    columns["y"] = pa.array(["no", "yes"]).take(pa.array(rng.integers(0, 2, n_rows)))
    return pa.table(columns)


def column_wise(path: Path) -> np.ndarray:
    table = read_table(path)
    contract = derive_contract(table, TrainingConfig("y")).contract
    return fit_features(Conformer(contract).table(table).table).scaled


def encode_in_batches(path: Path) -> Callable[[], int]:
    """Encoding alone, as scoring does it: fitted before the clock starts, one batch in memory at a time."""
    sample = next(read_batches(path, None, 100_000))
    contract = derive_contract(pa.Table.from_batches([sample]), TrainingConfig("y")).contract
    conformer = Conformer(contract)
    fitted = fit_features(conformer.table(sample).table)

    def encode() -> int:
        rows = 0
        for batch in read_batches(path):
            matrix = encode_table(fitted.vectorizer, conformer.table(batch).table)
            rows += len(apply_features(fitted.vectorizer, fitted.medians, fitted.scaler, matrix))
        return rows

    return encode


def column_transformer(path: Path) -> np.ndarray:
    from sklearn.impute import SimpleImputer

    frame = pd.read_parquet(path)
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    categories = make_pipeline(OneHotEncoder(sparse_output=False), StandardScaler())
    transformer = ColumnTransformer([("n", numbers, list(NUMBERS)), ("c", categories, list(CATEGORIES))])
    return transformer.fit_transform(frame)


def dicts(path: Path, n_rows: int) -> np.ndarray:
    frame = read_table(path).slice(0, n_rows).drop_columns(["y"])
    rows = [{k: np.nan if v is None else v for k, v in row.items()} for row in frame.to_pylist()]
    matrix = DictVectorizer(sparse=False).fit_transform(rows)
    imputed = impute(matrix, finite_medians(matrix))
    return StandardScaler().fit(imputed).transform(imputed)


def timed(work: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dict-rows", type=int, default=50_000)
    given = parser.parse_args()
    n_dicts = min(given.rows, given.dict_rows)
    with tempfile.TemporaryDirectory() as work:
        path, small = Path(work) / "wide.parquet", Path(work) / "small.parquet"
        table = mixed(given.rows)
        write_table(table, path)
        write_table(table.slice(0, n_dicts), small)
        del table
        seconds: dict[str, float] = {}
        encode = encode_in_batches(path)
        seconds["encode in batches"], rows = timed(encode)
        assert rows == given.rows
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds["fit and encode"], ours = timed(lambda: column_wise(path))
        shape = np.shape(ours)
        del ours
        seconds["ColumnTransformer"], theirs = timed(lambda: column_transformer(path))
        assert np.shape(theirs) == shape
        del theirs
        seconds["DictVectorizer"], by_dicts = timed(lambda: dicts(small, n_dicts))
        assert np.array_equal(np.asarray(by_dicts), column_wise(small)), "the matrices differ"
    rates = {name: (n_dicts if name == "DictVectorizer" else given.rows) / s for name, s in seconds.items()}
    report = {
        "rows": given.rows,
        "dict_rows": n_dicts,
        "matrix": shape,
        "seconds": seconds,
        "rows_per_second": rates,
        "times_dicts": rates["fit and encode"] / rates["DictVectorizer"],
        "times_column_transformer": rates["fit and encode"] / rates["ColumnTransformer"],
        "peak_mib_after_batches": peak,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
