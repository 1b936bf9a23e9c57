"""The history of a model as JSON lines, each with the hash of the one before, so that none can be changed unseen.

A line is written whole and made durable before anything acts on it. A crash can leave a torn last line in a file; the
next writer cuts it off, a reader leaves it out, and since nothing acted on it nothing is lost. Only that is ever cut: a
damaged line that was whole once stops every writer, so that no later line is lost with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai.ml.core.errors import StoreRefused, storage_failed
from ai.ml.core.files.atomic import dump_json, fsync_dir, sha256_bytes

LEDGER_NAME = "ledger.jsonl"
_KINDS: dict[type, tuple[str, ...]] = {
    str: ("action", "time", "actor", "process", "digest", "verdict", "reason", "champion_before"),
    dict: ("note", "decision", "removed"),
}
"""Of the fields that are read; other versions may write more."""
GENESIS = "0" * 64
"""The hash of the line before the first one."""


@dataclass(frozen=True)
class Entry:
    """One line of the ledger."""

    sequence: int
    """Counted from 1."""
    previous: str
    """sha-256 of the line before, its newline included."""
    sha256: str
    """Of this line."""
    body: dict[str, Any]
    """`action`, `time`, `actor`, `digest` and what goes with the action."""

    @property
    def action(self) -> str:
        """What was decided; empty where the line doesn't say."""
        return str(self.body.get("action", ""))

    @property
    def digest(self) -> str:
        """Of the bundle that it is about; empty where there is none."""
        return str(self.body.get("digest", ""))


@dataclass(frozen=True)
class LedgerSnapshot:
    """A ledger as it was read at one moment."""

    name: str
    """For messages."""
    entries: list[Entry]
    """All lines in order up to the first damaged one, whether or not their chain holds."""
    whole_bytes: int = 0
    """What they take."""
    rest: bytes = b""
    """What stands behind them."""
    later_lines: int = 0
    """Whole lines behind the first one that can't be read."""
    damaged: bool = False
    """A line that was whole once can't be read; a torn last line is none."""

    @property
    def damage(self) -> str | None:
        """What is damaged, in a sentence; None if nothing is."""
        if not self.damaged:
            return None
        return damaged_line(self.name, len(self.entries) + 1, self.later_lines, "nothing is written to it")

    def chain_problems(self) -> list[str]:
        """One sentence per line that doesn't follow from the one before."""
        sentences: list[str] = []
        expected = GENESIS
        for number, entry in enumerate(self.entries, start=1):
            if entry.sequence != number or entry.previous != expected:
                sentences.append(broken_link(self.name, number))
            expected = entry.sha256
        return sentences

    def problems(self) -> list[str]:
        """One sentence per line that isn't what its neighbours say."""
        sentences = self.chain_problems()
        if self.rest:
            sentences.append(f"{self.name}: {len(self.rest)} bytes behind its last whole line")
        elif self.damaged:
            sentences.append(f"{self.name}: line {len(self.entries) + 1} is gone, {self.later_lines} are behind it")
        return sentences


def broken_link(name: str, number: int) -> str:
    """The sentence for a line that the one before it doesn't lead to."""
    return f"{name}: line {number} doesn't follow from the line before it: a line was edited, removed or added"


def damaged_line(name: str, number: int, later: int, consequence: str) -> str:
    """The sentence for a line that was whole once and can't be read, with `later` whole ones behind it."""
    return (
        f"{name}: line {number} is damaged, {later} lines are behind it; {consequence} until it is restored from a "
        "backup, `bundlegate audit` tells if it is"
    )


def next_entry(entries: Sequence[Entry], body: dict[str, Any]) -> tuple[Entry, bytes]:
    """The entry that follows `entries`, and its line, newline included.

    No two lines are ever equal: an `id` drawn by chance tells one's own line from another's.
    """
    previous, sequence = (entries[-1].sha256, entries[-1].sequence + 1) if entries else (GENESIS, 1)
    record = {"sequence": sequence, "previous": previous, "id": secrets.token_hex(8), **body}
    line = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    return Entry(sequence, previous, sha256_bytes(line), body), line


