"""A real PostgreSQL server on loopback, in a folder of its own, for as long as the tests of a module need it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from conftest import PATIENCE_S, free_port
from machine_needs import postgresql_program

PASSWORD = "s3:cr@t/pw"
_SETTINGS = ("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")


@dataclass(frozen=True)
class Server:
    """Where it listens; user `ada`, database `postgres`."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        """With name and password."""
        return f"postgresql://ada:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/postgres"

    def connect(self) -> psycopg.Connection[Any]:
        """As the owner."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="ada", password=PASSWORD, dbname="postgres", autocommit=True
        )


@contextmanager
def postgresql() -> Generator[Server]:
    """Make a cluster, start it, and remove both."""
    initdb = postgresql_program("initdb")
    assert initdb is not None, "the test says that it needs postgresql"
    # The server refuses to run as root.
    owner: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if os.getuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
        owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    password = folder / "password"
    password.write_text(PASSWORD, encoding="utf-8")
    password.chmod(0o644)
    cluster = folder / "cluster"
    port = free_port()
    try:
        subprocess.run(
            [
                initdb,
                "-D",
                cluster,
                *["-U", "ada", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync", "--pwfile"],
                password,
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **owner,
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [initdb.with_name("postgres"), "-D", cluster, "-k", folder, "-p", str(port), *_SETTINGS],
                stdout=log,
                stderr=log,
                cwd="/",
                **owner,
            )
        try:
            server = Server(port, folder)
            _wait(server, process)
            yield server
        finally:
            # Asked by SIGTERM it would wait for the connection of a test that has failed.
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            server.connect().close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((server.folder / "log").read_text()) from None
            time.sleep(0.05)
