"""The drill on real tables, beside what other guards of a nightly retraining let through in the same run.

`make drill-table`, or `python benchmarks/drill_table.py [TABLE ...] [--rows N] [--write]`. The tables ship in packages
(see `quality_data.py`); pandera isn't in the lock: `pip install .[benchmarks]`. Every broken table also goes to three
guards of the usual kind, which get what pandas reads:

- metric: gradient boosting is trained on it, and its accuracy on a fifth of the rows drawn at random is at most 0.02
  below that of the undamaged night (its RMSE at most 5 % above);
- schema: a pandera schema of the champion's table, with its types, ranges, missing cells and categories;
- drift: the population stability index of every column of inputs is below 0.25, as Bundlegate measures it.

A table that pandas can't read, or that a guard breaks at, counts as refused by it.
"""

from __future__ import annotations

import argparse
import io
import json
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from quality_data import REPORTED, read_problem
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import train_test_split

from ai.ml.core.bundle_dir import MANIFEST_FORMAT, Manifest
from ai.ml.core.contract.drift import measure_drift
from ai.ml.core.files.scratch import scratch_folder
from ai.ml.retraining.drill.kind import File, Kind, Scene
from ai.ml.retraining.drill.play import Night, Player
from ai.ml.retraining.drill.run import CATALOGUE, DrillReport
from ai.ml.retraining.drill.scene import drill_settings, set_scene

PAGE = Path(__file__).parent.parent / "docs" / "drill-table.md"
TABLES = ("ames", "churn", "credit")
"""The longest first."""
ROWS = 3_000
GUARDS = ("metric", "schema", "drift")
TITLES = {"metric": "a metric threshold", "schema": "a schema check (pandera {version})", "drift": "a drift check"}
OWN = {"refused": "refused", "held": "held", "noted": "noted", "silent": "**through**", "not applicable": "–"}


class Guards:
    """The three others, set up on the champion's table and the undamaged night."""

    def __init__(self, scene: Scene):
        self.scene = scene
        self.schema = _schema(scene.champions.to_pandas(), scene.target)
        self.usual = self._metric(scene.tonight.to_pandas())

    def through(self, kind: Kind) -> set[str]:
        """The guards that let a broken table through."""
        try:
            frame = _frame(kind.make(self.scene))
        except Exception:
            return set()
        tried = {"metric": self._metric_holds, "schema": self._schema_holds, "drift": self._drift_holds}
        return {name for name, holds in tried.items() if _survives(holds, frame)}

    def _metric_holds(self, frame: pd.DataFrame) -> bool:
        value = self._metric(frame)
        return value >= self.usual - 0.02 if self.scene.is_classification else value <= 1.05 * self.usual

    def _schema_holds(self, frame: pd.DataFrame) -> bool:
        self.schema.validate(frame)
        return True

    def _drift_holds(self, frame: pd.DataFrame) -> bool:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        return measure_drift(self.scene.contract, [table]).severity != "major"

    def _metric(self, frame: pd.DataFrame) -> float:
        """Accuracy, or RMSE, of gradient boosting on a fifth of the rows."""
        y, x = frame[self.scene.target], frame.drop(columns=self.scene.target)
        for name in x.columns:
            if not pd.api.types.is_numeric_dtype(x[name]):
                x[name] = pd.factorize(x[name].astype(str))[0]
        is_classes = self.scene.is_classification
        y = y.astype(str) if is_classes else y.astype(float)
        parts = train_test_split(x, y, test_size=0.2, random_state=0)
        model = (HistGradientBoostingClassifier if is_classes else HistGradientBoostingRegressor)(random_state=0)
        answers = model.fit(parts[0], parts[2]).predict(parts[1])
        return float((answers == parts[3]).mean() if is_classes else np.sqrt(((answers - parts[3]) ** 2).mean()))


def _survives(holds: Any, frame: pd.DataFrame) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bool(holds(frame.copy()))
        except Exception:
            return False


def _frame(made: pa.Table | File) -> pd.DataFrame:
    return made.to_pandas() if isinstance(made, pa.Table) else pd.read_csv(io.BytesIO(made.content))


def _schema(frame: pd.DataFrame, target: str) -> Any:
    """Types, ranges, missing cells and categories as they were; of the target its type and classes."""
    import pandera.pandas as pandera

    columns: dict[str, Any] = {}
    for name in frame.columns:
        cells, checks = frame[name].dropna(), []
        if not pd.api.types.is_numeric_dtype(cells):
            checks = [pandera.Check.isin(sorted(set(cells)))]
        elif name != target:
            # A little room, as people leave it: or the first newer row beyond the oldest ones stops the night.
            room = 0.1 * float(cells.max() - cells.min())
            checks = [pandera.Check.in_range(float(cells.min()) - room, float(cells.max()) + room)]
        columns[str(name)] = pandera.Column(None, checks, nullable=bool(frame[name].isna().any()), coerce=False)
    return pandera.DataFrameSchema(columns)


@dataclass
class Outcome:
    name: str
    report: DrillReport
    through: dict[str, set[str]]
    seconds: float