def read_line(line: bytes) -> Entry | None:
    """Parse a line that `next_entry` made; None if it is no whole line of a ledger, or a field is of another kind."""
    try:
        record: Any = json.loads(line)
        body: dict[str, Any] = {
            key: value for key, value in record.items() if key not in ("sequence", "previous", "id")
        }
        if type(record["sequence"]) is not int or type(record["previous"]) is not str:
            raise TypeError("its place in the chain is none")
        for kind, keys in _KINDS.items():
            if not all(isinstance(body[key], kind) for key in keys if body.get(key) is not None):
                raise TypeError("a field is of another kind")
        entry = Entry(record["sequence"], record["previous"], sha256_bytes(line), body)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    return entry if line.endswith(b"\n") else None


@dataclass(frozen=True)
class Head:
    """The record of a ledger's last line, kept beside it: written once the line is durable."""

    sequence: int
    sha256: str

    @classmethod
    def of(cls, entry: Entry) -> Head:
        """The head of a ledger that ends with `entry`."""
        return cls(entry.sequence, entry.sha256)

    @classmethod
    def from_json(cls, data: bytes, location: str) -> Head:
        """Parse what `to_json` wrote; `location` is for the message.

        Raises:
            StoreRefused: it can't be read.
        """
        try:
            record: Any = json.loads(data)
            if type(record["sequence"]) is not int or type(record["sha256"]) is not str or record["sequence"] < 1:
                raise TypeError("a field is of another kind")
            head = cls(record["sequence"], record["sha256"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreRefused(
                f"{location}, which says how many lines the ledger has, is damaged ({error}): restore it from a "
                "backup, or delete it and see `bundlegate audit NAME --mend REASON`"
            ) from None
        return head

    def to_json(self) -> bytes:
        """The record as it lies in the store."""
        return dump_json({"sequence": self.sequence, "sha256": self.sha256})


def is_torn(rest: bytes) -> bool:
    """Whether what stands behind the last whole line is nothing, or a line whose writer was killed.

    A torn write has no newline at its end; where a power cut loses a page of it, it reads as zeros.
    """
    lines = rest.count(b"\n")
    return lines == 0 or (lines == 1 and rest.endswith(b"\n") and b"\0" in rest)


@dataclass(frozen=True)
class Ledger:
    """A ledger in a file, a JSON object a line."""

    path: Path

    def content(self) -> bytes:
        """The file's bytes; empty if there is none.

        Raises:
            StorageFailed: the disk refused.
        """
        try:
            return self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except OSError as error:
            raise storage_failed(f"reading {self.path}", error, "nothing was changed") from error

    def read(self) -> LedgerSnapshot:
        """The file as it is now.

        Raises:
            StorageFailed: the disk refused.
        """
        data = self.content()
        entries: list[Entry] = []
        whole = 0
        for line in data.splitlines(keepends=True):
            entry = read_line(line)
            if entry is None:
                break
            entries.append(entry)
            whole += len(line)
        rest = data[whole:]
        return LedgerSnapshot(str(self.path), entries, whole, rest, max(rest.count(b"\n") - 1, 0), not is_torn(rest))

    def write(self, snapshot: LedgerSnapshot, line: bytes) -> None:
        """Write a line behind `snapshot`, which the caller read under the lock that it still holds.

        Raises:
            StorageFailed: the disk refused; the ledger is as it was.
            StoreRefused: a line in it is damaged.
        """
        if snapshot.damage is not None:
            raise StoreRefused(snapshot.damage)
        created = not self.path.exists()
        state = "the decision isn't recorded and has no effect"
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                _write_at(descriptor, snapshot.whole_bytes, line)
            except OSError:
                # A line that was written whole but couldn't be made durable would count for the next reader.
                try:
                    os.ftruncate(descriptor, snapshot.whole_bytes)
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


def _write_at(descriptor: int, position: int, data: bytes) -> None:
    os.ftruncate(descriptor, position)
    os.lseek(descriptor, position, os.SEEK_SET)
    written = 0
    while written < len(data):
        written += os.write(descriptor, data[written:])
    os.fsync(descriptor)
