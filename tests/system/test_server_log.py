"""The search of a server's log, by which every test that starts a server fails for errors of its services."""

from __future__ import annotations

from pathlib import Path

import pytest
from server_log import ServerLogs, complaints

QUIET = """
 ___ ___ ___ ___ ___ ___ _____
| _ \\ _ \\ __| __| __/ __|_   _|

Check out the dashboard at http://127.0.0.1:4200
14:35:48.123 | WARNING | prefect.server.utilities.postgres_listener - nothing is wrong
"""

FAILED = """\
14:35:49.001 | ERROR   | prefect.server.services.scheduler - Unexpected error in scheduler
Traceback (most recent call last):
  File "scheduler.py", line 1, in run
InvalidRequestError: Can't evaluate bulk DML statement
"""

PAST_THE_LOGGER = """\
Traceback (most recent call last):
  File "server.py", line 1, in <module>
ImportError: no such name
"""


def test_a_quiet_log_is_quiet() -> None:
    assert complaints(QUIET) == []
    assert complaints("") == []


@pytest.mark.parametrize("failure", [FAILED, PAST_THE_LOGGER, FAILED.replace("ERROR   ", "WARNING ")])
def test_an_error_or_a_traceback_is_found_whole(failure: str) -> None:
    assert complaints(failure + QUIET.replace("\n", "", 1) + failure)[0].startswith(failure.strip()[:40])
    assert failure.strip().splitlines()[-1] in complaints(QUIET + failure)[0]


def test_what_was_looked_at_is_not_found_again(tmp_path: Path) -> None:
    log, logs = tmp_path / "server.log", ServerLogs()
    logs.watch(log)
    log.write_text(QUIET)
    assert logs.complaints() == []
    with log.open("a") as file:
        file.write(FAILED)
    logs.watch(log)  # a server that is started again writes into the same file
    assert len(logs.complaints()) == 1
    assert logs.complaints() == []
