"""Batch prediction that is killed, starved of disk or robbed of a worker: nothing lost, nothing twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from batch_scenes import dataset, kill_at, parts_done, predict_process, rows_to_score, tree
from bundles import sealed_bundle
from conftest import PATIENCE_S
from soak import Effort, Total

from ai.ml.core.errors import ExitCode
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.batch.job import predict_dataset
from ai.ml.retraining.batch.runners import ProcessRunner


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_bundle(tmp_path_factory.mktemp("bundles"))


def is_at(out: Path, done: int) -> bool:
    """Whether it has begun to write and so many parts are done."""
    return (out / "_progress" / "job.json").exists() and parts_done(out) >= done


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    bundle: Path, tmp_path: Path, warm: Path, effort: Effort, total: Total
) -> None:
    kills = effort(ci=8, soak=100)
    source = dataset(tmp_path / "in", 12, 20_000)
    began = time.monotonic()
    predict_dataset(bundle, str(source), str(tmp_path / "expected"))
    a_part = (time.monotonic() - began) / 12
    expected = tree(tmp_path / "expected")
    rng = random.Random(8)
    kept: list[int] = []
    for kill in range(kills):
        out = tmp_path / f"out-{kill}"
        # Any moment of one part after the other: which ones these are is no matter of the machine's speed.
        done = kill * 12 // kills
        process = predict_process(warm, bundle, source, out)
        kill_at(partial(is_at, out, done), process, rng.uniform(0, a_part))
        assert (out / "_SUCCESS").exists() <= (tree(out).items() >= expected.items())
        again = predict_dataset(bundle, str(source), str(out))
        kept.append(again.kept)
        assert tree(out) == expected
    # The kills fell before, between and after parts, or they would have shown nothing.
    assert min(kept) < 6 < max(kept), kept
    assert len(set(kept)) >= 5, kept
    total("kills of a batch into a folder", kills)


@pytest.mark.slow
def test_one_file_of_many_parts_is_whole_or_absent_when_killed(bundle: Path, tmp_path: Path, warm: Path) -> None:
    source = dataset(tmp_path / "in", 4, 3_000)
    predict_dataset(bundle, str(source), str(tmp_path / "expected.parquet"))
    whole = (tmp_path / "expected.parquet").read_bytes()
    rng = random.Random(9)
    for kill in range(5):
        out = tmp_path / f"out-{kill}.parquet"
        process = predict_process(warm, bundle, source, out)
        moment = partial(is_at, tmp_path / f".{out.name}.parts", kill)
        kill_at(moment, process, rng.uniform(0, 0.1))
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
    process = predict_process(Path(sys.executable), bundle, source, tmp_path / "out", "--workers", "2")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers: list[int] = []

    def all_are_there() -> bool:
        workers[:] = map(int, children.read_text().split())
        return is_at(tmp_path / "out", 0) and len(workers) >= 3

    kill_at(all_are_there, process)
    assert len(workers) >= 3, "two workers and multiprocessing's own tracker"
    deadline = time.monotonic() + PATIENCE_S
    while any(_runs(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlives its owner"
        time.sleep(0.05)
    predict_dataset(bundle, str(source), str(tmp_path / "expected"))
    predict_dataset(bundle, str(source), str(tmp_path / "out"))
    assert tree(tmp_path / "out") == tree(tmp_path / "expected")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow(4)
def test_a_full_disk_loses_nothing_that_was_finished(bundle: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", 3)
    write_table(rows_to_score(30_000, seed=1).drop_columns(["plan"]), source / "plan=plus" / "part-1.parquet")
    predict_dataset(bundle, str(source), str(tmp_path / "expected"))
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from ai.ml.core.errors import StorageFailed\n"
        "from ai.ml.retraining.batch.job import predict_dataset\n"
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
