"""A time limit for calls that may hang: a server that doesn't answer, a network folder that is gone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def within(limit_s: float, call: Callable[[], Value]) -> Value:
    """Return the result of `call`, or raise its exception.

    Raises:
        TimeoutError: it took longer; its thread is left alone and keeps no process alive.
    """
    outcome: queue.SimpleQueue[tuple[Value] | BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put((call(),))
        except BaseException as error:
            outcome.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = outcome.get(timeout=limit_s)
    except queue.Empty:
        raise TimeoutError(f"no answer within {limit_s:g} s") from None
    if isinstance(result, BaseException):
        raise result
    return result[0]
