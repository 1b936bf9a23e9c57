"""Batch prediction that is killed, starved of disk or robbed of a worker: nothing lost, nothing twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_scenes import dataset, predict_process, rows_to_score, sealed_bundle, tree

from ai.ml.core.errors import ExitCode
from ai.ml.core.tables import write_table
from ai.ml.retraining.batch import predict_dataset
from ai.ml.retraining.runners import ProcessRunner

KILLS = 20
WAIT_S = 200
"""For a process to start on a machine that does other things too."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_bundle(tmp_path_factory.mktemp("bundles"))


def wait_for_job(out: Path, process: subprocess.Popen[str]) -> None:
    """Until the process has begun to write."""
    deadline = time.monotonic() + WAIT_S
    while not (out / "_progress" / "job.json").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 12, 20_000)
    began = time.monotonic()
    predict_dataset(bundle, str(source), str(tmp_path / "expected"))
    lasts = time.monotonic() - began
    expected = tree(tmp_path / "expected")
    rng = random.Random(8)
    kept: list[int] = []
    for kill in range(KILLS):
        out = tmp_path / f"out-{kill}"
        process = predict_process(bundle, source, out)
        wait_for_job(out, process)
        time.sleep(rng.uniform(0, lasts))
        process.kill()
        process.communicate()
        assert (out / "_SUCCESS").exists() <= (tree(out).items() >= expected.items())
        again = predict_dataset(bundle, str(source), str(out))
        kept.append(again.kept)
        assert tree(out) == expected
    # The kills fell before, between and after parts, or they would have shown nothing.
    assert min(kept) < 6 < max(kept), kept
    assert len(set(kept)) >= 5, kept


@pytest.mark.slow
def test_one_file_of_many_parts_is_whole_or_absent_when_killed(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 4, 3_000)
    predict_dataset(bundle, str(source), str(tmp_path / "expected.parquet"))
    whole = (tmp_path / "expected.parquet").read_bytes()
    rng = random.Random(9)
    for kill in range(5):
        out = tmp_path / f"out-{kill}.parquet"
        process = predict_process(bundle, source, out)
        wait_for_job(tmp_path / f".{out.name}.parts", process)
        time.sleep(rng.uniform(0, 0.4))
        process.kill()
        process.communicate()
        assert not out.exists() or out.read_bytes() == whole
        predict_dataset(bundle, str(source), str(out))
        assert out.read_bytes() == whole
        assert not (tmp_path / f".{out.name}.parts").exists()


@pytest.mark.slow
def test_processes_give_the_same_bytes_and_survive_a_killed_one(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 8, 20_000)
    predict_dataset(bundle, str(source), str(tmp_path / "expected"))
    killed: list[int] = []

    def kill_a_worker(done: int, _parts: int) -> None:
        children = [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
        workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if done >= 2 and not killed and workers:
            killed.append(workers[0])
            os.kill(workers[0], signal.SIGKILL)

    report = predict_dataset(bundle, str(source), str(tmp_path / "out"), run=ProcessRunner(2), progress=kill_a_worker)
    assert killed
    assert report.exit_code == ExitCode.OK
    assert tree(tmp_path / "out") == tree(tmp_path / "expected")


@pytest.mark.slow
def test_workers_end_with_a_killed_owner(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 8, 20_000)
    process = predict_process(bundle, source, tmp_path / "out", "--workers", "2")
    wait_for_job(tmp_path / "out", process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + WAIT_S
    while len(workers := [int(pid) for pid in children.read_text().split()]) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(workers) == 3, "two workers and multiprocessing's own tracker"
    process.kill()
    process.communicate()
    while any(_runs(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in workers)
    predict_dataset(bundle, str(source), str(tmp_path / "expected"))
    predict_dataset(bundle, str(source), str(tmp_path / "out"))
    assert tree(tmp_path / "out") == tree(tmp_path / "expected")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_full_disk_loses_nothing_that_was_finished(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 3)
    write_table(rows_to_score(30_000, seed=1).drop_columns(["plan"]), source / "plan=plus" / "part-1.parquet")
    predict_dataset(bundle, str(source), str(tmp_path / "expected"))
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from ai.ml.core.errors import StorageFailed\n"
        "from ai.ml.retraining.batch import predict_dataset\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))\n"
        "try: predict_dataset(Path(sys.argv[1]), *sys.argv[2:4])\n"
        "except StorageFailed as error: print(error); sys.exit(int(error.exit_code))\n"
    )
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "expected").rglob("*.parquet")}
    limit = (sizes["part-0.parquet"] + sizes["part-1.parquet"]) // 2
    assert sizes["part-0.parquet"] < limit < sizes["part-1.parquet"]
    arguments = [str(bundle), str(source), str(tmp_path / "out"), str(limit)]
    starved = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert starved.returncode == ExitCode.STORAGE, starved.stderr
    assert "part-1.parquet failed: File too large" in starved.stdout
    found = tree(tmp_path / "out")
    expected = tree(tmp_path / "expected")
    assert found["plan=basic/part-0.parquet"] == expected["plan=basic/part-0.parquet"]
    assert not [name for name in found if name.endswith(".tmp") or name == "_SUCCESS"]
    again = predict_dataset(bundle, str(source), str(tmp_path / "out"))
    assert again.kept >= 1
    assert tree(tmp_path / "out") == expected
