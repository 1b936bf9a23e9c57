"""A stream that hashes the data it writes, so that the file needn't be read again."""

from __future__ import annotations

import hashlib
import io
import threading
from typing import Any, BinaryIO

_LARGE_BYTES = 8 << 20


class HashingStream(io.RawIOBase):
    """Writes to another stream, which stays open, and keeps size and sha-256 of the written data."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._size = 0

    @property
    def sha256(self) -> str:
        """Lower-case hex, of everything so far."""
        return self._digest.hexdigest()

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._size

    def writable(self) -> bool:
        """Whether it can be written to: always."""
        return True

    def tell(self) -> int:
        """Bytes written so far, as for any file object."""
        return self._size

    def write(self, data: Any, /) -> int:
        """Write all of `data`; returns its size in bytes.

        Raises:
            OSError: the stream below refused.
        """
        view = memoryview(data).cast("B")
        # hashlib lets go of the interpreter: a large tensor is hashed while it is written.
        hashing = threading.Thread(target=self._digest.update, args=(view,)) if len(view) > _LARGE_BYTES else None
        if hashing is None:
            self._digest.update(view)
        else:
            hashing.start()
        try:
            self._stream.write(view)
        finally:
            if hashing is not None:
                hashing.join()
        self._size += len(view)
        return len(view)
