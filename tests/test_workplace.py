"""Two retrainings of one name: the second ends with one sentence and touches nothing; a killed one holds nobody up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ai.ml.core.errors import Busy, ExitCode
from ai.ml.retraining.config import DataSettings, RetrainConfig
from ai.ml.retraining.steps import work_dir
from ai.ml.retraining.workplace import workplace

HOLD = """
import sys, time
from ai.ml.retraining.config import DataSettings, RetrainConfig
from ai.ml.retraining.workplace import workplace
config = RetrainConfig(name=sys.argv[1], store=sys.argv[2], data=DataSettings(source="t.csv", target="y"))
with workplace(config):
    print("held", flush=True)
    time.sleep(600)
"""


def settings(store: Path, name: str = "m") -> RetrainConfig:
    return RetrainConfig(name=name, store=str(store), data=DataSettings(source="t.csv", target="y"))


def test_a_second_run_is_told_who_is_at_work_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, "m", str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        unfinished = work_dir(settings(tmp_path)) / "candidate-1.building"
        unfinished.mkdir()
        with (
            pytest.raises(Busy, match=f"m: process {other.pid} of .* is retraining it in") as busy,
            workplace(settings(tmp_path)),
        ):
            pass
        assert busy.value.exit_code == ExitCode.BUSY
        assert unfinished.is_dir()
        with workplace(settings(tmp_path, "another")):
            pass
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.communicate()
    with workplace(settings(tmp_path)):
        assert not unfinished.exists()


def test_it_is_let_go_when_a_run_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), workplace(settings(tmp_path)):
        raise ZeroDivisionError
    with workplace(settings(tmp_path)):
        pass
