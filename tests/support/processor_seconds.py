"""Processor seconds of each test, those of its processes included, and a limit on them.

Unlike the seconds of a clock they hardly depend on what else the machine does, so a limit on them can fail a run.
Counted are this process, its children that have ended, and all that still run below it (a server, a process that forks
others). What a fixture costs is its first test's, as `setup`; what ends with the session isn't counted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

_TICKS = os.sysconf("SC_CLK_TCK")
_PHASES = ("setup", "call")


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("processor seconds")
    group.addoption("--processor-limit", type=float, metavar="SECONDS", help="the run fails where a test takes more")
    group.addoption("--processor-table", type=Path, metavar="FILE", help="JSON of what each test took")


def seconds_used() -> float:
    """Of this process and all below it so far; where there is no /proc, without processes that still run."""
    if not Path("/proc/self/task").exists():
        return sum(os.times()[:4])
    return sum(_seconds_of(pid) for pid in _with_descendants(os.getpid()))


def _with_descendants(pid: int) -> Generator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                yield from _with_descendants(int(child))


def _seconds_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # utime, stime, and the same of the children that were waited for
    return sum(map(int, fields[11:15])) / _TICKS


class ProcessorSeconds:
    """Measures in whichever process runs the test, and reports in the one that was started."""

    def __init__(self, config: pytest.Config) -> None:
        self.limit: float | None = config.getoption("--processor-limit")
        self.table: Path | None = config.getoption("--processor-table")
        self.taken: dict[str, dict[str, float]] = {}
        self.own_limits: dict[str, float] = {}
        """Of the tests that are marked with one."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        if (marker := item.get_closest_marker("processor_seconds")) is not None:
            item.user_properties.append(("processor_seconds.limit", float(marker.args[0])))
        yield from self._measured(item, "setup")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        yield from self._measured(item, "call")

    def _measured(self, item: pytest.Item, phase: str) -> Generator[None]:
        before = seconds_used()
        try:
            return (yield)
        finally:
            # A process whose parent was killed is nobody's child any more, so the sum can shrink.
            item.user_properties.append((f"processor_seconds.{phase}", round(max(seconds_used() - before, 0.0), 3)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = dict(report.user_properties)
        if report.when in _PHASES and (key := f"processor_seconds.{report.when}") in found:
            self.taken.setdefault(report.nodeid, {})[report.when] = float(str(found[key]))
            if "processor_seconds.limit" in found:
                self.own_limits[report.nodeid] = float(str(found["processor_seconds.limit"]))

    def over_limit(self) -> dict[str, float]:
        """Tests of which a part took more than the limit, or than their own, with what it took."""
        if self.limit is None:
            return {}
        most = {test: max(phases.values()) for test, phases in self.taken.items()}
        return {test: seconds for test, seconds in most.items() if seconds > self.own_limits.get(test, self.limit)}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return
        if self.table is not None:
            self.table.write_text(json.dumps(self.taken, indent=1) + "\n", encoding="utf-8")
        if self.over_limit() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.table is not None:
            total = {phase: sum(took.get(phase, 0.0) for took in self.taken.values()) for phase in _PHASES}
            terminalreporter.section("processor seconds")
            terminalreporter.line(f"{total['call']:10.1f}  all tests, and {total['setup']:.1f} their fixtures")
            for test, took in sorted(self.taken.items(), key=lambda item: -sum(item[1].values()))[:25]:
                terminalreporter.line(f"{took.get('call', 0.0):10.1f}  {test}, fixtures {took.get('setup', 0.0):.1f}")
        for test, seconds in self.over_limit().items():
            limit = self.own_limits.get(test, self.limit or 0.0)
            terminalreporter.line(f"{test} took {seconds:.1f} processor seconds, and {limit:g} are the limit", red=True)
