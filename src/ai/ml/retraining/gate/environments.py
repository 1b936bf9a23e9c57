"""Where the gate replays: which interpreters and CPU settings, and the fresh process of each.

A process gets a clean environment (what decides the kernels is set before torch is imported, and nothing of ours
reaches it), an empty working directory of its own, isolated mode, and a file naming bundle directories. CUDA is
hidden: evidence is about the CPU path.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ai.ml.core.environment_faults import is_environment_fault
from ai.ml.core.errors import ExitCode, Unproved, UsageError
from ai.ml.core.files.scratch import scratch_folder
from ai.ml.retraining.evidence.answers import ANSWERS_NAME

CURRENT = "current"
REPORT_NAME = "report.json"
_CAPABILITIES = ("default", "avx2", "avx512")
_MKL_MODES = ("off", "COMPATIBLE", "AVX2")
_KEPT = ("SYSTEMROOT", "TMPDIR", "TEMP", "TMP")
_KILLED = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM, signal.SIGXCPU})
"""Signals from outside. A process that crashes on a file dies of others: SIGSEGV, SIGBUS, SIGABRT."""
_SHELL = 128
"""A shell that started the interpreter adds this to the signal that ended it."""
Fault = Literal["bundle", "machine", "installation"]
"""Whose doing it is that a process gave no answer: that of the bundle it had begun to look at; that of a machine that
killed it or had no time, memory or room for it; that of an installation in which it never began."""
_PROBE_TIMEOUT_S = 60.0
_PROBE = "import importlib.util, sys; sys.exit(importlib.util.find_spec('ai.ml.retraining.replay') is None)"


@dataclass(frozen=True)
class EnvironmentSpec:
    """A requested environment."""

    name: str
    python: str
    """Path of its interpreter."""
    variables: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class JobRequest:
    """One bundle directory and the steps of `replay.STEPS` to run on it."""

    bundle_dir: Path
    steps: tuple[str, ...]


@dataclass(frozen=True)
class JobOutcome:
    """A process's report on one job."""

    report: dict[str, Any] | None
    """None where the process ended before it wrote one."""
    answers: Path
    """Path of its `answers.npz`, if it was written."""
    failure: str
    """One sentence on why nothing is known of the bundle, else empty."""
    fault: Fault | None = None
    """The cause of that; anything but `bundle` is no finding about the bundle."""


def current_environment() -> EnvironmentSpec:
    """This interpreter, torch's own choice of kernels and threads."""
    return EnvironmentSpec(CURRENT, sys.executable)


def python_environments(pythons: Sequence[str]) -> tuple[EnvironmentSpec, ...]:
    """One environment per interpreter.

    Raises:
        UsageError: one can't be started, or can't import bundlegate.
        Unproved: one gives no answer.
    """
    # Absolute, since the process starts in a folder of its own; not resolved, since a venv's python is a link.
    # Two spellings of one path are one environment: its name is unique in a verdict.
    paths = [*dict.fromkeys(str(Path(shutil.which(python) or python).absolute()) for python in pythons)]
    for path in paths:
        _check_interpreter(path)
    return tuple(EnvironmentSpec(f"python:{path}", path) for path in paths)


def cpu_environments(best_capability: str) -> tuple[EnvironmentSpec, ...]:
    """CPU capability × MKL mode × threads (1, all) in this interpreter.

    Args:
        best_capability: what torch reports for this machine (`DEFAULT`, `AVX2`, `AVX512`): asking for more would
            crash it. Anything else, as on ARM, leaves torch's own choice alone.
    """
    best = best_capability.lower()
    known = _CAPABILITIES[: _CAPABILITIES.index(best) + 1] if best in _CAPABILITIES else (None,)
    specs: list[EnvironmentSpec] = []
    for capability in known:
        for mkl in _MKL_MODES:
            for threads in sorted({1, os.cpu_count() or 1}):
                variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
                if capability is not None:
                    variables["ATEN_CPU_CAPABILITY"] = capability
                if mkl != "off":
                    variables["MKL_CBWR"] = mkl
                name = f"cpu:{capability or 'own'}/mkl:{mkl}/threads:{threads}"
                specs.append(EnvironmentSpec(name, sys.executable, variables))
    return tuple(specs)


