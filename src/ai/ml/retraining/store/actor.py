"""Who writes: the name that the ledger keeps and that a waiting process is told."""

from __future__ import annotations

import getpass
import os
import socket


def whoami() -> str:
    """Who acts, as `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def identity() -> str:
    """Which process acts, as `process PID of user@host`."""
    return f"process {os.getpid()} of {whoami()}"
