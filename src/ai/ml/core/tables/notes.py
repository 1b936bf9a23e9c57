"""What is unusual about a table, said while it is read: in the log, and to whoever asked to keep it."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_LOG = logging.getLogger("bundlegate")
_KEPT: ContextVar[list[str] | None] = ContextVar("notes of reading", default=None)


def say_note(sentence: str) -> None:
    """Say it in the log, and keep it for `kept_notes`."""
    _LOG.info("note      %s", sentence)
    kept = _KEPT.get()
    if kept is not None:
        kept.append(sentence)


@contextmanager
def kept_notes() -> Generator[list[str]]:
    """The list of notes that are said inside, here and in threads that have a copy of this context."""
    kept: list[str] = []
    token = _KEPT.set(kept)
    try:
        yield kept
    finally:
        _KEPT.reset(token)
