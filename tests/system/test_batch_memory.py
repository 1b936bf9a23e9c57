"""Memory is that of a few batches, whatever the number of rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_scenes import rows_to_score
from bundles import sealed_bundle

from ai.ml.core.errors import ExitCode

ROWS = 1_500_000
ABOVE_IMPORTS = 512 << 20
"""Half of what is promised; twenty million rows are in `benchmarks/batch_memory.py`."""
LIMITED = """
import resource, sys
from pathlib import Path
from ai.ml.retraining.batch.job import BatchSettings, predict_dataset
from ai.ml.retraining.batch.runners import score_group
status = Path("/proc/self/status").read_text()
used = int(status.split("VmData:")[1].split()[0]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[4]), resource.RLIM_INFINITY))
report = predict_dataset(Path(sys.argv[1]), sys.argv[2], sys.argv[3], BatchSettings(keep=("key",)))
print(report.rows)
"""


@pytest.mark.slow
def test_rows_of_any_number_under_a_memory_limit(tmp_path: Path) -> None:
    bundle = sealed_bundle(tmp_path)
    piece = rows_to_score(50_000, seed=4)
    with pq.ParquetWriter(tmp_path / "in.parquet", piece.schema) as writer:
        for _ in range(ROWS // piece.num_rows):
            writer.write_table(piece)
    arguments = [str(bundle), str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"), str(ABOVE_IMPORTS)]
    # Arrow's own allocator reserves a gigabyte of addresses at once, which the limit would count.
    plain = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, env=plain)
    assert done.returncode == ExitCode.OK, done.stderr[-2000:]
    assert int(done.stdout) == ROWS == pq.read_metadata(tmp_path / "out.parquet").num_rows
    # The limit is a real one: what is larger isn't given.
    beyond = LIMITED.rpartition("report =")[0] + (
        "try: bytearray(int(sys.argv[4]) + (64 << 20))\nexcept MemoryError: print('full')\n"
    )
    full = subprocess.run([sys.executable, "-c", beyond, *arguments], capture_output=True, text=True, env=plain)
    assert full.stdout == "full\n", full.stderr
    assert pq.read_schema(tmp_path / "out.parquet").names == ["key", "y_predicted"]


STREAMED = """
import resource, sys
from pathlib import Path
from ai.ml.core.tables.reader import read_batches
status = Path("/proc/self/status").read_text()
used = int(status.split("VmData:")[1].split()[0]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[2]), resource.RLIM_INFINITY))
print(sum(batch.num_rows for batch in read_batches(sys.argv[1], batch_rows=32_768)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("row_groups", [1, 20])
def test_a_file_is_streamed_whatever_its_row_groups(tmp_path: Path, row_groups: int) -> None:
    rows, columns = 1_000_000, 30
    path = tmp_path / "in.parquet"
    values = np.random.default_rng(0).random(rows)
    table = pa.table({f"c{index}": values for index in range(columns)})
    pq.write_table(table, path, row_group_size=rows // row_groups, use_dictionary=False, compression="none")
    # Of 230 MB. How far Arrow's threads run ahead is the moment's matter, and they have stacks of 8 MB each.
    limit = path.stat().st_size * 3 // 4
    plain = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    command = [sys.executable, "-c", STREAMED, str(path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, env=plain)
    assert done.stdout == f"{rows}\n", done.stderr[-2000:]
