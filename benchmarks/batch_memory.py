"""Peak memory of `predict` over 20 million rows, above that of the bare imports, under a real limit of 1 GiB.

    python benchmarks/batch_memory.py --rows 20000000 --output benchmarks/results/batch_memory.json

The input is one row group written again and again, so that making it costs little. The process sets RLIMIT_DATA (all
memory that is its own) to what the imports take plus 1 GiB and is refused any more.
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
from scoring import telco_like

from ai.ml.core.bundle_dir import current_versions

CHUNK_ROWS = 100_000
LIMIT = 1 << 30
CHILD = """
import json, resource, sys, time
from pathlib import Path
from ai.ml.retraining.batch.job import predict_dataset
from ai.ml.retraining.batch.runners import score_group
def held(field):
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (held("VmData") + int(sys.argv[4]), resource.RLIM_INFINITY))
Path("/proc/self/clear_refs").write_text("5")  # the peak from here on, without that of the imports
bare, began, cpu = held("VmRSS"), time.monotonic(), time.process_time()
report = predict_dataset(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
peak = held("VmHWM")
print(json.dumps({"rows": report.rows, "bare_imports_bytes": bare, "peak_bytes": peak, "above_bytes": peak - bare,
                  "wall_s": time.monotonic() - began, "cpu_s": time.process_time() - cpu}))
"""


def make_bundle(folder: Path) -> Path:
    """A sealed bundle for the Telco-like table."""
    import pyarrow as pa

    from ai.ml.core.types import TrainingConfig
    from ai.ml.frameworks.pytorch.trainer.training import train
    from ai.ml.retraining.evidence.seal import stage_candidate

    table = telco_like(4_000)
    result = train(table, TrainingConfig("churned", epochs=1))
    target = folder / "bundle"
    target.mkdir()
    stage_candidate(target, result, table.take(pa.array(result.holdout_rows)))
    return target


def make_input(path: Path, rows: int) -> None:
    """`rows` rows, a chunk of them repeated."""
    chunk = telco_like(CHUNK_ROWS, seed=1).drop_columns(["churned"])
    with pq.ParquetWriter(path, chunk.schema, write_page_checksum=True) as writer:
        for start in range(0, rows, CHUNK_ROWS):
            writer.write_table(chunk.slice(0, min(CHUNK_ROWS, rows - start)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder))
        for rows in (arguments.rows // 10, arguments.rows):
            source = Path(folder, f"in-{rows}.parquet")
            make_input(source, rows)
            command = [sys.executable, "-c", CHILD, str(bundle), str(source), f"{folder}/out.parquet", str(LIMIT)]
            # Arrow's own allocator reserves a gigabyte of addresses at once, which the limit would count.
            plain = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
            if done.returncode:
                raise SystemExit(f"{rows:,} rows need more than the limit:\n{done.stderr[-2000:]}")
            results.append(json.loads(done.stdout) | {"input_bytes": source.stat().st_size})
            print(json.dumps(results[-1], indent=2))
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        record = {"limit_above_imports_bytes": LIMIT, "runs": results, "versions": current_versions()}
        arguments.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
