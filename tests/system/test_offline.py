"""The demo's flow in a network namespace of its own: loopback is all there is."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE_S, ROOT

from ai.ml.retraining.store.store import Store

PREFECT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(PATIENCE_S),
    "OMP_NUM_THREADS": "1",
}

CI = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "BUILDKITE", "TF_BUILD", "CI_NAME")
"""With one of these set Prefect counts nobody by itself."""


@pytest.mark.processor_seconds(80)
@pytest.mark.slow(30)
@pytest.mark.needs("root")
def test_the_demo_needs_no_network(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    environment |= {**PREFECT, "PREFECT_HOME": str(tmp_path / "prefect")}
    # `ip` isn't everywhere: loopback is brought up by the ioctl itself (SIOCSIFFLAGS with IFF_UP | IFF_RUNNING).
    loopback = (
        "import fcntl, socket, struct; "
        "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH14x', b'lo', 0x41)); "
        "assert len(open('/proc/net/route').readlines()) <= 1"
    )
    csv, store = tmp_path / "penguins.csv", tmp_path / "store"
    flow = f"-m flows.retrain --name penguins --data '{csv}' --target species --store '{store}'"
    python, command = sys.executable, Path(sys.executable).parent / "bundlegate"
    script = f"'{python}' -c \"{loopback}\" && '{command}' example '{csv}' && '{python}' {flow}"
    run = subprocess.run(
        ["unshare", "-n", "sh", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr
    assert Store(store).champion("penguins") is not None


def test_nobody_on_a_terminal_is_counted(tmp_path: Path) -> None:
    """Prefect's client reports a first import and a first run, where a terminal is there; a pipe wouldn't show it."""
    home = tmp_path / "prefect"
    environment = {key: value for key, value in os.environ.items() if key not in ("DO_NOT_TRACK", *CI)}
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "flows.rollback", "--help"],
        cwd=ROOT,
        env=environment | {"PREFECT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    os.close(theirs)
    out, _ = run.communicate(timeout=PATIENCE_S)
    os.close(ours)
    assert "--reason" in out
    assert "usage data" not in out
    # It keeps a list of its own all the same; what it would send begins with the import, which it tells of once.
    kept = home / ".sdk_telemetry"
    assert not (kept / "notice_shown").exists()
    assert "first_sdk_import" not in (kept / "milestones.json").read_text(encoding="utf-8")
