"""What this machine remembers of the stores that it has read, outside of them: a ledger never goes back from there.

A file a model in the user's state folder. It holds how far the ledger was read and found whole, with the sha-256 of
everything up to there, so that the next reader hashes the old lines at once and looks closely at the new ones alone.
Only lines that are known to be durable count: a power cut can't take them back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ai.ml.core.errors import StoreRefused, storage_failed
from ai.ml.core.files.atomic import dump_json, sha256_bytes
from ai.ml.core.files.user_folders import StateFile, state_file
from ai.ml.core.tables.locations import is_url

FORMAT = 1


@dataclass(frozen=True)
class Anchor:
    """The beginning of a ledger, as this machine has seen it."""

    sequence: int
    """Number of its last line."""
    head: str
    """That line's sha-256."""
    size: int
    """Bytes of all lines up to it."""
    content: str
    """Their sha-256."""
    changes: tuple[tuple[int, int], ...]
    """Where the last two lines that moved the pointer begin, and their lengths; fewer if there are fewer."""
    tags: str = ""
    """On a bucket: sha-256 over the entity tags of the lines' objects."""

    @classmethod
    def from_json(cls, data: bytes) -> Anchor:
        """Parse what `to_json` wrote; raises ValueError, KeyError, TypeError or RecursionError if it is none."""
        record: Any = json.loads(data)
        if record.pop("format") != FORMAT:
            raise ValueError("another version wrote it")
        record.pop("store")
        changes = tuple((int(at), int(length)) for at, length in record.pop("changes"))
        anchor = cls(changes=changes, **record)
        if not (type(anchor.sequence) is type(anchor.size) is int and anchor.sequence >= 0 and anchor.size >= 0):
            raise TypeError("a number is none")
        return anchor

    def to_json(self, store: str) -> bytes:
        """The file's content; `store` is for people who read it."""
        return dump_json({"format": FORMAT, "store": store, **asdict(self)})


@dataclass(frozen=True)
class AnchorFile(StateFile):
    """Where the anchor of one model lies."""

    store: str
    """The model's folder or URL."""

    def read(self) -> Anchor | None:
        """What is remembered; None if nothing is.

        Raises:
            StoreRefused: the file is damaged.
            StorageFailed: the disk refused.
        """
        if self.path is None:
            return None
        try:
            return Anchor.from_json(self.path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_failed(f"reading {self.path}", error, "nothing was changed") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreRefused(
                f"{self.path}, what this machine remembers of {self.store}, is damaged ({error}): run `bundlegate "
                "audit`, and delete the file to begin anew"
            ) from None

    def keep_anchor(self, anchor: Anchor) -> None:
        """Remember; a machine that can't write there checks everything again each time."""
        self.keep(anchor.to_json(self.store))


def anchor_file(location: str) -> AnchorFile:
    """The anchor of the model at a folder or URL."""
    if is_url(location):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        store = f"{location} {endpoint}".strip()
    else:
        store = os.path.realpath(location)
    name = f"{location.rstrip('/').rpartition('/')[2]}-{sha256_bytes(store.encode())[:16]}.json"
    return AnchorFile(state_file("ledgers", name).path, store)


def forget(location: str) -> None:
    """Remember nothing of a model at a folder or URL: its store is about to be made anew by who made it.

    Raises:
        StorageFailed: the disk refused.
    """
    anchor_file(location).remove()


def tags_sha256(tags: Sequence[str]) -> str:
    """One sha-256 over the entity tags of the objects of a ledger's first lines."""
    return sha256_bytes("\n".join(tags).encode())
