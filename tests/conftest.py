"""Fixtures that many tests share: one real Prefect server for the session, and a clean place to work in."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.spawn
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from machine_needs import missing_needs, refuse_in_ci, without_unmet
from processor_seconds import ProcessorSeconds, add_options
from server_log import LOGS
from soak import Totals, chosen
from soak import effort as effort
from soak import total as total
from warm_python import warm_python

os.environ["BUNDLEGATE_STATE"] = tempfile.mkdtemp(prefix="bundlegate-state-")
atexit.register(shutil.rmtree, os.environ["BUNDLEGATE_STATE"], ignore_errors=True)
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "bundlegate")
os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")

ROOT = Path(__file__).parent.parent
SUPPORT = ROOT / "tests" / "support"
"""What the tests share, on the path of their processes, too."""
PYTHON = sys.executable
"""The cold one, whatever stands for it in a module's tests."""
multiprocessing.spawn.set_executable(PYTHON)
PATIENCE_S = 600
"""How long anything may take on a loaded machine that comes within seconds on a quiet one."""

USUAL_S = 8
"""What a slow test takes that doesn't say how many seconds it is, most of them waiting."""

PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to outgoing connections: one of these could be taken before its server has it."""

# Generated tables come with fixed seeds, so that a red build is red on every machine.
settings.register_profile("bundlegate", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bundlegate")


MISSING = missing_needs()


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    refuse_in_ci(MISSING)
    config.pluginmanager.register(ProcessorSeconds(config))
    config.pluginmanager.register(Totals())


def pytest_report_header() -> list[str]:
    return [need.sentence for need in MISSING.values()]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    of_this_run, others = chosen(items)
    items[:], unmet = without_unmet(of_this_run, MISSING)
    config.hook.pytest_deselected(items=others + unmet)
    if hasattr(config, "workerinput"):
        longest_files_first(items)


def longest_files_first(items: list[pytest.Item]) -> None:
    """So that the processes of a run end at about the same time; it hands out whole files, in this order."""
    seconds: Counter[Path] = Counter()
    for item in items:
        if (slow := item.get_closest_marker("slow")) is not None:
            seconds[item.path] += slow.args[0] if slow.args else USUAL_S
    items.sort(key=lambda item: -seconds[item.path])


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def stop(process: subprocess.Popen[Any]) -> None:
    """Ask a process to end; one that takes too long over it is killed."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def server_environment(home: Path) -> dict[str, str]:
    """For a server of its own and the processes that talk to it."""
    return {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "OMP_NUM_THREADS": "1",
    }


def start_server(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """`prefect server start` as the docs have it, from the checkout; `PREFECT_API_URL` says on which port."""
    log, url = Path(environment["PREFECT_HOME"]) / "server.log", environment["PREFECT_API_URL"]
    port = url.removesuffix("/api").rpartition(":")[2]
    LOGS.watch(log)
    command = [PYTHON, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    with log.open("ab") as file:
        streams: dict[str, Any] = {"stdout": file, "stderr": file, "stdin": subprocess.DEVNULL}
        # The flows' own setting, which this process has once it imports one, would hide every error of the server.
        own = {**environment, "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING"}
        server = subprocess.Popen(command, cwd=ROOT, env=own, **streams)
    try:
        _wait_for(f"{url}/health", server, log)
    except BaseException:
        server.kill()
        server.wait()
        raise
    return server


@pytest.fixture(scope="session")
def prefect_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of processes that talk to a real `prefect server start` of this session, with a home of its own."""
    environment = server_environment(tmp_path_factory.mktemp("prefect"))
    server = start_server(environment)
    try:
        yield environment
    finally:
        stop(server)
    # What it said while it went down; a test that it failed in has said so already.
    check_server_logs()


def check_server_logs() -> None:
    """Fail for what Prefect's servers said of failures of their own since the last look."""
    if found := LOGS.complaints():
        pytest.fail("the Prefect server's log has errors:\n" + "\n".join(found)[-8000:])


@pytest.fixture(autouse=True)
def quiet_servers() -> Iterator[None]:
    """No service of a Prefect server fails behind a test's back, whichever fixture or test has started the server."""
    yield
    check_server_logs()


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """In place of `sys.executable`, for `bundlegate` where its start isn't what is tested."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with warm_python(environment, tmp_path_factory.mktemp("warm")) as program:
        yield program


@pytest.fixture(scope="module")
def warm_processes(warm: Path) -> Iterator[None]:
    """What a module's tests start by `sys.executable`, the gate's replays too, is forked from the warm interpreter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(warm))
        yield


@pytest.fixture
def cold_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test among those, which is about the start of a process."""
    monkeypatch.setattr(sys, "executable", PYTHON)


def bundlegate() -> str:
    """The console script beside the interpreter, cold or warm as that is."""
    return str(Path(sys.executable).with_name("bundlegate"))


@pytest.fixture(scope="session")
def warm_environment(
    prefect_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The same for processes that are forked from a warm one: every flow whose start isn't what is tested."""
    with warm_python(prefect_environment, tmp_path_factory.mktemp("warm")) as program:
        yield {**prefect_environment, "WARM_PYTHON": str(program)}


@pytest.fixture(scope="session")
def s3_bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of processes that talk to a real S3 server of this session; `BUCKET` in it is a bucket there."""
    log_path = tmp_path_factory.mktemp("s3") / "server.log"
    endpoint = f"http://127.0.0.1:{free_port()}"
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    log = log_path.open("wb")
    command = [PYTHON, str(SUPPORT / "s3_server.py"), endpoint.rpartition(":")[2]]
    server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        _wait_for(endpoint, server, log_path)
        with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bundles", method="PUT"), timeout=PATIENCE_S):
            pass
        yield {**environment, "BUCKET": "bundles"}
    finally:
        stop(server)
        log.close()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=30):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"the server didn't start:\n{log.read_text()[-4000:]}")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def postgresql_url() -> Iterator[str]:
    """A real PostgreSQL server of this module."""
    from postgresql_server import postgresql

    with postgresql() as server:
        yield server.url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/answers.db"
    import psycopg

    url = request.getfixturevalue("postgresql_url")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url
