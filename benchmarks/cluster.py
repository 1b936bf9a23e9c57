"""A Dask cluster of this machine: what it costs before the first part, what a second worker gains, what a task costs.

    python benchmarks/cluster.py --output benchmarks/results/cluster.json

The same folder of parts is scored in one process without a cluster, by one worker and by two; all runs use one Prefect
server that is there already. Of each run:

- `wall_s`: the whole process, from its start to its end; `cpu_s`: of it and its workers, without Prefect's server;
  `report_s`: the seconds of its report.
- `steady_rows_per_s`: parts published per second, from the times of the output's files (least squares over all parts),
  times the rows of a part. Nothing that happens once is in it.
- `until_first_part_s`: from the process's start until its first part was begun, as that part's publishing and the
  steady rate tell. `fixed_s`: `wall_s` without what all rows take at the steady rate; it also has the end in it.

Two further runs score many small parts by one worker, each part a task of its own and then all of them in one task:
the difference of the reports' seconds over the number of tasks is what Prefect and Dask take for one, waiting
included. `busy_seconds_per_task` is the same from the steady rates alone: how much later a worker is free again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from batch_memory import make_bundle
from flow_overhead import ROOT, server
from scoring import telco_like

from ai.ml.core.bundle_dir import current_versions

SMALL_ROWS = 100
DASK = ("--runner", "dask")
PART_IS_TASK = ("--task-mb", "0")
Figures = dict[str, float]


def make_parts(folder: Path, parts: int, rows: int) -> Path:
    """A folder of equal parts."""
    folder.mkdir()
    table = telco_like(rows, seed=2).drop_columns(["churned"])
    for index in range(parts):
        pq.write_table(table, folder / f"part-{index:04}.parquet", write_page_checksum=True)
    return folder


@dataclass(frozen=True)
class Scene:
    """What all runs have in common."""

    folder: Path
    bundle: Path
    api: str

    def run(self, source: Path, workers: int, *options: str) -> Figures:
        """One run into a new folder, `workers` processes scoring at once."""
        output = Path(tempfile.mkdtemp(dir=self.folder)) / "out"
        command = [sys.executable, "-m", "flows.batch_predict", "--json", *options]
        job = ["--bundle", str(self.bundle), "--input", str(source), "--output", str(output)]
        home = {"PREFECT_HOME": str(self.folder / "home"), "PREFECT_API_URL": self.api}
        environment = {**os.environ, **home, "OMP_NUM_THREADS": "1", "PREFECT_LOGGING_LEVEL": "ERROR"}
        began, used = time.time(), cpu_of_children()
        done = subprocess.run([*command, *job], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        wall = time.time() - began
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        report = json.loads(done.stdout[done.stdout.index("{") :])
        published = sorted(path.stat().st_mtime - began for path in output.glob("part-*"))
        return {"wall_s": wall, "cpu_s": cpu_of_children() - used, **figures(wall, report, published, workers)}


def cpu_of_children() -> float:
    """Seconds of all processes below this one that have ended and were waited for, theirs too."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def figures(wall: float, report: dict[str, Any], published: list[float], workers: int) -> Figures:
    """Of one run, from when each of its equal parts was published."""
    part_s = statistics.linear_regression(range(len(published)), published).slope
    rate = report["rows"] / len(published) / part_s
    return {
        "report_s": report["seconds"],
        "until_first_part_s": published[0] - part_s * workers,
        "fixed_s": wall - report["rows"] / rate,
        "steady_rows_per_s": rate,
        "steady_seconds_per_part": part_s,
    }


def fastest(scene: Scene, repeats: int, runs: dict[str, tuple[Path, int, tuple[str, ...]]]) -> dict[str, Figures]:
    """Of each run the fastest, taken in turns, so that a busy moment doesn't fall on one of them."""
    found: dict[str, list[Figures]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, (source, workers, options) in runs.items():
            found[name].append(scene.run(source, workers, *options))
            print(f"{name:<14}" + "".join(f" {key} {value:,.2f}" for key, value in found[name][-1].items()), flush=True)
    return {name: min(each, key=lambda one: one["wall_s"]) for name, each in found.items()}


def ratios(runs: dict[str, Figures], upper: str, lower: str) -> Figures:
    """How many times as fast as `lower` `upper` is: at the steady rate, and over the whole process."""
    return {
        "steady": runs[upper]["steady_rows_per_s"] / runs[lower]["steady_rows_per_s"],
        "whole": runs[lower]["wall_s"] / runs[upper]["wall_s"],
        "report": runs[lower]["report_s"] / runs[upper]["report_s"],
    }


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All runs and what they say."""
    bundle = make_bundle(folder)
    large = make_parts(folder / "large", arguments.parts, arguments.rows)
    small = make_parts(folder / "small", arguments.tasks, SMALL_ROWS)
    load = os.getloadavg()[0]
    with server(folder / "server") as api:
        scene = Scene(folder, bundle, api)
        one, two = ("--workers", "1"), ("--workers", "2")
        warm_up = scene.run(small, 1)
        runs = fastest(
            scene,
            arguments.repeats,
            {
                "one_process": (large, 1, ()),
                "one_worker": (large, 1, (*DASK, *one, *PART_IS_TASK)),
                "two_workers": (large, 2, (*DASK, *two, *PART_IS_TASK)),
                "task_per_part": (small, 1, (*DASK, *one, *PART_IS_TASK)),
                "one_task": (small, 1, (*DASK, *one, "--task-mb", "1000")),
            },
        )
    each, all_in_one = runs["task_per_part"], runs["one_task"]
    return {
        "rows": arguments.parts * arguments.rows,
        "parts": arguments.parts,
        "runs": runs,
        "one_worker_over_one_process": ratios(runs, "one_worker", "one_process"),
        "two_workers_over_one": ratios(runs, "two_workers", "one_worker"),
        "two_workers_over_one_process": ratios(runs, "two_workers", "one_process"),
        "seconds_per_task": (each["report_s"] - all_in_one["report_s"]) / max(1, arguments.tasks - 1),
        "busy_seconds_per_task": each["steady_seconds_per_part"] - all_in_one["steady_seconds_per_part"],
        "seconds_per_small_part": all_in_one["steady_seconds_per_part"],
        "warm_up_wall_s": warm_up["wall_s"],
        "load_before_and_after": [load, os.getloadavg()[0]],
        "cores": len(os.sched_getaffinity(0)),
        "versions": current_versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--rows", type=int, default=500_000, help="of a part")
    parser.add_argument("--tasks", type=int, default=100, help="small parts, to measure a task's own cost")
    parser.add_argument("--repeats", type=int, default=1, help="of every run; the fastest counts")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if min(arguments.parts, arguments.tasks) < 2:
        parser.error("a rate needs at least two parts and two tasks")
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name), arguments)
    print(json.dumps({name: value for name, value in result.items() if name not in ("versions", "runs")}, indent=2))
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
