"""Saves that are killed, or refused by the disk, at each of their system calls.

A child is forked that will save; strace attaches, the child goes, and strace kills it (or lets a call fail) at the
n-th call of a name. As the child is forked from a process that has imported everything, a point costs some ten
milliseconds. Run as a script, since forking a process with threads (a test runner may have some) isn't safe:

    python tests/support/crash_harness.py kill light all

prints one JSON object per scenario; names of scenarios may follow. `each` in place of `all` tries one of the faults at
each call, in turn; `ends` does so at the first and the last call of each name. strace kills on the way **into** a call:
the points are every state between two calls, from before the first to before the last; the state after the last is a
finished save.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import json
import mmap
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from power_cut import Disk

from ai.ml.core.errors import BundleRefused, StorageFailed

_PR_SET_PTRACER = 0x59616D61
_MARK_BEGIN, _MARK_END = "/bundlegate-begin", "/bundlegate-end"
_CALL = re.compile(r"^(\w+)\(")
# Calls in which a disk can fail; the others (memory, signals, clocks) are killed at but never made to fail.
DISK_CALLS = frozenset(
    {
        "open",
        "openat",
        "creat",
        "read",
        "pread64",
        "readv",
        "write",
        "pwrite64",
        "writev",
        "lseek",
        "fsync",
        "fdatasync",
        "ftruncate",
        "fallocate",
        "rename",
        "renameat",
        "renameat2",
        "link",
        "unlink",
        "unlinkat",
        "mkdir",
        "mkdirat",
        "rmdir",
        "flock",
        "stat",
        "lstat",
        "fstat",
        "newfstatat",
        "statx",
        "getdents64",
        "close",
        "fcntl",
    }
)
FAULTS = (("ENOSPC", False), ("EIO", False), ("ENOSPC", True), ("EIO", True))
"""What the disk says, and whether it says so to every later call of that name, too."""
DONE, UNCHANGED, COMMITTED, REFUSED, OTHER = 0, 10, 11, 12, 13


@dataclass(frozen=True)
class Point:
    """The n-th call of a name since strace attached."""

    call: str
    nth: int
    line: str


@dataclass(frozen=True)
class Outcome:
    """How a save that was interfered with ended."""

    killed: bool
    code: int
    message: str


@dataclass
class Report:
    """What `crash_harness.py` prints for one scenario."""

    scenario: str
    points: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    problems: list[str] = field(default_factory=list[str])


def trace(save: Callable[[], None], *options: str) -> list[str]:
    """The lines that strace prints for one undisturbed save."""
    outcome, lines = _run(save, list(options))
    if outcome.killed or outcome.code != DONE:
        raise RuntimeError(f"the undisturbed save failed: {outcome}")
    end = next(i for i, line in enumerate(lines) if _MARK_END in line)
    return lines[:end]


def points(save: Callable[[], None], which: str) -> list[Point]:
    """The system calls of a save, in order: or both `ends` of those with the same name."""
    found = _all_points(save)
    if which != "ends":
        return found
    first = {point.call: point for point in reversed(found)}
    last = {point.call: point for point in found}
    return [point for point in found if point in (first[point.call], last[point.call])]


def _all_points(save: Callable[[], None]) -> list[Point]:
    seen: Counter[str] = Counter()
    found: list[Point] = []
    inside = False
    for line in trace(save):
        match = _CALL.match(line)
        if match is None:
            continue
        seen[match[1]] += 1
        if inside:
            found.append(Point(match[1], seen[match[1]], line))
        inside = inside or _MARK_BEGIN in line
    return found


def kill_at(save: Callable[[], None], point: Point) -> Outcome:
    """Save, killed on the way into one call."""
    return _run(save, ["-e", f"trace={point.call}", "-e", f"inject={point.call}:signal=SIGKILL:when={point.nth}"])[0]


def fail_at(save: Callable[[], None], point: Point, error: str, *, lasting: bool) -> Outcome:
    """Save, with one call failing; `lasting`: and every later call of that name."""
    when = f"{point.nth}+" if lasting else str(point.nth)
    return _run(save, ["-e", f"trace={point.call}", "-e", f"inject={point.call}:error={error}:when={when}"])[0]


def _run(save: Callable[[], None], options: list[str]) -> tuple[Outcome, list[str]]:
    go_read, go_write = os.pipe()
    said = mmap.mmap(-1, 4096)  # shared with the child, so that it can speak without a system call
    child = os.fork()
    if child == 0:
        _be_the_child(save, go_read, said)
    with tempfile.NamedTemporaryFile("r", suffix=".trace") as log:
        command = ["strace", "-s", "65536", "-xx", "-o", log.name, "-p", str(child), *options]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            said_first = tracer.stderr.readline()
            if "attached" not in said_first:
                os.kill(child, 9)
                raise RuntimeError(f"strace can't attach: {said_first}{tracer.stderr.read()}")
            os.write(go_write, b"g")
            _, status = os.waitpid(child, 0)
            tracer.stderr.read()
        lines = [_decode_marks(line) for line in log.read().splitlines()]
    os.close(go_read)
    os.close(go_write)
    message = said[:].rstrip(b"\0").decode(errors="replace")
    said.close()
    killed = os.WIFSIGNALED(status)
    return Outcome(killed, os.WTERMSIG(status) if killed else os.WEXITSTATUS(status), message), lines


def _be_the_child(save: Callable[[], None], go: int, said: mmap.mmap) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1))  # any process may attach, where Yama asks
    gc.disable()
    # No call that the save makes too: strace may or may not have seen this one begin, and the n-th must be the n-th.
    select.select([go], [], [])
    code = OTHER
    try:
        _mark(_MARK_BEGIN)
        save()
        code = DONE
    except StorageFailed as error:
        said[: len(text)] = (text := str(error).encode()[:4000])
        code = COMMITTED if "is committed, unfinished" in str(error) else UNCHANGED
    except BundleRefused as error:
        said[: len(text)] = (text := str(error).encode()[:4000])
        code = REFUSED
    except BaseException as error:
        said[: len(text)] = (text := repr(error).encode()[:4000])
    finally:
        _mark(_MARK_END)
        os._exit(code)


def _mark(path: str) -> None:
    with contextlib.suppress(OSError):
        os.lstat(path)


def _decode_marks(line: str) -> str:
    return decode_hex(line) if "\\x2f\\x62\\x75\\x6e\\x64\\x6c\\x65\\x67" in line else line


def decode_hex(text: str) -> str:
    """strace's `\\x2f` as the characters they stand for, byte by byte."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), text)


