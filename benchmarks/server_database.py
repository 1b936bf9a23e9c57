"""When Prefect's server needs PostgreSQL: flows at once, each of many small tasks, on SQLite and on PostgreSQL.

    python benchmarks/server_database.py --postgresql postgresql+asyncpg://ada:PASSWORD@127.0.0.1:5432/prefect

Each flow is a process of its own that talks to one `prefect server start`; wall seconds from the first start until
the last end, and how many didn't end as Completed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from flow_overhead import ROOT, server

from ai.ml.core.bundle_dir import current_versions

FLOW = """
import sys
from prefect import flow, task

@task
def step(number: int) -> int:
    return number

@flow
def many() -> int:
    return sum(future.result() for future in step.map(range(int(sys.argv[1]))))

many()
"""


def run_flows(address: str, home: Path, flows: int, tasks: int) -> dict[str, float]:
    """Start so many flows together and wait for them."""
    environment = {
        **os.environ,
        "PREFECT_API_URL": address,
        "PREFECT_HOME": str(home),
        "PREFECT_LOGGING_LEVEL": "ERROR",
    }
    command = [sys.executable, "-c", FLOW, str(tasks)]
    began = time.monotonic()
    started = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(flows)
    ]
    failed = sum(process.wait() != 0 for process in started)
    return {"flows": flows, "seconds": time.monotonic() - began, "failed": failed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgresql", metavar="URL", help="an empty database that the server may fill")
    parser.add_argument("--flows", type=int, nargs="+", default=[1, 3, 6])
    parser.add_argument("--tasks", type=int, default=100, help="of each flow")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {}
    for database, url in {"SQLite": None, "PostgreSQL": arguments.postgresql}.items():
        if database == "PostgreSQL" and url is None:
            continue
        with tempfile.TemporaryDirectory() as name, server(Path(name), database=url) as address:
            run_flows(address, Path(name, "client"), 1, 1)
            results[database] = []
            for flows in arguments.flows:
                results[database].append(run_flows(address, Path(name, "client"), flows, arguments.tasks))
                print(f"{database:<12} {json.dumps(results[database][-1])}", flush=True)
    record: dict[str, Any] = {"tasks": arguments.tasks, "results": results, "versions": current_versions()}
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
