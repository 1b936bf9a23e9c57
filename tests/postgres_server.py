"""A real PostgreSQL server on loopback for the tests, made anew in a folder and gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import free_port

USER, PASSWORD = "tester", "s3cret-in-tests"
START_S = 60


def find_program(name: str) -> str | None:
    """A program of PostgreSQL, on the PATH or where Debian puts it."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or next(map(str, places), None)


@contextmanager
def postgres_server() -> Iterator[str]:
    """URL of an empty database `postgres` on a new server; its name and password are in it.

    PostgreSQL doesn't run as root: then it runs as `nobody`.
    """
    initdb, postgres = find_program("initdb"), find_program("postgres")
    assert initdb is not None, "PostgreSQL isn't installed: apt-get install postgresql"
    assert postgres is not None
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    owner = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    try:
        (folder / "password").write_text(PASSWORD)
        if owner is not None:
            for path in (folder, folder / "password"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        as_owner = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": ()}
        data = str(folder / "data")
        make = [initdb, "-D", data, "-U", USER, "--pwfile", str(folder / "password"), "-A", "scram-sha-256", "-N"]
        subprocess.run([*make, "-E", "UTF8", "--locale=C"], cwd=folder, check=True, capture_output=True, **as_owner)
        port = free_port()
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            command = [postgres, "-D", data, "-p", str(port), *settings]
            server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **as_owner)
        try:
            _wait(port, server, folder / "log")
            yield f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user=USER, password=PASSWORD, dbname="postgres").close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
