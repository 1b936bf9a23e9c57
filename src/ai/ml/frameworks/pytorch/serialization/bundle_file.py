"""The open bundle file: one descriptor from the first check to the last byte, read by position.

A path may mean another file a moment later, and a file may change while it is read. So it is opened once, and every
byte that is believed is the one that was checked: the frame of the zip is kept in memory, and tensor data is hashed on
its way into the tensor.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType

from ai.ml.core.errors import BundleNotFound, BundleRefused, storage_failed

MAX_FILE_BYTES = 64 << 30


class BundleFile:
    """A regular file, open for reading; closes its descriptor as a context manager.

    Raises:
        BundleNotFound: there is no such file.
        BundleRefused: it isn't a plain file, is empty, too large, or may not be read.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            # Without blocking: a pipe that is nobody's other end would wait for ever.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BundleNotFound(f"no bundle at {path}") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise BundleRefused(f"{str(path)!r} can't be opened: {reason}") from None
        try:
            self.size = self._checked_size()
        except BundleRefused:
            os.close(self._descriptor)
            raise

    def _checked_size(self) -> int:
        status = os.fstat(self._descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise BundleRefused(f"{self.path} is a directory, expected the .pt file in it")
        if not stat.S_ISREG(status.st_mode):
            raise BundleRefused(f"{self.path} is not a plain file")
        if status.st_size == 0:
            raise BundleRefused(f"{self.path} is empty")
        if status.st_size > MAX_FILE_BYTES:
            raise BundleRefused(f"{self.path} has {status.st_size:,} bytes, more than {MAX_FILE_BYTES:,}")
        return status.st_size

    def __enter__(self) -> BundleFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from `offset`, fewer only at the end of the file.

        Raises:
            StorageFailed: the disk failed.
        """
        parts: list[bytes] = []
        while length > 0:
            try:
                part = os.pread(self._descriptor, length, offset)
            except OSError as error:
                raise storage_failed(f"reading {self.path}", error, "nothing was changed") from error
            if not part:
                break
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset`; returns the bytes read, fewer only at the end of the file.

        Raises:
            StorageFailed: the disk failed.
        """
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            except OSError as error:
                raise storage_failed(f"reading {self.path}", error, "nothing was changed") from error
            if not count:
                break
            done += count
        return done
