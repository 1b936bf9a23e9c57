"""What the store's protocol needs of its storage: a folder or a prefix in a bucket.

A backend holds one model. It knows nothing of verdicts and decisions; `Store` does. Two things make the protocol safe
on either kind: a ledger line is written at its number or not at all, and the pointer is replaced only by who has seen
it as it is.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ai.ml.core.environment_faults import raise_unlisted
from ai.ml.core.errors import StoreRefused
from ai.ml.core.files.atomic import dump_json
from ai.ml.retraining.store.anchor import Anchor
from ai.ml.retraining.store.ledger import Entry, Head, LedgerSnapshot

Section = Literal["versions", "quarantine"]
POINTER_NAME = "champion"
HEAD_NAME = "tip"
VERDICTS = "verdicts"
SIGNATURES = "signatures"
VERDICT_NAME = "verdict.json"
"""Of the verdict that lies in a quarantined bundle's directory."""
CHAMPION_ACTIONS = ("promoted", "rolled-back")
"""These make a bundle the champion."""
RETIRED = "retired"
"""The ledger's word for a champion that was taken out of service."""
POINTER_ACTIONS = (*CHAMPION_ACTIONS, RETIRED)
"""These move the pointer."""
DIGEST_PATTERN = re.compile(r"[0-9a-f]{64}")


class LineTaken(Exception):
    """Another writer has written the ledger line of that number: read it and decide again."""


@dataclass(frozen=True)
class Pointer:
    """What `champion` holds: the live bundle and the ledger line that made it so."""

    digest: str | None
    """None where the champion was retired: older versions then refuse the pointer, and score with nothing."""
    previous: str | None
    """Digest of the champion before; of the one that was retired."""
    sequence: int
    """Number of the line."""
    line: str
    """Its sha-256."""
    since: str

    @classmethod
    def to(cls, entry: Entry) -> Pointer:
        """The pointer that a ledger line asks for."""
        body = entry.body
        if entry.action == RETIRED:
            return cls(None, entry.digest, entry.sequence, entry.sha256, body.get("time", ""))
        return cls(entry.digest, body.get("champion_before"), entry.sequence, entry.sha256, body.get("time", ""))

    @classmethod
    def from_json(cls, data: bytes, location: str, name: str) -> Pointer:
        """Parse what `to_json` wrote.

        Args:
            data: the pointer's bytes.
            location: path or URL of the pointer, for the message.
            name: of the model.

        Raises:
            StoreRefused: the pointer is damaged.
        """
        try:
            record: Any = json.loads(data)
            if not isinstance(record["sequence"], int):
                raise TypeError("its sequence is no number")
            pointer = cls(**{key: record[key] for key in cls.__annotations__})
            digests = [digest for digest in (pointer.digest, pointer.previous) if digest is not None]
            for digest in digests or [""]:
                if not DIGEST_PATTERN.fullmatch(digest):
                    raise ValueError("its digest is no digest")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreRefused(f"{location} is damaged ({error}): run `bundlegate audit {name}`") from None
        return pointer

    def to_json(self) -> bytes:
        """The pointer as it lies in the store."""
        return dump_json(asdict(self))


@dataclass(frozen=True)
class LedgerBytes:
    """A ledger's lines as they are in the storage, one after another."""

    name: str
    """For messages."""
    data: bytes
    tags: tuple[str, ...] | None = None
    """On a bucket: the entity tag of each line's object."""


class StoreBackend(Protocol):
    """The storage of one model. Every method that writes raises `StorageFailed` where the disk or bucket refuses."""

    @property
    def location(self) -> str:
        """The model's folder or URL, for messages."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether `writing` keeps other writers away."""
        ...

    def exists(self) -> bool:
        """Whether anything was ever decided here."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """Hold off other writers while it lasts, where the storage can do that; raises `Busy` after the time-out."""
        ...

    def read_pointer(self) -> tuple[bytes | None, Any]:
        """The pointer's bytes, None if there is none, and a token of this state."""
        ...

    def replace_pointer(self, data: bytes, token: Any) -> bool:
        """Replace the pointer whole if it is still as it was when the token was given; False if it isn't."""
        ...

    def read_ledger(self) -> LedgerSnapshot:
        """Every line as it is now."""
        ...

    def ledger_bytes(self, known: Anchor | None) -> LedgerBytes:
        """The lines as they are now, unchecked.

        `known` is what this machine remembers: a bucket's objects that have the same tags as then aren't read again.
        Raises `StoreRefused` where a line is gone or is none.
        """
        ...

    def keep_lines(self, lines: bytes) -> None:
        """Keep the first lines on this machine if reading them again is dear; losing them costs downloads only."""
        ...

    def append(self, snapshot: LedgerSnapshot, body: dict[str, Any], *, point: bool) -> Entry:
        """Write the line that follows `snapshot`, and where `point` says so, move the pointer to its digest.

        Raises `LineTaken` if another line has that number by now. The line is the commit: where the pointer can't
        follow, `StorageFailed` says so, and the next writer moves it.
        """
        ...

    def read_head(self) -> Head | None:
        """The last line as recorded beside the ledger; None if there is no record. It may lag, never lead.

        Raises `StoreRefused` where it is damaged.
        """
        ...

    def write_head(self, head: Head) -> None:
        """Record the last line beside the ledger."""
        ...

    def names(self, section: Section) -> list[str]:
        """Whole directories in a section, oldest first as far as the storage can tell."""
        ...

    def publish(self, section: Section, name: str, source: Path, extra: dict[str, bytes]) -> None:
        """Copy the plain files of `source`, add those of `extra`, and make them appear under `name` all at once.

        In `versions`, the copy is hashed, and appears only if it is the sealed bundle with that digest; raises
        `BundleRefused` if not. A name that is there already is left as it is.
        """
        ...

    def problems(self, name: str) -> list[str]:
        """One sentence per file of a version that isn't what its digest says."""
        ...

    def fetch(self, name: str) -> Path:
        """A local folder with the version.

        Raises `BundleNotFound` if there is none, `BundleRefused` if another bundle lies there.
        """
        ...

    def address(self, section: Section, name: str) -> str:
        """The path or URL of a directory in the store, for messages."""
        ...

    def remove(self, section: Section, name: str) -> None:
        """Remove a directory; a reader sees it whole or not at all."""
        ...

    def keep_verdict(self, name: str, document: bytes) -> None:
        """Store a verdict under its sha-256."""
        ...

    def read_verdict(self, name: str) -> bytes | None:
        """The verdict with that sha-256; None if there is none."""
        ...

    def keep_signature(self, name: str, signature: bytes) -> str:
        """Store the signature of a version in place of an older one; gives back where."""
        ...

    def read_signature(self, name: str) -> bytes | None:
        """The signature of a version; None if there is none."""
        ...

    def sweep(self) -> None:
        """Remove what killed writers left; called while `writing`."""
        ...


def read_pointer(backend: StoreBackend, name: str) -> tuple[Pointer | None, Any]:
    """What the champion's pointer says, None if there is none; and the token for `replace_pointer`.

    Raises:
        StoreRefused: it is damaged.
    """
    data, token = backend.read_pointer()
    pointer = None if data is None else Pointer.from_json(data, f"{backend.location}/{POINTER_NAME}", name)
    return pointer, token


def plain_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """POSIX names relative to `folder` and paths of the plain files below it, sorted; links are left out."""
    for root, _, names in sorted(os.walk(folder, onerror=raise_unlisted)):
        for name in sorted(names):
            path = Path(root, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path.relative_to(folder).as_posix(), path
