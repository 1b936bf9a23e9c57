"""Starting the processes of sub-runs, and stopping all of them whatever happens to their parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

from ai.ml.core.errors import ExitCode
from tasks.subflows.child import SubRun, SubRunEnd

CHECKOUT = Path(__file__).parents[2] if __name__.startswith("tasks.") else None
"""What a process needs on its path where this isn't `bundlegate.tasks`, an installed package."""
GRACE_S = 10.0
"""Seconds that a process has to report its end to Prefect."""
_LAST_LINES = 5
_POLL_S = 0.05


class SubProcesses:
    """The processes of one parent: each runs one flow run, in a process group of its own."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, request: SubRun, label: str) -> SubRunEnd:
        """Run one and wait for its end; its messages go to stderr as they come, each behind the label.

        A process that dies without a word ends with `STORAGE`: out of memory is what kills most.
        """
        with self._lock:
            if self._stopped:
                return SubRunEnd(exit_code=ExitCode.BUSY, reason="stopped before it began")
            process = _start(request)
            self._running.add(process)
        try:
            return _wait(process, label)
        finally:
            if process.poll() is None:
                _kill_group(process)
                process.wait()
            with self._lock:
                self._running.discard(process)

    def stop(self) -> None:
        """End all of them, first by a signal that lets them record how their runs ended; none starts any more."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
        # The threads that wait for them see to their groups.
        if not self._all_gone(GRACE_S):
            for process in self._running.copy():
                _kill_group(process)
            self._all_gone(GRACE_S)

    def _all_gone(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._running and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return not self._running


@contextlib.contextmanager
def sub_processes() -> Generator[SubProcesses]:
    """Context of the processes; all have ended when it is left."""
    processes = SubProcesses()
    try:
        yield processes
    finally:
        processes.stop()


def _start(request: SubRun) -> subprocess.Popen[bytes]:
    paths = [str(path) for path in (CHECKOUT, os.environ.get("PYTHONPATH")) if path]
    environment = {
        "OMP_NUM_THREADS": str(request.threads),
        **os.environ,
        "PREFECT_API_URL": request.api,
        "PYTHONPATH": os.pathsep.join(paths),
    }
    pipe = subprocess.PIPE
    # -P: the current folder may hold another `tasks`. A group of its own: Ctrl-C goes to the parent alone.
    command = [sys.executable, "-P", "-m", SubRun.__module__]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, process_group=0)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(request.model_copy(update={"owner": os.getpid()}).model_dump_json().encode())
    return process


def _wait(process: subprocess.Popen[bytes], label: str) -> SubRunEnd:
    assert process.stdout is not None
    last: list[str] = []
    relay = threading.Thread(target=_relay, args=(process, label, last), daemon=True)
    relay.start()
    answer = process.stdout.read()
    # Not reaped yet: until its group is gone too, nobody else can get its number.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    _kill_group(process)
    code = process.wait()
    relay.join(GRACE_S)
    if answer:
        return SubRunEnd.model_validate_json(answer)
    if code < 0:
        name = signal.Signals(-code).name
        reason = (
            f"its process was killed by {name} (out of memory?); what is done is kept: run again, with fewer at once"
        )
        return SubRunEnd(exit_code=ExitCode.STORAGE, reason=reason, silent=True)
    reason = f"its process ended with {code} and no word: {' / '.join(last)}"
    return SubRunEnd(exit_code=ExitCode.BUG, reason=reason, silent=True)


def _relay(process: subprocess.Popen[bytes], label: str, last: list[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        text = line.decode("utf-8", "replace").rstrip()
        last[:] = [*last, text][-_LAST_LINES:]
        print(f"{label}  {text}", file=sys.stderr, flush=True)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and those that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
