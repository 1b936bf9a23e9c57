"""Hashing, and writing that a crash can't tear: write beside, fsync, rename, fsync the directory."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from ai.ml.core.errors import BundlegateError, storage_failed

MAX_NAME_BYTES = 255
"""Of one name in a directory, on the file systems that matter."""

_TEMP_NAME = re.compile(r"^\..+\.(?P<pid>\d+)\.[0-9a-f]{16}\.tmp$")


def sha256_bytes(data: bytes) -> str:
    """Lower-case hex sha-256."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Lower-case hex sha-256 of a file's bytes, streamed."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def dump_json(value: object) -> bytes:
    """The one JSON form that we write: sorted keys, UTF-8, no NaN, so that equal content gives equal bytes."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def fsync_dir(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temp_path(path: Path) -> Path:
    """A name beside `path` that no other writer uses and that tells whose it is, cut where it would be too long."""
    end = f".{os.getpid()}.{secrets.token_hex(8)}.tmp"
    name = os.fsencode(path.name)[: MAX_NAME_BYTES - 1 - len(end)].decode(errors="ignore") or "_"
    return path.with_name(f".{name}{end}")


def write_atomic(path: Path, data: bytes | Callable[[BinaryIO], None]) -> None:
    """Replace `path` whole or not at all.

    Args:
        path: the file; its directory must be there.
        data: the new content, or a function that writes it to a binary stream.

    Raises:
        StorageFailed: the disk refused; the old file is as it was and nothing is left beside it.
    """
    temp = temp_path(path)
    state = "the old file is as it was"
    try:
        write_new(temp, data)
        temp.replace(path)
        state = "the new file is in place but may not outlast a power cut"
        fsync_dir(path.parent)
    except OSError as error:
        # Where the data comes from may refuse too, as a missing input does: that isn't the disk's fault.
        if isinstance(error, BundlegateError):
            raise
        raise storage_failed(f"writing {path}", error, state) from error
    finally:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)


def write_new(path: Path, data: bytes | Callable[[BinaryIO], None]) -> None:
    """Create `path` (it must not be there), write it and fsync it; mode 0666 as the umask allows.

    A function may read again what it has written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "w+b") as stream:
        if callable(data):
            data(stream)
        else:
            stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def open_plain(path: Path) -> BufferedReader:
    """Open a plain file to read; never a link, a pipe or a device, and never blocking on one.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is a link, or the disk refused.
        ValueError: it is something else that isn't a plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path} is not a plain file")
    return os.fdopen(descriptor, "rb")


def make_dirs(path: Path) -> None:
    """Create a directory with its parents, as `mkdir(parents=True, exist_ok=True)` does, durably.

    Raises:
        StorageFailed: the disk refused, or there is a file of that name.
    """
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            fsync_dir(folder.parent)
    except OSError as error:
        raise storage_failed(f"making the directory {path}", error, "nothing was changed in it") from error


def publish_dir(staging: Path, target: Path) -> None:
    """Give a finished directory its final name by one rename, durable before and after.

    Raises:
        FileExistsError: `target` is there already; `staging` is left as it is.
        StorageFailed: the disk refused; `target` isn't there.
    """
    if os.path.lexists(target):
        raise FileExistsError(f"{target} is there already")
    try:
        for path in _tree(staging):
            _fsync_any(path)
        staging.rename(target)
        fsync_dir(target.parent)
    except OSError as error:
        if target.is_dir() and not staging.exists():
            raise storage_failed(f"making {target} durable", error, "it is in place") from error
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):  # somebody published between the look and the rename
            raise FileExistsError(f"{target} is there already") from None
        raise storage_failed(f"publishing {target}", error, "nothing was published") from error


def sweep_temps(directory: Path) -> list[Path]:
    """Remove temporary files of dead writers beside their targets; returns the removed paths."""
    removed: list[Path] = []
    for path in directory.glob(".*.tmp"):
        match = _TEMP_NAME.match(path.name)
        if match and not is_alive(int(match["pid"])):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _tree(root: Path) -> Iterator[Path]:
    """Everything below `root`, children first, then `root`."""
    for folder, _, names in os.walk(root, topdown=False):
        yield from (Path(folder, name) for name in names)
        yield Path(folder)


def _fsync_any(path: Path) -> None:
    if path.is_dir():
        fsync_dir(path)
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_alive(pid: int) -> bool:
    """Whether a process of that number works on this machine: a dead one that its parent hasn't buried doesn't."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        # Gone meanwhile, or a system that tells it elsewhere.
        return True
    return state[:1] not in ([b"Z"], [b"X"])
