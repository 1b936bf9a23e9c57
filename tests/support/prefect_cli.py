"""Prefect's command line, its server, and a checkout to deploy from."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from conftest import PATIENCE_S, ROOT, SUPPORT


def python_of(environment: dict[str, str]) -> str:
    """The interpreter of a process with this environment: a warm one where the environment has one."""
    return environment.get("WARM_PYTHON", sys.executable)


def run_module(
    environment: dict[str, str], module: str, *arguments: str, folder: Path = ROOT, patience_s: float = PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python_of(environment), "-m", module, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=patience_s,
        stdin=subprocess.DEVNULL,
    )


def prefect(environment: dict[str, str], folder: Path, *arguments: str, patience_s: float = PATIENCE_S) -> str:
    run = run_module(environment, "prefect", *arguments, folder=folder, patience_s=patience_s)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def ask_server(method: str, url: str, **more: Any) -> httpx.Response:
    """The server's answer; asked again while SQLite is locked (503), as Prefect's own client does."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = httpx.request(method, url, timeout=PATIENCE_S, **more)
        if answer.status_code != 503 or time.monotonic() > deadline:
            return answer
        time.sleep(1)


@contextmanager
def held_retraining(environment: dict[str, str], arguments: list[str], log: Path) -> Generator[None]:
    """A retraining in a process of its own that has left an epoch checkpoint and goes no further; killed at the end."""
    work = Path(arguments[arguments.index("--store") + 1]) / arguments[arguments.index("--name") + 1] / "work"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, str(SUPPORT / "held_retrain.py"), *arguments],
            cwd=ROOT,
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    deadline = time.monotonic() + PATIENCE_S
    try:
        while not list(work.glob("*.epochs")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"no epoch checkpoint appeared: {log.read_text()}"
            time.sleep(0.02)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def copied_checkout(folder: Path) -> Path:
    """What a deployment needs of this repository, in a folder of its own."""
    folder.mkdir()
    for name in ("flows", "tasks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("prefect.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder
