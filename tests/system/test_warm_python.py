"""The warm interpreter of the tests does what Python does, or their results would mean nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S
from warm_python import real_pid

SHOW = """
import json, os, subprocess, sys
child = subprocess.run([sys.executable, *sys.argv[2:]], capture_output=True, text=True) if sys.argv[2:] else None
found = {
    "argv": sys.argv[1:], "folder": os.getcwd(), "variables": dict(os.environ), "input": sys.stdin.read(),
    "main": __name__, "torch": "torch" in sys.modules, "parent": os.getppid(),
    "child": child and [child.returncode, child.stdout],
}
print(json.dumps(found))
print("a word", file=sys.stderr)
sys.exit(7)
"""
WAIT = "import os, time; print(os.getpid(), os.getpgrp(), flush=True); time.sleep(600)"
ENVIRONMENT = {"PATH": os.defpath, "OMP_NUM_THREADS": "1", "ONE": "1"}


def run(python: Path | str, script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), str(script), *arguments],
        input="told",
        cwd=script.parent,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SHOW)
    return path


def test_a_script_finds_what_it_would_find_in_a_cold_process(warm: Path, script: Path) -> None:
    child = script.with_name("child.py")
    child.write_text("import sys; print('torch' in sys.modules)")
    both = [run(python, script, "a", str(child)) for python in (sys.executable, warm)]
    assert [(each.returncode, each.stderr) for each in both] == [(7, "a word\n")] * 2
    told: list[dict[str, Any]] = [json.loads(each.stdout) for each in both]
    assert [each.pop("torch") for each in told] == [False, True]
    assert [each.pop("child") for each in told] == [[0, "False\n"], [0, "True\n"]], "its children are warm, too"
    assert told[0] == told[1]
    assert told[0]["parent"] == os.getpid()


def test_another_call_or_other_kernels_get_a_cold_process(warm: Path, script: Path) -> None:
    command = "import sys; print('torch' in sys.modules)"
    done = subprocess.run([warm, "-E", "-c", command], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
    others = {
        "ATEN_CPU_CAPABILITY": "default",
        "OMP_NUM_THREADS": "2",
        "PREFECT_HOME": "/elsewhere",
        "PYTHONHASHSEED": "1",
    }
    for name, value in others.items():
        done = subprocess.run(
            [warm, script],
            env=ENVIRONMENT | {name: value},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert json.loads(done.stdout)["torch"] is False, name


def test_a_line_of_code_is_run_as_by_python(warm: Path, tmp_path: Path) -> None:
    code = "import json, sys; json.dump([sys.argv, sys.path[0], __name__, input()], sys.stdout); sys.exit(3)"
    told: list[list[Any]] = []
    for python in (sys.executable, warm):
        command = [str(python), "-c", code, "a", "-I"]
        done = subprocess.run(
            command, cwd=tmp_path, env=ENVIRONMENT, input="told\n", capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert (done.returncode, done.stderr) == (3, "")
        told.append(json.loads(done.stdout))
    assert told[0] == told[1]


def test_the_console_script_beside_it_and_a_closed_output(warm: Path) -> None:
    console = [Path(python).with_name("bundlegate") for python in (sys.executable, warm)]
    for line in ('"$0" show', '"$0" --help', '"$0" --help >&-', '"$0" --help >/dev/full'):
        both = [
            subprocess.run(
                ["sh", "-c", line, script], env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S
            )
            for script in console
        ]
        assert len({(each.returncode, each.stdout, each.stderr) for each in both}) == 1, (line, both)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_who_is_sent_a_signal_ends_by_it_and_so_does_what_does_the_work(
    warm: Path, tmp_path: Path, number: signal.Signals
) -> None:
    script = tmp_path / "wait.py"
    script.write_text(WAIT)
    with subprocess.Popen(
        [str(warm), str(script)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline().split()[0])
        assert worker == real_pid(process) != process.pid
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == -number
        deadline = time.monotonic() + PATIENCE_S
        while Path(f"/proc/{worker}").exists():
            assert time.monotonic() < deadline, "it works on for nobody"
            time.sleep(0.02)


def test_where_the_work_is_killed_so_is_who_asked_for_it(warm: Path, tmp_path: Path) -> None:
    script = tmp_path / "wait.py"
    script.write_text(WAIT)
    with subprocess.Popen(
        [str(warm), str(script)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stdout is not None
        worker, group = map(int, process.stdout.readline().split())
        assert group == worker, "it leads a group as the other does"
        os.killpg(group, signal.SIGKILL)
        assert process.wait(PATIENCE_S) == -signal.SIGKILL


def test_a_process_that_is_stopped_as_soon_as_it_is_forked_takes_no_other_with_it(tmp_path: Path) -> None:
    """The server's own handler of the signal, which a process has until it is what it is to be, ends all of them."""
    script = tmp_path / "fork.py"
    script.write_text(
        "import os, signal, subprocess, sys, time\n"
        "import warm_python\n"
        "server = warm_python._Server(sys.argv[1] + '/socket', sys.argv[1] + '/python')\n"
        "other = subprocess.Popen(['sleep', '600'])\n"
        "server.running[other.pid] = None\n"
        "signal.signal(signal.SIGTERM, server.stop)\n"
        "forked = os.fork()\n"
        "if forked == 0:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os._exit(0)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]), other.poll())\n"
        "other.kill()\n"
        "other.wait()\n"
    )
    folder = tempfile.mkdtemp(dir="/tmp")  # the path of a socket has to be short
    try:
        ended = subprocess.run(
            [sys.executable, str(script), folder],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    finally:
        shutil.rmtree(folder)
    assert ended.stdout == f"{-signal.SIGTERM} None\n", ended.stderr
