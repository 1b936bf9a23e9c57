"""Sealed bundles and datasets of many parts for the tests of batch prediction."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from builders import mixed_table
from conftest import PATIENCE_S
from warm_python import real_pid

from ai.ml.core.tables.reader import write_table


def rows_to_score(n_rows: int, seed: int) -> pa.Table:
    """Rows without the target, each with a key of its own."""
    keys = pa.array([f"{seed}-{index}" for index in range(n_rows)])
    return mixed_table(n_rows, seed=seed).drop_columns(["y"]).append_column("key", keys)


def dataset(root: Path, n_parts: int = 6, n_rows: int = 150, *, suffix: str = ".parquet") -> Path:
    """A folder partitioned by `plan`, which the model reads from the folders' names."""
    for index in range(n_parts):
        folder = root / f"plan={('basic', 'plus', 'pro')[index % 3]}"
        folder.mkdir(parents=True, exist_ok=True)
        table = rows_to_score(n_rows + index, seed=100 + index).drop_columns(["plan"])
        write_table(table, folder / f"part-{index}{suffix}")
    return root


def tree(root: Path) -> dict[str, str]:
    """Every file below `root` with the sha-256 of its bytes."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def predict_process(python: Path, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """`bundlegate predict` as a process that isn't waited for, of a cold or a warm interpreter."""
    return subprocess.Popen(
        [str(python), "-m", "ai.ml.retraining.commands.cli", "predict", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def parts_done(out: Path) -> int:
    """How many parts of an unfinished output have their receipts."""
    return len(list((out / "_progress" / "receipts").rglob("*.json")))


def kill_at(moment: Callable[[], bool], process: subprocess.Popen[str], later_s: float = 0.0) -> None:
    """SIGKILL so many seconds after a moment has come; a process that has ended before is left as it is."""
    deadline = time.monotonic() + PATIENCE_S
    try:
        while process.poll() is None and not moment():
            assert time.monotonic() < deadline, "the moment to kill it didn't come"
            time.sleep(0.002)
        time.sleep(later_s)
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(real_pid(process), signal.SIGKILL)
        process.communicate()
