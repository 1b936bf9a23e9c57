"""Waiting for what comes within seconds on a quiet machine, and late on a loaded one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

from conftest import PATIENCE_S

Value = TypeVar("Value")
_POLL_S = 0.1


def until(
    look: Callable[[], Value | None],
    told: Callable[[], object] = lambda: "",
    *,
    process: subprocess.Popen[Any] | None = None,
) -> Value:
    """What `look` gives once it is something.

    Raises:
        AssertionError: with `told()`, when it hasn't come after a long while, or `process`, which should bring it, has
            ended without.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        # Asked first: it may do the last bit and end between the two.
        over = process is not None and process.poll() is not None
        if found := look():
            return found
        assert not over, f"it ended before: {told()}"
        assert time.monotonic() < deadline, f"it never came: {told()}"
        time.sleep(_POLL_S)
