"""The history of a model as JSON lines, each with the hash of the one before: what was decided can't be unsaid.

A line is written whole and fsynced before anything acts on it. A crash can leave a torn last line; the next writer cuts
it off, a reader leaves it out, and since nothing acted on it nothing is lost.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai.ml.core.errors import StorageFailed
from ai.ml.core.files import fsync_dir, sha256_bytes, storage_failed

FIRST = "0" * 64
"""What the first line names as the one before."""


@dataclass(frozen=True)
class Entry:
    """One line."""

    sequence: int
    """Counted from 1."""
    previous: str
    """sha-256 of the line before, its newline included."""
    sha256: str
    """Of this line."""
    body: dict[str, Any]
    """`action`, `time`, `actor`, `digest` and what goes with the action."""


@dataclass(frozen=True)
class Ledger:
    """A file of lines; every method reads it afresh."""

    path: Path

    def entries(self) -> list[Entry]:
        """All whole lines in order, whether or not their chain holds (see `problems`)."""
        return self._read()[0]

    def append(self, body: dict[str, Any]) -> Entry:
        """Write one line; the caller holds the model's lock.

        Raises:
            StorageFailed: the disk refused; the ledger is as it was, but for a torn line that the next writer removes.
        """
        entries, whole_bytes = self._read()
        previous, sequence = (entries[-1].sha256, entries[-1].sequence + 1) if entries else (FIRST, 1)
        record = {"sequence": sequence, "previous": previous, **body}
        line = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        created = not self.path.exists()
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                os.ftruncate(descriptor, whole_bytes)
                os.lseek(descriptor, whole_bytes, os.SEEK_SET)
                written = 0
                while written < len(line):
                    written += os.write(descriptor, line[written:])
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if created:
                fsync_dir(self.path.parent)
        except StorageFailed:
            raise
        except OSError as error:
            raise storage_failed(
                f"writing {self.path}", error, "the decision isn't recorded and has no effect"
            ) from error
        return Entry(sequence, previous, sha256_bytes(line), body)

    def problems(self) -> list[str]:
        """One sentence per line that isn't what its neighbours say."""
        sentences: list[str] = []
        expected = FIRST
        entries, whole_bytes = self._read()
        for place, entry in enumerate(entries, start=1):
            if entry.sequence != place or entry.previous != expected:
                sentences.append(
                    f"{self.path.name}: line {place} doesn't follow from the line before it: "
                    "a line was edited, removed or added"
                )
            expected = entry.sha256
        if self.path.exists() and self.path.stat().st_size > whole_bytes:
            sentences.append(
                f"{self.path.name}: {self.path.stat().st_size - whole_bytes} bytes behind its last whole line"
            )
        return sentences

    def _read(self) -> tuple[list[Entry], int]:
        """Whole lines, and how many bytes they take."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return [], 0
        entries: list[Entry] = []
        whole = 0
        for line in data.splitlines(keepends=True):
            try:
                record = json.loads(line)
                body = {key: value for key, value in record.items() if key not in ("sequence", "previous")}
                entry = Entry(record["sequence"], record["previous"], sha256_bytes(line), body)
            except (ValueError, KeyError, AttributeError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            entries.append(entry)
            whole += len(line)
        return entries, whole
