"""Overlap: an iterator that runs in a thread of its own, a few items ahead of the consumer."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")

_POLL_S = 0.1


class _End:
    """The producer's last item: the error that stopped it, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterable[Item], depth: int = 1) -> Generator[Item]:
    """Take `items` in a thread, at most `depth` of them waiting; what it raises is raised here, in its place.

    It pays where the work lets go of Python's lock, as reading, encoding, matrix products and compressing do. Close
    the generator (`contextlib.closing`) to stop the thread early.

    >>> list(prefetch(range(4)))
    [0, 1, 2, 3]
    """
    waiting: queue.Queue[Item | _End] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Item | _End) -> None:
        while not stopped.is_set():
            try:
                return waiting.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
        return None

    def produce() -> None:
        error: BaseException | None = None
        iterator = iter(items)
        try:
            for item in iterator:
                put(item)
                if stopped.is_set():
                    break
        except BaseException as raised:
            error = raised
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
            put(_End(error))

    # Notes of reading are kept for whoever asked for them here.
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(produce,), name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item = waiting.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stopped.set()
        thread.join()
