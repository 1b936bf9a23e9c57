"""Rows per second of the scoring path, against the dict-per-row path and against the bare forward pass.

    python benchmarks/scoring.py --rows 200000 --output benchmarks/results/scoring.json

The baseline is what most code around `DictVectorizer` does: a frame's rows become dicts, each cell is coerced, the
vectorizer turns dicts into a matrix, missing cells are imputed, the scaler scales, one float32 forward pass answers.
Both read the same Parquet file in the same run, with the same number of threads; a sample is scored again row by row
and must give the same bits. ONNX Runtime, LightGBM and scikit-learn's MLP score the same rows as ready tensors. Rates
are rows per second of CPU; "by the clock" is what a user waits, with a thread that reads ahead as in `predict`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scoring_peers import peer_predictors

from ai.ml.core.bundle_dir import current_versions
from ai.ml.core.tables.cells import coerce
from ai.ml.core.tables.reader import ReadOptions, read_batches, write_table
from ai.ml.core.types import ModelBundle, TrainingConfig
from ai.ml.frameworks.pytorch.inference.scorer import Precision, Scorer, ScoringSettings
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.batch.prefetch import prefetch

SAMPLE_ROWS = 200
BATCH_ROWS = 65_536


def telco_like(rows: int, seed: int = 0) -> pa.Table:
    """20 columns that become 45 features: three numbers with missing cells, 17 categories."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        "tenure": rng.integers(0, 73, rows).astype(float),
        "monthly": np.round(rng.uniform(18, 119, rows), 2),
        "total": np.where(rng.random(rows) < 0.01, np.nan, np.round(rng.uniform(18, 8_700, rows), 2)),
    }
    widths = [2] * 9 + [3] * 8
    for index, width in enumerate(widths):
        columns[f"service_{index:02}"] = np.array([f"option {level}" for level in range(width)])[
            rng.integers(0, width, rows)
        ]
    signal = columns["tenure"] / 30 - (columns["service_10"] == "option 1") + 0.5 * rng.normal(size=rows)
    columns["churned"] = np.where(signal > 1, "no", "yes")
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


def wide(rows: int, seed: int = 0) -> pa.Table:
    """200 numbers."""
    rng = np.random.default_rng(seed)
    columns = {f"x{index:03}": rng.normal(size=rows) for index in range(200)}
    columns["churned"] = np.where(columns["x000"] + columns["x001"] > 0, "yes", "no")
    return pa.table(columns)


def dict_per_row(bundle: ModelBundle, rows: list[dict[str, Any]]) -> list[Any]:
    """The path that most code takes."""
    coerced = [
        {key: (float("nan") if (value := coerce(cell)) is None else value) for key, cell in row.items()} for row in rows
    ]
    matrix = np.asarray(bundle.vectorizer.transform(coerced))
    matrix = np.where(np.isfinite(matrix), matrix, bundle.feature_medians)
    x = torch.from_numpy(bundle.scaler.transform(matrix).astype(np.float32))
    with torch.inference_mode():
        logits = bundle.model(x)
    return bundle.label_encoder.inverse_transform(logits.argmax(1).numpy()).tolist()  # type: ignore[union-attr]


class Cost(NamedTuple):
    """Seconds of a piece of work, the best of some repeats each."""

    cpu_s: float
    """Fair on a machine that does other things too."""
    wall_s: float
    """What a user waits: a thread that reads ahead costs nothing here, if a core is free."""


def timed(work: Callable[[], Any], repeats: int) -> tuple[Cost, Any]:
    """What it costs, and the last result."""
    best, result = Cost(float("inf"), float("inf")), None
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        result = work()
        best = Cost(min(best.cpu_s, time.process_time() - cpu), min(best.wall_s, time.perf_counter() - wall))
    return best, result


def bare_forward(bundle: ModelBundle, x: torch.Tensor, tile_rows: int) -> float:
    """Sum of the outputs of a float32 forward pass over ready tensors, in the same tiles."""
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(x), tile_rows):
            total += float(bundle.model(x[start : start + tile_rows])[0, 0])
    return total


