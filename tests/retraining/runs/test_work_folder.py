"""Two retrainings of one name at once: one works, the other is told who does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from builders import mixed_table
from prefect_cli import held_retraining, run_module

from ai.ml.core.errors import Busy
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.runs.work_folder import locked_work_dir
from ai.ml.retraining.store.store import Store

HOLD = (
    "import sys, time; from pathlib import Path; from ai.ml.retraining.runs.work_folder import locked_work_dir\n"
    "with locked_work_dir(Path(sys.argv[1]), 'm'):\n    print('held', flush=True); time.sleep(600)"
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
            with (
                pytest.raises(Busy, match=rf"m is being retrained already, by .*{process.pid}"),
                locked_work_dir(work, "m"),
            ):
                pass
            assert (work / "candidate-1.building").is_dir(), "the second cleared what the first is making"
        finally:
            process.send_signal(signal.SIGKILL)
    with locked_work_dir(work, "m"):
        assert {path.name for path in work.iterdir()} <= {".lock", ".holder"}


def test_a_run_that_raises_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its own"), locked_work_dir(tmp_path, "m"):
        raise ValueError("its own")
    with locked_work_dir(tmp_path, "m"):
        pass
    assert not (tmp_path / ".holder").exists()


@pytest.mark.slow
def test_two_flows_at_once_and_one_after_a_kill(tmp_path: Path, warm_environment: dict[str, str]) -> None:
    table = tmp_path / "table.csv"
    write_table(mixed_table(300, seed=3), table)
    store = tmp_path / "store"
    arguments = ["--name", "m", "--target", "y", "--store", str(store), "--data", str(table)]
    arguments += ["--epochs", "40", "--hidden-dim", "16", "--no-report"]
    with held_retraining(warm_environment, arguments, tmp_path / "first.log"):
        second = run_module(warm_environment, "flows.retrain", *arguments)
        assert second.returncode == 75, second.stderr
        assert "m is being retrained already" in second.stderr
        assert "Traceback" not in second.stderr
    third = run_module(warm_environment, "flows.retrain", *arguments)
    assert third.returncode == 0, third.stderr
    assert [entry.body["action"] for entry in Store(store).history("m")] == ["promoted"]