def play(name: str, rows: int) -> Outcome:
    problem = REPORTED[name]
    frame, _ = read_problem(problem, rows)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    manifest = Manifest(MANIFEST_FORMAT, {}, {}, {}, {}, None, None, {"target": problem.target, "training": {}})
    through: dict[str, set[str]] = {}
    began = time.process_time()
    with scratch_folder() as folder:
        config = drill_settings(manifest, name, folder)
        scene = set_scene(config, table)
        player = Player(config, scene)
        nights = [player.play(kind) for kind in CATALOGUE]
        seconds = time.process_time() - began
        guards = Guards(scene)
        for kind, night in zip(CATALOGUE, nights, strict=True):
            if night.fate != "not applicable":
                through[kind.name] = guards.through(kind)
    return Outcome(name, DrillReport(tuple(nights), table.num_rows), through, seconds)


def page(outcomes: list[Outcome]) -> str:
    from importlib.metadata import version

    titles = {name: title.format(version=version("pandera")) for name, title in TITLES.items()}
    lines = [
        "# What a drill finds",
        "",
        "Made by `make drill-table` (`benchmarks/drill_table.py`); nothing in it is written by hand. Each kind breaks",
        "a copy of the table, and the night is played with it by the code of `bundlegate drill`. `noted` was promoted",
        "with a note that the usual night doesn't have. The truth is the challenger's loss on undamaged rows that",
        "neither model saw, beside the champion's.",
        "",
        "| table | rows | kinds | refused | held | noted | in silence | good nights stopped | seconds of processor |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for outcome in outcomes:
        counts = outcome.report.counts
        good = sum(night.family == "good" for night in outcome.report.nights)
        tried = sum(counts.values()) - counts["not applicable"]
        cells = [counts[fate] for fate in ("refused", "held", "noted", "silent")]
        lines.append(
            f"| {outcome.name} | {outcome.report.rows:,} | {tried} | {' | '.join(map(str, cells))} "
            f"| {len(outcome.report.stopped)} of {good} | {outcome.seconds:.0f} |"
        )
    lines += ["", "Broken tables that each guard lets through without a word, and good nights that it stops:", ""]
    lines += ["| guard | " + " | ".join(outcome.name for outcome in outcomes) + " |", "|---|" + "---:|" * len(outcomes)]
    for guard in GUARDS:
        lines.append(f"| {titles[guard]} | " + " | ".join(_counts(outcome, guard) for outcome in outcomes) + " |")
    lines.append(
        "| **Bundlegate** | "
        + " | ".join(
            f"{len(outcome.report.silent)}; {len(outcome.report.stopped)} good stopped" for outcome in outcomes
        )
        + " |"
    )
    for outcome in outcomes:
        lines += [
            "",
            f"## {outcome.name}",
            "",
            f"| family | kind | {' | '.join(GUARDS)} | Bundlegate | the truth |",
            "|---|---|" + "---|" * (len(GUARDS) + 2),
        ]
        for night in outcome.report.nights:
            lines.append(_row(night, outcome.through.get(night.name)))
    return "\n".join(lines) + "\n"


def _counts(outcome: Outcome, guard: str) -> str:
    said = Counter(
        (night.family == "good", guard in outcome.through[night.name])
        for night in outcome.report.nights
        if night.name in outcome.through
    )
    return f"{said[False, True]}; {said[True, False]} good stopped"


def _row(night: Night, through: set[str] | None) -> str:
    if night.family == "good":
        own = "**stopped**" if night.is_stopped else "through" if night.fate == "promoted" else "held by the metrics"
        others = ["through" if through and guard in through else "**stopped**" for guard in GUARDS]
    else:
        own = OWN[night.fate] + (" by the metrics" if night.by == "metrics" else "")
        others = ["–" if through is None else "**through**" if guard in through else "refused" for guard in GUARDS]
    truth = "" if night.truth is None else night.truth.sentence.replace("|", "\\|").partition(":")
    told = "" if not truth else "".join(truth) if len("".join(truth)) < 70 else truth[0]
    return f"| {night.family} | {night.name} | {' | '.join(others)} | {own} | {told} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=TABLES)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--processes", type=int, default=2, help="tables that are played at once")
    parser.add_argument("--write", action="store_true", help="write docs/drill-table.md")
    parser.add_argument("--json", type=Path, help="keep what came out")
    given = parser.parse_args()
    # Each table's seconds are those of its own process.
    with ProcessPoolExecutor(given.processes) as pool:
        outcomes = list(pool.map(play, given.tables, repeat(given.rows)))
    for outcome in outcomes:
        print(f"{outcome.name}: {outcome.report.sentence}; {outcome.seconds:.0f} s of processor time")
        for night in (*outcome.report.silent, *outcome.report.stopped):
            print(f"  {night.family} {night.name}: {night.fate}, {night.sentence}")
    if given.json:
        given.json.write_text(json.dumps({outcome.name: outcome.report.to_json() for outcome in outcomes}))
    if given.write:
        PAGE.write_text(page(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