def run_jobs(
    spec: EnvironmentSpec, requests: Sequence[JobRequest], work_dir: Path, timeout_s: float
) -> list[JobOutcome]:
    """Run jobs in fresh processes of one environment, one process for as many as it survives.

    Args:
        spec: the environment.
        requests: the jobs, in order.
        work_dir: an empty folder for what the processes write.
        timeout_s: seconds that one process may take.

    Returns:
        One outcome per request. A job during which the process died or ran out of time has no report, nor has one that
        found the machine without memory or room; the jobs after it get a process of their own.
    """
    outcomes: list[JobOutcome] = []
    folders = [work_dir / f"job{index}" for index in range(len(requests))]
    while len(outcomes) < len(requests):
        start = len(outcomes)
        failure, fault = _run_process(spec, requests[start:], folders[start:], timeout_s)
        while len(outcomes) < len(requests) and (report := _read_report(folders[len(outcomes)])) is not None:
            outcomes.append(_reported(report, folders[len(outcomes)]))
        if len(outcomes) < len(requests):
            outcomes.append(_unreported(folders[len(outcomes)], failure, fault))
    return outcomes


def _reported(report: dict[str, Any], folder: Path) -> JobOutcome:
    error = report["error"]
    if error is not None and error.get("machine"):
        message = f"{error['step']} stopped with {error['type']}: {error['message']}"
        return JobOutcome(None, folder / ANSWERS_NAME, message, "machine")
    return JobOutcome(report, folder / ANSWERS_NAME, "")


def _unreported(folder: Path, failure: str, fault: Fault) -> JobOutcome:
    """A process ends without a word before it looks at a bundle, or while it does: only then it can be the bundle's."""
    try:
        failure += f", in the step `{(folder / 'step').read_text('utf-8')}`"
    except FileNotFoundError:
        failure += ", before it had looked at the bundle"
        fault = "installation" if fault == "bundle" else fault
    return JobOutcome(None, folder / ANSWERS_NAME, failure, fault)


def _run_process(
    spec: EnvironmentSpec, requests: Sequence[JobRequest], folders: Sequence[Path], timeout_s: float
) -> tuple[str, Fault]:
    """Start one process for some jobs and wait for it; returns why it stopped early, if it did, and the cause.

    What can't be told from a bundle that hangs or eats memory (a time-out, a kill) counts as the machine's: it proves
    nothing either way.
    """
    jobs = [
        {"bundle_dir": str(request.bundle_dir.resolve()), "out_dir": str(folder), "steps": list(request.steps)}
        for request, folder in zip(requests, folders, strict=True)
    ]
    with scratch_folder() as room:
        empty, job_file = room / "empty", room / "jobs.json"
        empty.mkdir()
        job_file.write_text(json.dumps({"jobs": jobs}), "utf-8")
        command = [spec.python, "-I", "-B", "-m", "ai.ml.retraining.replay", str(job_file)]
        try:
            done = subprocess.run(
                command,
                cwd=empty,
                # Its files are removed with the folder, even if both processes are killed.
                env=_clean_variables({"TMPDIR": str(room), **spec.variables}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"the replay process gave no answer within {timeout_s:g} s", "machine"
        except OSError as error:
            fault: Fault = "machine" if is_environment_fault(error) else "installation"
            return f"the replay process can't be started: {error}", fault
    return _ending(done.returncode, done.stderr.decode("utf-8", "replace"))


def _ending(status: int, stderr: str) -> tuple[str, Fault]:
    killer = -status if status < 0 else status - _SHELL
    if killer in _KILLED:
        return f"the replay process was killed by {signal.Signals(killer).name}", "machine"
    last = (stderr.strip().splitlines() or ["no message"])[-1]
    fault: Fault = "machine" if status == ExitCode.STORAGE else "bundle"
    return f"the replay process ended with exit status {status}: {last}", fault


def _clean_variables(variables: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, "PATH": os.defpath, "LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "", **variables}


def _check_interpreter(python: str) -> None:
    command = [python, "-I", "-B", "-c", _PROBE]
    try:
        with tempfile.TemporaryDirectory() as empty:
            done = subprocess.run(
                command, cwd=empty, env=_clean_variables({}), capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False
            )
    except subprocess.TimeoutExpired:
        raise Unproved(f"--python {python}: no answer within {_PROBE_TIMEOUT_S:g} s; try again") from None
    except OSError as error:
        raise UsageError(f"--python {python}: expected a Python interpreter, it can't be started: {error}") from error
    if done.returncode != 0:
        raise UsageError(
            f"--python {python} can't import bundlegate: install it there (`{python} -m pip install bundlegate`); "
            "the gate lends it nothing"
        )


def _read_report(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / REPORT_NAME).read_bytes())
    except FileNotFoundError:
        return None
