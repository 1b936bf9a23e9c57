"""A Dask cluster of this machine: from one worker to two, and what a task costs beside its work.

    python benchmarks/cluster.py --output benchmarks/results/cluster.json

The same folder of parts is scored in one process without a cluster, by one worker and by two. Two further runs score
many small parts, each part a task of its own and then all of them in one task: the difference, over the number of
tasks, is what Prefect and Dask take for one. Starting server and cluster isn't counted: the times are those of the
report, from the first part to the last receipt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from batch_memory import make_bundle
from scoring import telco_like

from ai.ml.core.manifest import current_versions

ROOT = Path(__file__).parent.parent


def make_parts(folder: Path, parts: int, rows: int) -> Path:
    """A folder of equal parts."""
    folder.mkdir()
    table = telco_like(rows, seed=2).drop_columns(["churned"])
    for index in range(parts):
        pq.write_table(table, folder / f"part-{index:04}.parquet", write_page_checksum=True)
    return folder


def run_flow(bundle: Path, source: Path, output: Path, home: Path, *options: str) -> dict[str, Any]:
    """The report of one run."""
    command = [sys.executable, "-m", "flows.batch_predict", "--json", *options]
    job = ["--bundle", str(bundle), "--input", str(source), "--output", str(output)]
    environment = {**os.environ, "PREFECT_HOME": str(home), "OMP_NUM_THREADS": "1", "PREFECT_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run([*command, *job], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    report = json.loads(done.stdout[done.stdout.index("{") :])
    print(f"{' '.join(options) or 'no cluster':<50} {report['rows']:>12,} rows {report['seconds']:>8.2f} s")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--rows", type=int, default=500_000, help="of a part")
    parser.add_argument("--tasks", type=int, default=100, help="small parts, to measure a task's own cost")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_bundle(folder)
        large = make_parts(folder / "large", arguments.parts, arguments.rows)
        small = make_parts(folder / "small", arguments.tasks, 100)
        home = folder / "prefect"
        each, dask = ("--task-mb", "0"), ("--runner", "dask")
        runs = {
            "one_process": run_flow(bundle, large, folder / "a", home),
            "one_worker": run_flow(bundle, large, folder / "b", home, *dask, "--workers", "1", *each),
            "two_workers": run_flow(bundle, large, folder / "c", home, *dask, "--workers", "2", *each),
            "task_per_part": run_flow(bundle, small, folder / "d", home, *dask, "--workers", "1", *each),
            "one_task": run_flow(bundle, small, folder / "e", home, *dask, "--workers", "1", "--task-mb", "1000"),
        }
    seconds = {name: report["seconds"] for name, report in runs.items()}
    result = {
        "rows": runs["one_process"]["rows"],
        "seconds": seconds,
        "speedup_of_two_workers": seconds["one_worker"] / seconds["two_workers"],
        "one_worker_over_one_process": seconds["one_worker"] / seconds["one_process"],
        "seconds_per_task": (seconds["task_per_part"] - seconds["one_task"]) / max(1, arguments.tasks - 1),
        "cores": len(os.sched_getaffinity(0)),
        "versions": current_versions(),
    }
    print(json.dumps({name: value for name, value in result.items() if name != "versions"}, indent=2))
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
