"""Two retrainings of one name at once: one works, the other is told who does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import mixed_table
from conftest import ROOT

from ai.ml.core.errors import Busy
from ai.ml.core.tables import write_table
from ai.ml.retraining.store import Store
from ai.ml.retraining.workplace import held

HOLD = (
    "import sys, time; from pathlib import Path; from ai.ml.retraining.workplace import held\n"
    "with held(Path(sys.argv[1]), 'm'):\n    print('held', flush=True); time.sleep(60)"
)


def holder_of(work: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(work)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_holds_it_and_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with holder_of(work) as process:
        (work / "candidate-1.building").mkdir()
        (work / f".data.{process.pid}.{'0' * 16}.tmp").touch()
        try:
            with pytest.raises(Busy, match=rf"m is being retrained already, by .*{process.pid}"), held(work, "m"):
                pass
            assert (work / "candidate-1.building").is_dir(), "the second cleared what the first is making"
        finally:
            process.send_signal(signal.SIGKILL)
    with held(work, "m"):
        assert {path.name for path in work.iterdir()} <= {".lock", ".holder"}


def test_a_run_that_raises_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its own"), held(tmp_path, "m"):
        raise ValueError("its own")
    with held(tmp_path, "m"):
        pass
    assert not (tmp_path / ".holder").exists()


def start(environment: dict[str, str], arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.retrain", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


@pytest.mark.slow
@pytest.mark.xdist_group("prefect")
def test_two_flows_at_once_and_one_after_a_kill(tmp_path: Path, prefect_environment: dict[str, str]) -> None:
    table = tmp_path / "table.csv"
    write_table(mixed_table(300, seed=3), table)
    store = tmp_path / "store"
    arguments = ["--name", "m", "--target", "y", "--store", str(store), "--data", str(table)]
    arguments += ["--epochs", "400", "--patience", "400"]
    first = start(prefect_environment, arguments, tmp_path / "first.log")
    deadline = time.monotonic() + 120
    while not list((store / "m" / "work").glob("*.epochs")):
        assert time.monotonic() < deadline, (tmp_path / "first.log").read_text()
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGSTOP)  # so that it can't be done before the second looks
    second = start(prefect_environment, arguments, tmp_path / "second.log")
    assert second.wait(120) == 75, (tmp_path / "second.log").read_text()
    said = (tmp_path / "second.log").read_text()
    assert "m is being retrained already" in said
    assert "Traceback" not in said
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    third = start(prefect_environment, arguments, tmp_path / "third.log")
    assert third.wait(240) == 0, (tmp_path / "third.log").read_text()
    assert [entry.body["action"] for entry in Store(store).history("m")] == ["promoted"]
