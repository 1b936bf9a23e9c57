"""What single tests need of the machine, and what is left out where it isn't there.

A test says it by `@pytest.mark.needs("strace")`. Where that is missing the test isn't selected, and the run says so in
a line at its start; with `CI=true` a missing program ends the run before its first test instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

POSTGRESQL = Path("/usr/lib/postgresql")
"""Where Debian keeps the server's programs, outside of the path."""


@dataclass(frozen=True)
class Need:
    """One thing that a machine has or lacks."""

    is_there: Callable[[], bool]
    missing: str
    """What isn't there, and how to get it."""
    left_out: str
    """What then isn't tested."""
    is_program: bool = True

    @property
    def sentence(self) -> str:
        return f"{self.missing}: without the tests of {self.left_out}"


def postgresql_program(name: str) -> Path | None:
    """A program of the PostgreSQL server; of several versions the last."""
    found = shutil.which(name)
    places = [Path(found)] if found else sorted(POSTGRESQL.glob(f"*/bin/{name}"))
    return places[-1] if places else None


def _has_privileges() -> bool:
    """Whether file systems may be mounted and namespaces made; root in a container often may not."""
    command = ["unshare", "-n", "-m", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


NEEDS = {
    "chromium": Need(
        lambda: shutil.which("chromium") is not None,
        "chromium isn't installed (apt-get install chromium)",
        "the report in a browser",
    ),
    "strace": Need(
        lambda: shutil.which("strace") is not None,
        "strace isn't installed (apt-get install strace)",
        "a save that is stopped at each of its system calls",
    ),
    "postgresql": Need(
        lambda: postgresql_program("initdb") is not None,
        "PostgreSQL's server isn't installed (apt-get install postgresql)",
        "tables read from PostgreSQL and written to it",
    ),
    "root": Need(
        _has_privileges,
        "this user may not mount a disk or make a network namespace (root may)",
        "a full and a read-only disk, and of the demo without a network",
        is_program=False,
    ),
}


def is_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def missing_needs() -> dict[str, Need]:
    """What this machine lacks, by name."""
    return {name: need for name, need in NEEDS.items() if not need.is_there()}


def refuse_in_ci(missing: dict[str, Need]) -> None:
    """In CI every program must be there.

    Raises:
        pytest.UsageError: naming those that aren't.
    """
    programs = [need.missing for need in missing.values() if need.is_program]
    if is_ci() and programs:
        raise pytest.UsageError("with CI set every test runs, but " + "; ".join(programs))


def without_unmet(items: list[pytest.Item], missing: dict[str, Need]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests that can run here, and those that can't."""
    can: list[pytest.Item] = []
    cannot: list[pytest.Item] = []
    for item in items:
        needs = {name for mark in item.iter_markers("needs") for name in mark.args}
        if unknown := needs - NEEDS.keys():
            raise pytest.UsageError(f"{item.nodeid} needs {', '.join(unknown)}, and {', '.join(NEEDS)} are known")
        without_gpu = item.get_closest_marker("gpu") is not None and not _has_cuda()
        (cannot if needs & missing.keys() or without_gpu else can).append(item)
    return can, cannot


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
