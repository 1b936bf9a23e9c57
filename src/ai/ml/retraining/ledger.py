"""The history of a model as JSON lines, each with the hash of the one before: what was decided can't be unsaid.

A line is written whole and fsynced before anything acts on it. A crash can leave a torn last line; the next writer cuts
it off, a reader leaves it out, and since nothing acted on it nothing is lost. Only that is ever cut: a damaged line
that was whole once stops every writer, so that no later line is lost with it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai.ml.core.errors import StoreRefused
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


def next_entry(entries: Sequence[Entry], body: dict[str, Any]) -> tuple[Entry, bytes]:
    """The entry that follows `entries`, and its line, newline included."""
    previous, sequence = (entries[-1].sha256, entries[-1].sequence + 1) if entries else (FIRST, 1)
    record = {"sequence": sequence, "previous": previous, **body}
    line = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    return Entry(sequence, previous, sha256_bytes(line), body), line


def read_line(line: bytes) -> Entry | None:
    """The way back; None if it is no whole line of a ledger."""
    try:
        record = json.loads(line)
        body = {key: value for key, value in record.items() if key not in ("sequence", "previous")}
        entry = Entry(record["sequence"], record["previous"], sha256_bytes(line), body)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    return entry if line.endswith(b"\n") else None


def chain_problems(entries: Sequence[Entry], name: str) -> list[str]:
    """One sentence per line that doesn't follow from the one before it."""
    sentences: list[str] = []
    expected = FIRST
    for place, entry in enumerate(entries, start=1):
        if entry.sequence != place or entry.previous != expected:
            sentences.append(
                f"{name}: line {place} doesn't follow from the line before it: a line was edited, removed or added"
            )
        expected = entry.sha256
    return sentences


@dataclass(frozen=True)
class Ledger:
    """A file of lines; every method reads it afresh."""

    path: Path

    def entries(self) -> list[Entry]:
        """All lines in order up to the first damaged one, whether or not their chain holds (see `problems`)."""
        return self._read()[0]

    def append(self, body: dict[str, Any]) -> Entry:
        """Write one line; the caller holds the model's lock.

        Raises:
            StorageFailed: the disk refused; the ledger is as it was.
            StoreRefused: a line in it is damaged.
        """
        self.refuse_damage()
        entries, whole_bytes = self._read()
        entry, line = next_entry(entries, body)
        created = not self.path.exists()
        state = "the decision isn't recorded and has no effect"
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                _write_at(descriptor, whole_bytes, line)
            except OSError:
                # A line that was written whole but couldn't be made durable would count for the next reader.
                try:
                    os.ftruncate(descriptor, whole_bytes)
                except OSError:
                    state = "whether the decision is recorded will show when the disk works again"
                raise
            finally:
                os.close(descriptor)
            if created:
                fsync_dir(self.path.parent)
        except OSError as error:
            if created:
                with contextlib.suppress(OSError):
                    self.path.unlink(missing_ok=True)
            raise storage_failed(f"writing {self.path}", error, state) from error
        return entry

    def problems(self) -> list[str]:
        """One sentence per line that isn't what its neighbours say."""
        entries, whole_bytes = self._read()
        sentences = chain_problems(entries, self.path.name)
        if self.path.exists() and self.path.stat().st_size > whole_bytes:
            sentences.append(
                f"{self.path.name}: {self.path.stat().st_size - whole_bytes} bytes behind its last whole line"
            )
        return sentences

    def refuse_damage(self) -> None:
        """Check that every line is whole, but for the last one if its writer was stopped.

        Raises:
            StoreRefused: a line that was whole once is damaged.
        """
        entries, whole_bytes = self._read()
        rest = self.path.read_bytes()[whole_bytes:] if self.path.exists() else b""
        lines = rest.count(b"\n")
        # A torn write has no newline at its end; where a power cut loses a page of it, it reads as zeros.
        torn = lines == 0 or (lines == 1 and rest.endswith(b"\n") and b"\0" in rest)
        if not torn:
            raise StoreRefused(
                f"{self.path}: line {len(entries) + 1} is damaged, {lines - 1} lines are behind it; nothing is written "
                f"to it until it is restored from a backup, `bundlegate audit {self.path.parent.name}` tells if it is"
            )

    def _read(self) -> tuple[list[Entry], int]:
        """Whole lines, and how many bytes they take."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return [], 0
        entries: list[Entry] = []
        whole = 0
        for line in data.splitlines(keepends=True):
            entry = read_line(line)
            if entry is None:
                break
            entries.append(entry)
            whole += len(line)
        return entries, whole


def _write_at(descriptor: int, position: int, data: bytes) -> None:
    os.ftruncate(descriptor, position)
    os.lseek(descriptor, position, os.SEEK_SET)
    written = 0
    while written < len(data):
        written += os.write(descriptor, data[written:])
    os.fsync(descriptor)
