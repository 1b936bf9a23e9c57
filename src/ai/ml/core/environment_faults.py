"""Errors of the machine rather than of the data: out of memory, disk space or file handles."""

from __future__ import annotations

import errno
from pathlib import Path

from ai.ml.core.errors import StorageFailed, storage_failed

_CODES = frozenset(
    {
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
        errno.EAGAIN,
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
_WORDS = ("can't allocate memory", "not enough memory", "can't start new thread")
"""Messages of torch and Python in a plain `RuntimeError`."""


def is_environment_fault(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from or while handling, is the machine's doing."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, (MemoryError, StorageFailed)):
            return True
        if isinstance(error, OSError) and error.errno in _CODES:
            return True
        if isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def raise_if_environment_fault(path: Path, error: Exception) -> None:
    """Of an error while reading: a disk that fails, or a process without handles, says nothing of what lies there.

    Raises:
        StorageFailed: it was the machine's doing.
    """
    if isinstance(error, OSError) and is_environment_fault(error):
        raise storage_failed(f"reading {path}", error, "nothing was changed") from error


def raise_unlisted(error: OSError) -> None:
    """For `os.walk`, which takes a folder that can't be listed for an empty one; one that isn't there is empty.

    Raises:
        StorageFailed: it is there.
    """
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise storage_failed(f"listing {error.filename}", error, "nothing was changed") from error
