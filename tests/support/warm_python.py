"""An interpreter that has imported everything already: what is run by it is forked from a warm process.

`warm_python(environment, folder)` gives the path of a program to put in place of `sys.executable`: the imports of a
flow take seven processor seconds, which here are paid once. `PROGRAM -m MODULE ...`, `PROGRAM -c CODE ...` and
`PROGRAM SCRIPT.py ...` do what they do with Python, in a process with the caller's environment, folder and standard
streams, and end with its exit status or signal; so do the processes that they start by `sys.executable`. Beside it lies
`bundlegate`, as beside Python. All else is left to the cold interpreter: other ways to call it, another Prefect server
or home, settings of CPU kernels and of Python itself, a terminal or a closed stream as output. Tests of how a process
starts, and of what it imports, take Python.

The process that is forked from has one thread: what others hold at a fork stays held for good.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib.util
import json
import os
import random
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Generator
from pathlib import Path
from typing import Any

_PYTHON = sys.executable
"""The cold one, also where a warm one stands for it by the time that it is asked for."""
MODULES = (
    "flows",  # says what Prefect is to do before it's imported
    "matplotlib.figure",
    "sklearn.ensemble",
    "torch",
    "torch._dynamo",
    "prefect.flow_engine",
    "prefect.task_engine",
    "ai.ml.frameworks.pytorch.trainer.training",
    "ai.ml.retraining.batch.job",
    "ai.ml.retraining.commands.bundle",
    "ai.ml.retraining.decision.baselines",
    "ai.ml.retraining.evidence.seal",
    "ai.ml.retraining.gate.replay",
    "ai.ml.retraining.reporting.sources",
    "tasks.subflows.child",
    "flows.approve",
    "flows.backtest",
    "flows.backtest_origin",
    "flows.batch_predict",
    "flows.retrain",
    "flows.retrain_segments",
    "flows.rollback",
    "flows.validate_bundle",
)
_APART = ("ai.ml.retraining.replay", "ai.ml.retraining.gate.replay", "ai.ml.retraining.commands.cli")
"""These know nothing of Prefect, and so may be forked whatever its settings are."""
_ALIKE = ("PREFECT_LOGGING_", "PREFECT_SERVER_ANALYTICS_")
"""Settings of Prefect that are the same in all processes of the tests, where they are said at all."""
_FRESH = ("flows.", "tasks.subflows.child", *_APART)
"""Modules that are run: each time anew, as Python does."""

# What the caller starts: small, since each call pays for it.
_PROGRAM = """#!{0} -IS
import os, signal, socket, sys

COLD, PLACE, WARM, APART, ALIKE = {0!r}, {1!r}, {2!r}, {3!r}, {4!r}
given = sys.argv[1:]
while given[:1] and given[0] in ("-I", "-B", "-P"):
    del given[0]
own = {{name: os.environ[name] for name in os.environ if name[:8] == "PREFECT_" and not name.startswith(ALIKE)}}
own = {{name: value.rstrip("/") for name, value in own.items()}}  # a sub-run's URL ends with one
known = given[:1] == ["-m"] and len(given) > 1 or given[:1] and given[0].endswith(".py")
# A process of multiprocessing's has open files of its parent's, which would stay behind here.
known = known or given[:1] == ["-c"] and len(given) > 1 and "multiprocessing" not in given[1]
alike = own == WARM or given[1:2] and given[1] in APART
usual = os.environ.get("OMP_NUM_THREADS", "1") == "1" and not any(name[:4] in ("ATEN", "MKL_") for name in os.environ)
usual = usual and not {{"PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONWARNINGS"}} & os.environ.keys()
try:
    [os.fstat(stream) for stream in (0, 1, 2)]
    plain = not os.isatty(1)
except OSError:
    plain = False
if not (known and alike and usual and plain):
    os.execv(COLD, [COLD, *sys.argv[1:]])

import json
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect(PLACE)
asked = {{"pid": os.getpid(), "argv": given, "env": dict(os.environ), "cwd": os.getcwd()}}
asked["leads"] = os.getpgrp() == os.getpid()
socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: server.send(str(number).encode()))
code = int(server.recv(99) or 1)
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@contextlib.contextmanager
def warm_python(environment: dict[str, str], folder: Path) -> Generator[Path]:
    """The program, while its server runs.

    Args:
        environment: that of the process which imports; who calls the program with another Prefect gets a cold one.
        folder: an empty one for what it needs; the path of a socket in it has to be short.
    """
    place = Path(tempfile.mkdtemp(prefix="warm-", dir="/tmp")) / "socket"
    settings = {
        name: value.rstrip("/")
        for name, value in environment.items()
        if name.startswith("PREFECT_") and not name.startswith(_ALIKE)
    }
    program = folder / "python"
    program.write_text(_PROGRAM.format(_PYTHON, str(place), settings, _APART, _ALIKE))
    program.chmod(0o755)
    console = folder / "bundlegate"
    console.write_text(f'#!/bin/sh\nexec "{program}" -m ai.ml.retraining.commands.cli "$@"\n')
    console.chmod(0o755)
    root, log = Path(__file__).parents[2], (folder / "warm.log").open("wb")
    server = subprocess.Popen(
        [_PYTHON, __file__, str(place), str(program)],
        cwd=root,
        # Buffered, as an output is that isn't a terminal.
        env={name: value for name, value in environment.items() if name != "PYTHONUNBUFFERED"}
        | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(root), str(Path(__file__).parent)])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n", (folder / "warm.log").read_text()
        yield program
    finally:
        server.terminate()
        server.communicate()
        log.close()
        with contextlib.suppress(OSError):
            place.unlink()
        with contextlib.suppress(OSError):
            place.parent.rmdir()