def scored_batches(scorer: Scorer, path: Path) -> Iterator[np.ndarray]:
    """Raw outputs of a file, a batch at a time, read as a batch prediction reads it."""
    contract = scorer.bundle.contract
    numbers = frozenset(column.name for column in (contract.columns if contract else ()) if column.kind == "number")
    with closing(prefetch(read_batches(str(path), ReadOptions(numbers=numbers), BATCH_ROWS))) as batches:
        for batch in batches:
            yield scorer.score_table(batch).raw


def measure(name: str, table: pa.Table, rows: int, folder: Path) -> dict[str, Any]:
    """All figures of one table."""
    bundle = train(table.slice(0, 4_000), TrainingConfig("churned", epochs=1)).bundle
    inputs = table.drop_columns(["churned"])
    parquet, csv = folder / f"{name}.parquet", folder / f"{name}.csv"
    write_table(inputs, parquet)
    write_table(inputs, csv)
    settings = ScoringSettings("fast")
    fast = Scorer(bundle, settings)
    x = torch.from_numpy(fast.scaled(fast.matrix(inputs)).astype(np.float32))
    forward, _ = timed(lambda: bare_forward(bundle, x, settings.tile_rows), 5)
    dict_rows = min(rows, 20_000)
    dicts, _ = timed(lambda: dict_per_row(bundle, pq.read_table(parquet).slice(0, dict_rows).to_pylist()), 1)
    figures: dict[str, Any] = {
        "columns": inputs.num_columns,
        "features": bundle.input_dim,
        "bare_forward_rows_per_s": rows / forward.cpu_s,
        "dict_per_row_rows_per_s": dict_rows / dicts.cpu_s,
    }
    target = (table["churned"].to_numpy() == "yes").astype(np.int64)
    for peer, predict in peer_predictors(bundle, x.numpy(), target).items():
        figures[f"{peer}_rows_per_s"] = rows / timed(predict, 3)[0].cpu_s
    precisions: tuple[Precision, ...] = ("fast", "exact")
    for precision in precisions:
        scorer = Scorer(bundle, ScoringSettings(precision))
        for source in (parquet, csv):
            cost, raws = timed(lambda: list(scored_batches(scorer, source)), 3)  # noqa: B023 - called at once
            check_sample(scorer, inputs, np.concatenate(raws))
            form = f"{precision}_{source.suffix[1:]}"
            figures[f"{form}_rows_per_s"] = rows / cost.cpu_s
            figures[f"{form}_share_of_bare_forward_by_the_clock"] = forward.wall_s / cost.wall_s
    for precision in precisions:
        rate = figures[f"{precision}_parquet_rows_per_s"]
        figures[f"{precision}_over_dict_per_row"] = rate / figures["dict_per_row_rows_per_s"]
        figures[f"{precision}_share_of_bare_forward"] = rate / figures["bare_forward_rows_per_s"]
        figures[f"{precision}_csv_over_dict_per_row"] = (
            figures[f"{precision}_csv_rows_per_s"] / figures["dict_per_row_rows_per_s"]
        )
    return figures


def check_sample(scorer: Scorer, inputs: pa.Table, raw: np.ndarray) -> None:
    """A sample scored one row at a time must give the same bits."""
    for row in np.random.default_rng(0).choice(inputs.num_rows, min(SAMPLE_ROWS, inputs.num_rows), replace=False):
        alone = scorer.score_rows(inputs.slice(int(row), 1).to_pylist()).raw
        if alone.tobytes() != raw[row : row + 1].tobytes():
            raise SystemExit(f"row {row} alone gives other bits: {alone} instead of {raw[row]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pa.set_cpu_count(arguments.threads)
    result: dict[str, Any] = {"rows": arguments.rows, "threads": arguments.threads}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("telco_like", telco_like), ("wide", wide)):
            result[name] = measure(name, make(arguments.rows), arguments.rows, Path(folder))
            for key, value in result[name].items():
                print(
                    f"{name:<11} {key:<32} {value:>14,.2f}"
                    if isinstance(value, float)
                    else f"{name:<11} {key:<32} {value:>14}"
                )
    result["versions"] = current_versions()
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
