"""One writer at a time in a directory, by a lock that dies with its owner: without a trace, or with a holder's name."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path

from filelock import FileLock, Timeout

from ai.ml.core.errors import Busy, storage_failed
from ai.ml.core.files.atomic import write_atomic

LOCK_NAME = ".bundle-lock"
LOCK_TIMEOUT_S = 60.0

_POLL_S = 0.01
_NO_DIRECTORY_LOCKS = frozenset({errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def locked(directory: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Generator[None]:
    """Hold the directory's write lock, among processes and among threads.

    The lock lies on the directory itself. Where a file system has none for directories (NFS wants a descriptor that
    can write), it lies on a file in it that is removed with the lock.

    Args:
        directory: must be there.
        timeout_s: seconds to wait for another writer.

    Raises:
        Busy: another writer held it all the time.
        OSError: the directory isn't there, or can't be opened.
    """
    deadline = time.monotonic() + timeout_s
    file: Path | None = None
    try:
        descriptor = _acquire(directory, _DIRECTORY, deadline, timeout_s)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_LOCKS:
            raise
        file = directory / LOCK_NAME
        descriptor = _acquire(file, _FILE, deadline, timeout_s)
    with _held(descriptor, file):
        yield


@contextlib.contextmanager
def locked_file(file: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Generator[None]:
    """Keep other writers out by a lock file, which is made for it and removed with it.

    Raises:
        Busy: another writer held it all the time.
        OSError: its directory isn't there, or the disk refused.
    """
    with _held(_acquire(file, _FILE, time.monotonic() + timeout_s, timeout_s), file):
        yield


@contextlib.contextmanager
def locked_by_name(
    file: Path, holder: str, timeout_s: float, busy: Callable[[str], str], *, name_file: Path | None = None
) -> Generator[None]:
    """Lock a file that stays afterwards; a waiting process that gives up gets the holder's name.

    Args:
        file: the lock; its directory must be there.
        holder: the name of who locks.
        timeout_s: seconds to wait for another holder.
        busy: makes the sentence of `Busy` from the other holder's name.
        name_file: a file for the name, removed with the lock; the lock file itself if None.

    Raises:
        Busy: another process held it all the time.
        StorageFailed: the disk refused the lock.
    """
    lock = FileLock(file, timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout:
        raise Busy(busy(_read_name(name_file or file))) from None
    except OSError as error:
        raise storage_failed(f"writing into {file.parent}", error, "nothing was changed") from error
    try:
        # A full disk may refuse these bytes; the lock holds without them.
        with contextlib.suppress(OSError):
            if name_file is None:
                file.write_text(holder, encoding="utf-8")
            else:
                write_atomic(name_file, holder.encode())
        yield
    finally:
        if name_file is not None:
            with contextlib.suppress(OSError):
                name_file.unlink(missing_ok=True)
        lock.release()


def _read_name(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8") or "another process"
    except OSError:  # it has just begun, or its disk is full
        return "another process"


@contextlib.contextmanager
def _held(descriptor: int, file: Path | None) -> Generator[None]:
    try:
        yield
    finally:
        # Unlocking can't change whether the data was written, so it raises nothing.
        with contextlib.suppress(OSError):
            if file is not None:
                file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            # A child forked meanwhile has a copy of the descriptor: closing ours alone would not let go.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _acquire(path: Path, flags: int, deadline: float, timeout_s: float) -> int:
    """A descriptor with the lock of the file that `path` names now, not of the one before the wait."""
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(descriptor, path):
                return descriptor
        except BlockingIOError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() > deadline:
            since = f"has been writing into {path} for {timeout_s:.0f} s" if timeout_s else f"is writing into {path}"
            raise Busy(f"another process {since}; try again later")
        time.sleep(_POLL_S)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
