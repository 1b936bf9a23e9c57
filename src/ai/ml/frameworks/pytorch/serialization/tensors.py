"""The zip that `torch.load` gets instead of a bundle file: an archive of our own around the file's storages."""

from __future__ import annotations

import bisect
import io
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from ai.ml.core.errors import BundlegateError
from ai.ml.frameworks.pytorch.serialization.zip_reader import (
    CENTRAL_HEADER,
    END_RECORD,
    END_RECORD_64,
    LOCAL_HEADER,
    LOCATOR_64,
    MAX_16_BITS,
    MAX_32_BITS,
    StorageRecord,
)

ReadStorage = Callable[[memoryview, str, int], None]
"""Fills a buffer with the bytes of the storage with that key, from that byte on."""

_ROOT = "tensors/"
_DISTANCE = ("distance", bytes(16 << 10))
"""torch looks for the end record by reading the file's last 4 KiB; storages, which are read once, must lie before."""
_VERSION = 45
# Every size and offset is written in the long form (`MAX_16_BITS`, `MAX_32_BITS`), which a file of any size can have.


class TensorZip(io.RawIOBase):
    """A stored zip of a pickle and storages, readable like a file; the storages are read on demand."""

    def __init__(self, pickled: bytes, storages: Mapping[str, StorageRecord], read_storage: ReadStorage):
        super().__init__()
        self.failure: BundlegateError | None = None
        """Why a read ended early: torch makes a RuntimeError of its own of it."""
        self._read_storage = read_storage
        self._offsets: list[int] = []
        self._parts: list[tuple[int, bytes | str]] = []
        self._size = 0
        self._at = 0
        directory: list[bytes] = []
        for key, record in storages.items():
            directory.append(self._add_header(f"data/{key}", record.size, record.crc))
            self._add(record.size, key)
        for name, content in (("data.pkl", pickled), ("byteorder", b"little"), ("version", b"3\n"), _DISTANCE):
            directory.append(self._add_header(name, len(content), zlib.crc32(content)))
            self._add(len(content), content)
        self._add_directory(directory)

    def _add(self, size: int, source: bytes | str) -> None:
        """Add a part: bytes of ours, or the key of a storage."""
        self._offsets.append(self._size)
        self._parts.append((size, source))
        self._size += size

    def _add_header(self, name: str, size: int, crc: int) -> bytes:
        """Add the header of a record; returns its line of the directory."""
        raw, offset = (_ROOT + name).encode(), self._size
        extra = struct.pack("<HHQQ", 1, 16, size, size)
        local = LOCAL_HEADER.pack(
            b"PK\x03\x04", _VERSION, 0, 0, 0, 0, crc, MAX_32_BITS, MAX_32_BITS, len(raw), len(extra)
        )
        header = local + raw + extra
        self._add(len(header), header)
        extra = struct.pack("<HHQQQ", 1, 24, size, size, offset)
        sizes = (crc, MAX_32_BITS, MAX_32_BITS, len(raw), len(extra), 0, 0, 0, 0, MAX_32_BITS)
        return CENTRAL_HEADER.pack(b"PK\x01\x02", _VERSION, _VERSION, 0, 0, 0, 0, *sizes) + raw + extra

    def _add_directory(self, lines: list[bytes]) -> None:
        directory, start, count = b"".join(lines), self._size, len(lines)
        sizes = (count, count, len(directory), start)
        end = (
            END_RECORD_64.pack(b"PK\x06\x06", END_RECORD_64.size - 12, _VERSION, _VERSION, 0, 0, *sizes)
            + LOCATOR_64.pack(b"PK\x06\x07", 0, start + len(directory), 1)
            + END_RECORD.pack(b"PK\x05\x06", 0, 0, MAX_16_BITS, MAX_16_BITS, MAX_32_BITS, MAX_32_BITS, 0)
        )
        self._add(len(directory) + len(end), directory + end)

    def readable(self) -> bool:
        """True: the stream can be read."""
        return True

    def seekable(self) -> bool:
        """True: the stream can be read from anywhere."""
        return True

    def tell(self) -> int:
        """The offset at which the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset from the beginning, the present position or the end."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from here; fewer bytes at the end, or after a `failure`."""
        view = memoryview(buffer).cast("B")
        done = 0
        index = bisect.bisect_right(self._offsets, self._at) - 1
        try:
            while done < len(view) and self._at < self._size:
                size, source = self._parts[index]
                start = self._at - self._offsets[index]
                target = view[done : done + size - start]
                if isinstance(source, str):
                    self._read_storage(target, source, start)
                else:
                    target[:] = source[start : start + len(target)]
                done += len(target)
                self._at += len(target)
                index += 1
        except BundlegateError as error:
            self.failure = error
        return done