def try_kills(scenarios: list[Scenario], which: str) -> Iterator[Report]:
    """Kill each scenario at its calls."""
    for scenario in scenarios:
        report = Report(scenario.name)
        with Arena(scenario) as arena:
            for point in points(arena.fresh(), which):
                outcome = kill_at(arena.fresh(), point)
                if not outcome.killed:
                    # Memory calls vary a little from run to run; a call to the disk doesn't.
                    report.outcomes["not reached"] += 1
                    if point.call in DISK_CALLS:
                        report.problems.append(f"{point.line}: not reached: {outcome}")
                    continue
                report.points += 1
                arena.judge(report, f"killed at {decode_hex(point.line)}", clean=False)
        yield report


def try_faults(scenarios: list[Scenario], which: str) -> Iterator[Report]:
    """Let calls to the disk fail, once and from then on, in each scenario."""
    for scenario in scenarios:
        report = Report(scenario.name)
        with Arena(scenario) as arena:
            disk_calls = [point for point in points(arena.fresh(), which) if point.call in DISK_CALLS]
            for number, point in enumerate(disk_calls):
                for error, lasting in FAULTS if which == "all" else (FAULTS[number % len(FAULTS)],):
                    _try_fault(report, arena, point, error, lasting=lasting)
        yield report


def _try_fault(report: Report, arena: Arena, point: Point, error: str, *, lasting: bool) -> None:
    outcome = fail_at(arena.fresh(), point, error, lasting=lasting)
    report.points += 1
    where = f"{error} {'from' if lasting else 'at'} {decode_hex(point.line)[:200]} -> {outcome}"
    if outcome.killed or outcome.code == OTHER:
        report.problems.append(f"{where}: not one of our errors")
        return
    # A failed save may leave what a killed one had left before it.
    tidied = outcome.code in (UNCHANGED, REFUSED) and not lasting and not arena.scenario.leftovers
    found = arena.judge(report, where, clean=outcome.code == DONE or tidied)
    expected = {DONE: "new", UNCHANGED: "old", COMMITTED: "new", REFUSED: "old"}[outcome.code]
    if found != expected:
        report.problems.append(f"{where}: a reader finds the {found} pair")


def try_power_cuts(scenarios: list[Scenario], which: str) -> Iterator[Report]:
    """Cut the power behind calls, and look at every state that the disk may then be in."""
    for scenario in scenarios:
        report = Report(scenario.name)
        with Arena(scenario) as arena:
            save = arena.fresh()
            disk = Disk.of(arena.directory, arena.root)
            lines = [*trace(save), ""]
            looked_at = _ends(lines) if which == "ends" else set(range(len(lines)))
            for number, (line, following) in enumerate(itertools.pairwise(lines)):
                disk.play(line)
                if number not in looked_at and following:
                    continue
                for names, share in disk.after_power_cut():
                    disk.write_out(names, share, arena.directory.parent)
                    report.points += 1
                    found = arena.judge(report, f"power cut behind {decode_hex(line)[:200]}", clean=False)
                    if not following and found != "new":
                        report.problems.append("a finished save is lost")
        yield report


def _ends(lines: list[str]) -> set[int]:
    """Of the lines of one call's name the first and the last, by number."""
    named = [(match[1], number) for number, line in enumerate(lines) if (match := _CALL.match(line))]
    return {*dict(named).values(), *dict(reversed(named)).values()}


class Arena:
    """A directory in which one scenario is played again and again."""

    def __init__(self, scenario: Scenario):
        self.scenario = scenario
        self.root = Path(tempfile.mkdtemp(prefix="bundlegate-crash-"))
        self.template = self.root / "template"
        self.directory = self.root / "deep" / "bundle"
        scenario.prepare(self.template)

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.root)

    def fresh(self) -> Callable[[], None]:
        """Set the scene anew; returns the save to be played in it."""
        shutil.rmtree(self.directory.parent, ignore_errors=True)
        if self.template.exists():
            shutil.copytree(self.template, self.directory)
        return lambda: self.scenario.save(self.directory)

    def judge(self, report: Report, where: str, *, clean: bool) -> str:
        """Look at what was left as each kind of reader does, then as the next writer; returns `old` or `new`."""
        return judge(self.scenario, self.directory, report, where, clean=clean)


def main() -> None:
    """Play and report."""
    mode, weight, which, *names = sys.argv[1:]
    play = {"kill": try_kills, "fault": try_faults, "power": try_power_cuts}[mode]
    scenarios = [scenario for scenario in scenarios_of(weight) if not names or scenario.name in names]
    for report in play(scenarios, which):
        print(json.dumps(vars(report)), flush=True)


from save_scenarios import Scenario, judge, scenarios_of  # noqa: E402 - it needs Report

if __name__ == "__main__":
    main()
