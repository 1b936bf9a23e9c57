"""Fit and encode a wide mixed table from Parquet: column-wise, against scikit-learn's two ways, on the same file.

    python benchmarks/encoding.py                     # 1,000,000 rows x 20 columns
    python benchmarks/encoding.py --rows 50000 --json encoding.json

Every way reads the file itself, imputes medians and scales, and runs in a process of its own, warmed up once and then
timed `--repeats` times; the best counts. The processes keep the memory that they freed: in a virtual machine the first
touch of a page that the host took back can cost more than everything measured here. The ways on dicts get fewer rows
(`--dict-rows`) and one run: compare rows per second. Matrices are compared bit by bit on a smaller file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.preprocessing import StandardScaler

from ai.ml.core import parallel as column_threads
from ai.ml.core.contract import Conformer, derive_contract
from ai.ml.core.tables.cells import coerce
from ai.ml.core.tables.reader import read_batches, read_table, write_table
from ai.ml.core.types import TrainingConfig
from ai.ml.frameworks.pytorch.features.cells import typed_cells
from ai.ml.frameworks.pytorch.features.fit import fit_features
from ai.ml.frameworks.pytorch.features.plan import ColumnPlan

NUMBERS = tuple(f"n{i}" for i in range(12))
CATEGORIES = tuple(f"c{i}" for i in range(8))
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_ARENA_MAX": "1"}
SMALL_ROWS = 20_000


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
    """Contract, casting, fitting and the scaled matrix, as the trainer does it."""
    table = read_table(path)
    contract = derive_contract(table, TrainingConfig("y")).contract
    return fit_features(Conformer(contract).table(table).table).scaled


def column_wise_on_one_thread(path: Path) -> np.ndarray:
    column_threads.MAX_THREADS = 1
    pa.set_cpu_count(1)
    return column_wise(path)


def batch_encoder(path: Path) -> Callable[[Path], int]:
    """Encoding alone, as scoring does it, one batch in memory at a time; fitted before the clock starts."""
    sample = pa.Table.from_batches([next(read_batches(path, None, SMALL_ROWS))])
    contract = derive_contract(sample, TrainingConfig("y")).contract
    conformer = Conformer(contract)
    fitted = fit_features(conformer.table(sample).table)

    def encode(path: Path) -> int:
        rows = 0
        for batch in read_batches(path):
            typed = conformer.table(batch).table
            plan = ColumnPlan(fitted.vectorizer, fitted.medians, fitted.scaler)
            plan.take([typed_cells(name, typed.column(name)) for name in typed.column_names])
            rows += len(plan.matrix(typed.num_rows))
        return rows

    return encode


def column_transformer(path: Path) -> np.ndarray:
    """pandas and a `ColumnTransformer`, everything dense."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pd.read_parquet(path)
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    categories = make_pipeline(OneHotEncoder(sparse_output=False), StandardScaler())
    transformer = ColumnTransformer([("n", numbers, list(NUMBERS)), ("c", categories, list(CATEGORIES))])
    return np.asarray(transformer.fit_transform(frame))


def dicts(path: Path) -> np.ndarray:
    """`DictVectorizer` on one dict per row, nothing coerced."""
    rows = read_table(path).drop_columns(["y"]).to_pylist()
    return _vectorized([{name: np.nan if cell is None else cell for name, cell in row.items()} for row in rows])


def coerced_dicts(path: Path) -> np.ndarray:
    """The same under the rules that raw rows need: every cell of every row decided in Python."""
    rows: list[dict[str, Any]] = []
    for row in read_table(path).drop_columns(["y"]).to_pylist():
        cells = {name: coerce(cell) for name, cell in row.items()}
        rows.append({name: np.nan if cell is None else cell for name, cell in cells.items()})
    return _vectorized(rows)


def _vectorized(rows: list[dict[str, Any]]) -> np.ndarray:
    from sklearn.feature_extraction import DictVectorizer

    matrix = np.asarray(DictVectorizer(sparse=False).fit_transform(rows))
    gaps = np.isnan(matrix).any(axis=0)
    medians = np.zeros(matrix.shape[1])
    medians[gaps] = np.nanmedian(matrix[:, gaps], axis=0)
    return StandardScaler().fit_transform(np.where(np.isfinite(matrix), matrix, medians))


WAYS: dict[str, Callable[[Path], np.ndarray]] = {
    "column-wise": column_wise,
    "column-wise, 1 thread": column_wise_on_one_thread,
    "ColumnTransformer": column_transformer,
    "DictVectorizer": dicts,
    "DictVectorizer, cells coerced": coerced_dicts,
}
BATCHES = "encode in batches"


def measure(way: str, path: Path, repeats: int) -> dict[str, Any]:
    """In the child: the runs of one way, and its memory."""
    work: Callable[[Path], Any] = batch_encoder(path) if way == BATCHES else WAYS[way]
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if repeats > 1:
        work(path)
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        work(path)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "mib_before": started / 1024, "peak_mib": peak / 1024}


def in_a_process(way: str, path: Path, repeats: int, *, keep_memory: bool = True) -> dict[str, Any]:
    """Run `measure` there."""
    command = [sys.executable, __file__, "--way", way, "--path", str(path), "--repeats", str(repeats)]
    environment = os.environ | (KEEP_MEMORY if keep_memory else {})
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def compare(folder: Path, rows: int, dict_rows: int, repeats: int) -> dict[str, Any]:
    """All ways, one after the other."""
    files: dict[int, Path] = {}
    table = mixed(max(rows, dict_rows))
    for size in {rows, rows // 4, dict_rows, SMALL_ROWS}:
        files[size] = folder / f"{size}.parquet"
        write_table(table.slice(0, size), files[size])
    del table
    assert np.array_equal(column_wise(files[SMALL_ROWS]), dicts(files[SMALL_ROWS])), "the matrices differ"
    results: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        size, times = (dict_rows, 1) if way.startswith("Dict") else (rows, repeats)
        results[way] = in_a_process(way, files[size], times) | {"rows": size}
    for size in (rows // 4, rows):
        results[f"{BATCHES}, {size:,} rows"] = in_a_process(BATCHES, files[size], 2, keep_memory=False) | {"rows": size}
    for result in results.values():
        result["rows_per_second"] = result["rows"] / min(result["seconds"])
        result["rows_per_cpu_second"] = result["rows"] / min(result["cpu_seconds"])
    return {
        "load_average": os.getloadavg(),
        "cores": len(os.sched_getaffinity(0)),
        "results": results,
        "times": _ratios(results, "column-wise", "rows_per_second"),
        "times_on_one_thread": _ratios(results, "column-wise, 1 thread", "rows_per_second"),
        "times_in_cpu_time": _ratios(results, "column-wise, 1 thread", "rows_per_cpu_second"),
    }


def _ratios(results: dict[str, dict[str, Any]], ours: str, rate: str) -> dict[str, float]:
    return {way: results[ours][rate] / results[way][rate] for way in WAYS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dict-rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way is not None:
        print(json.dumps(measure(given.way, given.path, given.repeats)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = json.dumps(compare(Path(folder), given.rows, given.dict_rows, given.repeats), indent=2)
    print(report)
    if given.json is not None:
        given.json.write_text(report + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
