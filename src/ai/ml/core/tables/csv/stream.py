"""A CSV file's bytes: opened, unpacked, and audited on their way to who parses them."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from ai.ml.core.tables.csv.quotes import QuoteAudit

_PIECE_BYTES = 1 << 20


def open_bytes(path: Path, compressed: bool, comment: bytes = b"") -> Any:
    """The file's bytes, those of a `.gz` unpacked, as Arrow reads them; lines that begin with `comment` are blank."""
    file = _unpacked(path) if compressed else pa.OSFile(str(path), "rb")
    return pa.PythonFile(_WithoutComments(file, comment), "r") if comment else file


def _unpacked(path: Path) -> Any:
    import gzip

    # Arrow's own decompressor takes a file that ends too soon for a whole one.
    return pa.PythonFile(gzip.open(path, "rb"), "r")


def open_audited(path: Path, compressed: bool, audit: QuoteAudit, encoding: str, comment: bytes = b"") -> Any:
    """The same, each piece looked at by `audit` first; whoever reads to the end has its verdict.

    Raises:
        DataRefused: from the read in which the audit finds a stray quote.
    """
    return pa.PythonFile(_AuditedBytes(open_bytes(path, compressed, comment), audit, encoding), "r")


class _WithoutComments:
    """Lines that begin with a text become blank ones, so that those below keep their numbers."""

    closed = False

    def __init__(self, file: Any, comment: bytes) -> None:
        self._file = file
        self._line = re.compile(rb"^(?:\xef\xbb\xbf)?" + re.escape(comment) + rb"[^\r\n]*", re.MULTILINE)
        self._held, self._ready, self._ended = b"", b"", False

    def read(self, size: int = -1) -> bytes:
        while not self._ended and (size < 0 or len(self._ready) < size):
            data = bytes(self._file.read(_PIECE_BYTES))
            self._ended = not data
            self._held += data
            # A line is looked at whole.
            end = len(self._held) if self._ended else self._held.rfind(b"\n") + 1
            self._ready += self._line.sub(b"", self._held[:end])
            self._held = self._held[end:]
        size = len(self._ready) if size < 0 else size
        given, self._ready = self._ready[:size], self._ready[size:]
        return given

    def close(self) -> None:
        self.closed = True
        self._file.close()


class _AuditedBytes:
    closed = False

    def __init__(self, file: Any, audit: QuoteAudit, encoding: str) -> None:
        self._file, self._audit = file, audit
        self._decoder = None if has_ascii_bytes(encoding) else codecs.getincrementaldecoder(encoding)("replace")

    def read(self, size: int = -1) -> bytes:
        data = bytes(self._file.read(size))
        self._audit.feed(data if self._decoder is None else self._decoder.decode(data).encode())
        if not data:
            self._audit.close()
        return data

    def close(self) -> None:
        self.closed = True
        self._file.close()


def has_ascii_bytes(encoding: str) -> bool:
    """Is each ASCII letter one byte, and that byte never part of another letter?"""
    if encoding in ("utf-8", "utf-8-sig", "ascii"):
        return True
    letters = bytes(range(256)).decode(encoding, "replace")
    return len(letters) == 256 and letters[:128].isascii()
