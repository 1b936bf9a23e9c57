"""What the gate costs: on the embedded example, cold, and as a share of the retraining it guards.

    python benchmarks/gate.py
    python benchmarks/gate.py --rows 100000     # a larger table of the same kind

`verify` and `selftest` are timed as a user runs them, start of the interpreter included. The share is that of the
proof in the plain steps of a retraining (read, train, prove, decide, promote) without Prefect.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.commands.example import penguins
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig


def retrain(folder: Path, n_rows: int | None) -> tuple[Path, dict[str, float]]:
    """One retraining as plain functions; the champion's directory and seconds per step."""
    table = penguins()
    if n_rows is not None:
        table = pa.concat_tables([table] * (n_rows // table.num_rows + 1)).slice(0, n_rows)
    write_table(table, folder / "table.parquet")
    data_settings = DataSettings(source=str(folder / "table.parquet"), target="species")
    config = RetrainConfig(name="m", store=str(folder / "store"), data=data_settings)
    seconds: dict[str, float] = {}

    def timed(name: str, step: Any, *arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = step(*arguments, **options)
        seconds[name] = time.perf_counter() - start
        return result

    data = timed("read", steps.read_data, config)
    candidate = timed("train", steps.train_candidate, config, data)
    verdict = timed("prove", steps.prove_candidate, config, candidate)
    decision = timed("decide", steps.decide, config, candidate)
    timed("promote", steps.promote, config, candidate, verdict, decision, flow_run_id=None)
    return Path(candidate.bundle.path), seconds


def console(*arguments: str) -> float:
    """Seconds of a `bundlegate` command."""
    start = time.perf_counter()
    command = [str(Path(sys.executable).with_name("bundlegate")), *arguments]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="repeat the example's rows up to this many")
    parser.add_argument("--output", type=Path, help="JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle_dir, seconds = retrain(Path(folder), arguments.rows)
        verify = console("verify", str(bundle_dir))
        selftest = console("selftest", str(bundle_dir))
    total = sum(seconds.values())
    for name, value in seconds.items():
        print(f"{name:8} {value:7.2f} s  {value / total:6.1%} of the retraining")
    print(f"verify   {verify:7.2f} s  cold, aim 15 s\nselftest {selftest:7.2f} s  cold, aim 60 s")
    if arguments.output:
        record = {"steps": seconds, "share": seconds["prove"] / total, "verify": verify, "selftest": selftest}
        arguments.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
