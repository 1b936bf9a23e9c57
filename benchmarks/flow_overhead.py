"""What Prefect adds to a retraining: the flow against the same steps called as plain functions, warm, penguins.

    python benchmarks/flow_overhead.py --output benchmarks/results/flow_overhead.json

Every run is a process of its own with a store of its own; the times are wall seconds from its start, the least of
`--repeats`. `first_step` is where reading begins: imports, and the server's start where the run has its own. `steps` is
what the steps take themselves, `between` what lies between them, `end` what comes after the last one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ai.ml.core.bundle_dir import current_versions

ROOT = Path(__file__).parent.parent

PLAIN = """
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.reporting import sources
watch(steps, "check_drift")
watch(sources, "report_candidate")
config = RetrainConfig.model_validate_json(sys.argv[2])
with steps.open_run(config):
    data = steps.read_data(config)
    steps.check_drift(config, data)
    candidate = steps.train_candidate(config, data)
    verdict = steps.prove_candidate(config, candidate)
    decision = steps.decide(config, candidate)
    steps.promote(config, candidate, verdict, decision, flow_run_id=None)
    steps.score_holdout(config, candidate)
    sources.report_candidate(config, candidate, verdict, decision)
"""

FLOW = """
from flows.retrain import retrain
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.reporting import sources
watch(steps, "check_drift")
watch(sources, "report_candidate")
retrain(RetrainConfig.model_validate_json(sys.argv[2]))
"""

# Both: when each step began and ended, by the system's clock, since the parent's start is told by it.
WATCHED = """
import atexit, functools, json, sys, time
from ai.ml.retraining.runs import retrain as steps
times = []
def watch(module, name):
    step = getattr(module, name)
    @functools.wraps(step)
    def watched(*given, **named):
        began = time.time()
        try:
            return step(*given, **named)
        finally:
            times.append((name, began, time.time()))
    setattr(module, name, watched)
for name in ("read_data", "train_candidate", "prove_candidate", "decide", "promote", "score_holdout"):
    watch(steps, name)
BODY
open(sys.argv[1], "w").write(json.dumps(times))
"""


def run_once(body: str, folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """The seconds of one process."""
    config = {
        "name": "penguins",
        "store": str(folder / "store"),
        "data": {"source": str(folder.parent / "penguins.csv"), "target": "species"},
        "training": {"epochs": 30},
    }
    folder.mkdir()
    command = [sys.executable, "-c", WATCHED.replace("BODY", body), str(folder / "times"), json.dumps(config)]
    began = time.time()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    ended = time.time()
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    times: list[tuple[str, float, float]] = json.loads((folder / "times").read_text())
    return {
        "total": ended - began,
        "first_step": times[0][1] - began,
        "steps": sum(end - start for _, start, end in times),
        "between": sum(after[1] - before[2] for before, after in itertools.pairwise(times)),
        "end": ended - times[-1][2],
    }


@contextmanager
def server(home: Path, database: str | None = None) -> Generator[str]:
    """The address of a server of this run's own, on SQLite if no database's URL is given."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "PREFECT_HOME": str(home)}
    if database is not None:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}/api"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the Prefect server doesn't start") from None
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, "-m", "ai.ml.retraining.commands.cli", "example", str(folder / "penguins.csv")], check=True
        )
        with server(folder / "server") as address:
            alone = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
            alone |= {"PREFECT_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
            served = {**alone, "PREFECT_API_URL": address}
            variants: dict[str, tuple[str, dict[str, str]]] = {
                "plain functions": (PLAIN, alone),
                "flow, a server of its own": (FLOW, alone),
                "flow, a running server": (FLOW, served),
                "… without logs to the API": (FLOW, {**served, "PREFECT_LOGGING_TO_API_ENABLED": "false"}),
            }
            # In turns, so that a busy moment doesn't fall on one of them.
            runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
            for repeat in range(arguments.repeats + 1):
                for index, (variant, (body, environment)) in enumerate(variants.items()):
                    figures = run_once(body, folder / f"{repeat}-{index}", environment)
                    if repeat:  # the first one warms the machine
                        runs[variant].append(figures)
    best = {variant: min(figures, key=lambda each: each["total"]) for variant, figures in runs.items()}
    plain = best["plain functions"]["total"]
    result: dict[str, Any] = {
        "best": best,
        "seconds_over_plain": {variant: figures["total"] - plain for variant, figures in best.items()},
        "runs": runs,
        "versions": current_versions(),
    }
    print(f"{'':<28}{'total':>8}{'over':>8}{'first':>8}{'steps':>8}{'between':>8}{'end':>8}")
    for variant, figures in best.items():
        cells = [
            figures["total"],
            figures["total"] - plain,
            *(figures[k] for k in ("first_step", "steps", "between", "end")),
        ]
        print(f"{variant:<28}" + "".join(f"{cell:>8.2f}" for cell in cells))
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