def real_pid(process: subprocess.Popen[Any]) -> int:
    """The process that does the work of one that was started by the program, or its own number if that is itself."""
    program = Path(str(process.args[0] if isinstance(process.args, list) else process.args))  # pyright: ignore
    note = program.parent / f"pid-{process.pid}"
    return int(note.read_text()) if note.exists() else process.pid


class _Server:
    """Forks on request, passes signals on, and tells how each process ended."""

    def __init__(self, place: str, program: str) -> None:
        self.program = program
        self.pid = os.getpid()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(place)
        self.listener.listen(64)
        self.events = selectors.DefaultSelector()
        self.events.register(self.listener, selectors.EVENT_READ)
        self.running: dict[int, tuple[socket.socket, Path]] = {}
        """Who asked for it, and where its number is written."""

    def serve(self) -> dict[str, Any]:
        """What a forked process is asked to do; in the server itself it never ends."""
        while True:
            for key, _ in self.events.select():
                if key.fileobj is self.listener:
                    if (asked := self._accept()) is not None:
                        return asked
                elif not isinstance(key.fileobj, socket.socket):
                    self._bury(key.fd, key.data)
                elif key.data in self.running:
                    self._pass_on(key.fileobj, key.data)

    def _accept(self) -> dict[str, Any] | None:
        connection, _ = self.listener.accept()
        message, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if not message:
            connection.close()
            return None
        asked: dict[str, Any] = json.loads(message)
        note = Path(self.program).with_name(f"pid-{asked['pid']}")
        pid = os.fork()
        if pid == 0:
            # Before anything it says can be read, and whole: who reads it may be about to kill.
            written = note.with_name(f"{note.name}-written")
            written.write_text(str(os.getpid()))
            written.replace(note)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            for other in (self.listener, connection, *(client for client, _ in self.running.values())):
                other.close()
            return asked
        for stream in streams:
            os.close(stream)
        if asked["leads"]:
            os.setpgid(pid, pid)
        self.running[pid] = (connection, note)
        self.events.register(connection, selectors.EVENT_READ, pid)
        self.events.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
        return None

    def _pass_on(self, connection: socket.socket, pid: int) -> None:
        with contextlib.suppress(ConnectionError):
            if word := connection.recv(99):
                os.kill(pid, int(word))
                return
        # Who asked has been killed, and where it led a group, so was that.
        self.events.unregister(connection)
        os.kill(-pid if os.getpgid(pid) == pid else pid, signal.SIGKILL)

    def _bury(self, pidfd: int, pid: int) -> None:
        self.events.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        connection, note = self.running.pop(pid)
        note.unlink(missing_ok=True)
        with contextlib.suppress(KeyError, ValueError):
            self.events.unregister(connection)
        with contextlib.suppress(OSError):
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        connection.close()

    def stop(self, *_: object) -> None:
        if os.getpid() != self.pid:
            # Just forked, and stopped before it is what it is to be: the others aren't its own to end.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        for pid in self.running:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


def _become(asked: dict[str, Any], program: str) -> None:
    """What Python does with these arguments, in this process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked["leads"]:
        os.setpgid(0, 0)
    os.getppid = lambda: _parent_of(asked["pid"])
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    if os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(line_buffering=True, write_through=True)  # pyright: ignore
    random.seed()
    tempfile.tempdir = None
    sys.executable = program
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]
    try:
        _run(*asked["argv"], folder=asked["cwd"])
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            _ending.append(end.code or 0)
        raise
    _ending.append(0)


def _run(what: str, *arguments: str, folder: str) -> None:
    if what == "-c":
        sys.argv = ["-c", *arguments[1:]]
        sys.path.insert(0, "")
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(arguments[0], "<string>", "exec"), vars(main))
    elif what == "-m":
        sys.argv = [*arguments]
        sys.path.insert(0, folder)
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [what, *arguments]
        sys.path.insert(0, str(Path(what).parent))
        runpy.run_path(what, run_name="__main__")


_ending: list[int] = []
"""The exit status, once it is known to be a plain one."""


def _end_at_once() -> None:
    """Leave before Python takes its modules apart, which costs half a second here and tells nothing."""
    if not _ending:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # Python says it, and changes the status
    os._exit(_ending[0] & 0xFF)


def _parent_of(pid: int) -> int:
    """Whose child it is; 1 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 1


def _importable(name: str) -> bool:
    """Whether what it stands on is installed: an environment of one extra lacks the others."""
    package = name.partition(".")[0]
    return importlib.util.find_spec("prefect" if package in ("flows", "tasks") else package) is not None


def main(place: str, program: str) -> None:
    atexit.register(_end_at_once)  # before all others, so that it is called after them
    for name in filter(_importable, MODULES):
        __import__(name)
    import torch

    from ai.ml.retraining.records import code_version

    torch.set_num_threads(1)
    code_version()
    for name in [name for name in sys.modules if name.startswith(_FRESH)]:
        del sys.modules[name]
    # Arrow's allocator has one that is prepared for forks.
    threads = [(task / "comm").read_text().strip() for task in Path(f"/proc/{os.getpid()}/task").iterdir()]
    if len(threads) - threads.count("jemalloc_bg_thd") > 1:
        sys.exit(f"importing has started threads, and a process that has some can't be forked: {threads}")
    # Else a forked process that ends would look at all there is, and so copy it.
    gc.collect()
    gc.freeze()
    server = _Server(place, program)
    signal.signal(signal.SIGTERM, server.stop)
    print("ready", flush=True)
    _become(server.serve(), program)


if __name__ == "__main__":
    main(*sys.argv[1:])
