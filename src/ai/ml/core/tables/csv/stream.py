"""A CSV file's bytes: opened, unpacked, and audited on their way to who parses them."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import pyarrow as pa

from ai.ml.core.tables.csv.quotes import QuoteAudit


def open_bytes(path: Path, compressed: bool) -> Any:
    """The file's bytes, those of a `.gz` unpacked, as Arrow reads them."""
    if not compressed:
        return pa.OSFile(str(path), "rb")
    import gzip

    # Arrow's own decompressor takes a file that ends too soon for a whole one.
    return pa.PythonFile(gzip.open(path, "rb"), "r")


def open_audited(path: Path, compressed: bool, audit: QuoteAudit, encoding: str) -> Any:
    """The same, each piece looked at by `audit` first; whoever reads to the end has its verdict.

    Raises:
        DataRefused: from the read in which the audit finds a stray quote.
    """
    return pa.PythonFile(_AuditedBytes(open_bytes(path, compressed), audit, encoding), "r")


class _AuditedBytes:
    closed = False

    def __init__(self, file: Any, audit: QuoteAudit, encoding: str) -> None:
        self._file, self._audit = file, audit
        self._decoder = None if _has_ascii_bytes(encoding) else codecs.getincrementaldecoder(encoding)("replace")

    def read(self, size: int = -1) -> bytes:
        data = bytes(self._file.read(size))
        self._audit.feed(data if self._decoder is None else self._decoder.decode(data).encode())
        if not data:
            self._audit.close()
        return data

    def close(self) -> None:
        self.closed = True
        self._file.close()


def _has_ascii_bytes(encoding: str) -> bool:
    """Is each ASCII letter one byte, and that byte never part of another letter?"""
    if encoding in ("utf-8", "utf-8-sig", "ascii"):
        return True
    letters = bytes(range(256)).decode(encoding, "replace")
    return len(letters) == 256 and letters[:128].isascii()
