"""Scoring on a Dask cluster of real processes: a killed worker, a killed scheduler, a worker with other bits."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from typing import Any

import prefect
import psutil
import pytest
from batch_scenes import dataset, parts_done, tree
from bundles import sealed_bundle
from conftest import PATIENCE_S, ROOT, free_port
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_cli import ask_server, python_of

from ai.ml.core.errors import ExitCode, StorageFailed, UsageError
from ai.ml.retraining.batch.job import predict_dataset
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.runners import PartOutcome
from ai.ml.retraining.settings.predict import RunnerSettings
from tasks.cluster import cluster_runner, take_group, without_main

# Starting a cluster and a server takes its time on a loaded machine.
pytestmark = pytest.mark.slow

OTHER_BITS = """
import torch
torch.nn.Linear.forward = lambda self, x: torch.nn.functional.linear(x, self.weight, self.bias) * 1.0001
"""

BARE = """
import sys
for name in ("prefect", "tasks", "flows"):
    sys.modules[name] = None
"""


def flow(environment: dict[str, str], *arguments: str | Path) -> subprocess.Popen[str]:
    command = [python_of(environment), "-m", "flows.batch_predict", "--runner", "dask", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def wait_for_receipts(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until so many parts are done."""
    deadline = time.monotonic() + PATIENCE_S
    while parts_done(out) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def standing_still(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Nothing of it happens meanwhile, however long that takes."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


class Cluster:
    """`dask scheduler` and `dask worker` on loopback, as processes of their own: without this checkout or Prefect."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in environment.items() if not name.startswith("P")}
        self.environment["PATH"] = environment["PATH"]
        (folder / "bare.py").write_text(BARE)
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.scheduler = self._start("dask_scheduler", "--port", self.address.rpartition(":")[2])
        self.workers: list[subprocess.Popen[bytes]] = []

    def add_worker(self, *options: str) -> None:
        fixed = (
            "--no-nanny",
            "--nthreads",
            "1",
            "--local-directory",
            str(self.folder),
            "--death-timeout",
            str(PATIENCE_S),
        )
        bare = ("--preload", str(self.folder / "bare.py"))
        self.workers.append(self._start("dask_worker", self.address, *fixed, *bare, *options))

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{module}", "--host", "127.0.0.1", "--no-dashboard"]
        with (self.folder / "dask.log").open("ab") as log:
            return subprocess.Popen(
                [*command, *arguments], cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )

    def wait(self) -> None:
        """Until the scheduler listens: a flow gives up after a while."""
        port, deadline = int(self.address.rpartition(":")[2]), time.monotonic() + PATIENCE_S
        while not _listens(port):
            assert self.scheduler.poll() is None, (self.folder / "dask.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def kill(self) -> None:
        for process in (self.scheduler, *self.workers):
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def cluster(folder: Path, environment: dict[str, str], workers: int) -> Iterator[Cluster]:
    found = Cluster(folder, environment)
    try:
        found.wait()
        for _ in range(workers):
            found.add_worker()
        yield found
    finally:
        found.kill()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.mark.processor_seconds(40)
def test_a_local_cluster_gives_the_same_bytes_and_survives_a_killed_worker(
    bundle: Path, tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    source = dataset(tmp_path / "in", 6, 30_000)
    predict_dataset(bundle, str(source), str(tmp_path / "expected"))
    out = tmp_path / "out"
    began = datetime.now(UTC)
    job = ("--bundle", bundle, "--input", source, "--output", out, "--workers", "2", "--task-mb", "0")
    process = flow(prefect_environment, *job)
    wait_for_receipts(out, 1, process)
    # The scheduler, which gives out the parts.
    with standing_still(process):
        workers_of(process.pid)[0].kill()
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.OK, stderr
    assert tree(out) == tree(tmp_path / "expected")
    wait_for_records(prefect_environment, began, {part.name for part in source.rglob("*.parquet")})


def wait_for_records(environment: dict[str, str], began: datetime, parts: set[str]) -> None:
    """Until Prefect's server tells of each part's group, which is a task run."""
    since = {"after_": began.isoformat()}
    asked = {
        "task_runs": {
            "name": {"like_": "score plan="},
            "state": {"type": {"any_": ["COMPLETED"]}},
            "start_time": since,
        }
    }
    deadline = time.monotonic() + PATIENCE_S
    found: set[str] = set()
    while found != parts:
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
        runs = ask_server("POST", f"{environment['PREFECT_API_URL']}/task_runs/filter", json=asked).json()
        found = {run["name"].removesuffix(" …").rpartition("/")[2] for run in runs}


def test_a_killed_worker_of_another_cluster_leaves_its_parts_to_the_others(
    bundle: Path, tmp_path: Path, warm_environment: dict[str, str]
) -> None:
    source = dataset(tmp_path / "in", 8, 20_000)
    predict_dataset(bundle, str(source), str(tmp_path / "expected"))
    out = tmp_path / "out"
    job = ("--bundle", bundle, "--input", source, "--output", out, "--task-mb", "0")
    with cluster(tmp_path, warm_environment, 2) as found:
        process = flow(warm_environment, *job, "--scheduler", found.address)
        wait_for_receipts(out, 1, process)
        found.workers[0].kill()
        _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.OK, stderr
    assert tree(out) == tree(tmp_path / "expected")


def test_a_killed_scheduler_loses_nothing_that_was_done(
    bundle: Path, tmp_path: Path, warm_environment: dict[str, str]
) -> None:
    source = dataset(tmp_path / "in", 12, 20_000)
    predict_dataset(bundle, str(source), str(tmp_path / "expected"))
    out = tmp_path / "out"
    job = ("--bundle", bundle, "--input", source, "--output", out, "--task-mb", "0")
    with cluster(tmp_path, warm_environment, 1) as first:
        process = flow(warm_environment, *job, "--scheduler", first.address)
        wait_for_receipts(out, 2, process)
        with standing_still(first.workers[0]):
            first.scheduler.kill()
        _, stderr = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == ExitCode.STORAGE, stderr
        assert "the Dask cluster failed" in stderr
        assert "Traceback" not in stderr.rpartition("error:")[2]
    assert not (out / "_SUCCESS").exists()
    with cluster(tmp_path, warm_environment, 2) as second:
        process = flow(warm_environment, *job, "--scheduler", second.address)
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.OK, stderr
    assert "of 12 parts were done before" in stdout
    assert tree(out) == tree(tmp_path / "expected")


def test_a_worker_with_other_bits_refuses_and_is_named(
    bundle: Path, tmp_path: Path, warm_environment: dict[str, str]
) -> None:
    source = dataset(tmp_path / "in", 2)
    (tmp_path / "other_bits.py").write_text(OTHER_BITS)
    with cluster(tmp_path, warm_environment, 0) as found:
        found.add_worker("--preload", str(tmp_path / "other_bits.py"))
        job = ("--bundle", bundle, "--input", source, "--output", tmp_path / "out", "--scheduler", found.address)
        process = flow(warm_environment, *job)
        _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.REFUSED, stderr
    assert "worker tcp://127.0.0.1:" in stderr
    assert "other bits than the trained model" in stderr
    assert not (tmp_path / "out" / "_SUCCESS").exists()


def test_a_scheduler_that_isnt_there_is_said() -> None:
    with pytest.raises(UsageError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:"):
        cluster_runner(RunnerSettings(runner="dask", scheduler=f"tcp://127.0.0.1:{free_port()}"))


def test_a_lost_cluster_is_said_by_the_record_of_the_group() -> None:
    class Lost:
        def result(self) -> None:
            raise CancelledError("score-1 cancelled for reason: lost dependencies.")

    with pytest.raises(StorageFailed, match=r"the Dask cluster failed \(CancelledError: score-1 .*; run again"):
        take_group.fn((Part("a.csv", "a.csv", 1),), Lost())


def test_the_record_of_a_group_takes_as_long_as_the_group(prefect_environment: dict[str, str]) -> None:
    class Scored:
        def result(self) -> tuple[list[PartOutcome], float]:
            return [], 3_600.0

    @prefect.flow
    def record() -> None:
        take_group((Part("long.csv", "long.csv", 1),), Scored())

    with temporary_settings({PREFECT_API_URL: prefect_environment["PREFECT_API_URL"]}):
        record()
    asked = {"task_runs": {"name": {"like_": "score long.csv"}, "state": {"type": {"any_": ["COMPLETED"]}}}}
    deadline = time.monotonic() + PATIENCE_S
    runs: list[dict[str, Any]] = []
    while not runs:
        assert time.monotonic() < deadline
        time.sleep(0.3)
        runs = ask_server("POST", f"{prefect_environment['PREFECT_API_URL']}/task_runs/filter", json=asked).json()
    began, ended = (datetime.fromisoformat(runs[0][name]) for name in ("start_time", "end_time"))
    assert 3_600 <= (ended - began).total_seconds() < 3_900
    assert 3_600 <= runs[0]["total_run_time"] < 3_900


def test_what_is_started_without_main_imports_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # What runs the tests need not have come from a file.
    monkeypatch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)
    before = dict(vars(sys.modules["__main__"]))
    with without_main():
        assert not {name for name in get_preparation_data("worker") if name.startswith("init_main")}
    assert vars(sys.modules["__main__"]) == before
    assert {name for name in get_preparation_data("worker") if name.startswith("init_main")}


def workers_of(pid: int) -> list[psutil.Process]:
    """The processes below `pid` that score: those with torch in memory."""
    found: list[psutil.Process] = []
    for child in psutil.Process(pid).children(recursive=True):
        # A nanny's helpers come and go between the list and the look.
        with suppress(psutil.NoSuchProcess):
            if any("libtorch" in region.path for region in child.memory_maps()):
                found.append(child)
    return found
