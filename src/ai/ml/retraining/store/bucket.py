"""A model's backend under a prefix of an S3 bucket, through `obstore` (extra `s3`).

::

    PREFIX/NAME/versions/DIGEST/…           the manifest is put last: without it there is no version
    PREFIX/NAME/champion                    the pointer, replaced by a conditional put
    PREFIX/NAME/ledger/000000001.json …     one object a line, created only if its number is free
    PREFIX/NAME/tip                         number and sha-256 of the last line
    PREFIX/NAME/verdicts/SHA.json
    PREFIX/NAME/signatures/DIGEST.sig
    PREFIX/NAME/quarantine/DIGEST/…         its verdict.json is put last

There is no lock. Two writers at once both read, and both try to create the same next line: the bucket gives it to one,
and the other reads again. An object is whole or absent: nothing is written into an open stream that an error could
close.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai.ml.core.bundle_dir import MANIFEST_NAME, Manifest
from ai.ml.core.errors import BundleNotFound, BundleRefused, StorageFailed, StoreRefused
from ai.ml.core.files.atomic import make_dirs, sha256_bytes, write_atomic
from ai.ml.core.files.bucket import Objects, open_objects
from ai.ml.retraining.store.anchor import Anchor, tags_sha256
from ai.ml.retraining.store.backend import (
    HEAD_NAME,
    POINTER_NAME,
    SIGNATURES,
    VERDICT_NAME,
    VERDICTS,
    LedgerBytes,
    LineTaken,
    Pointer,
    Section,
    plain_files,
)
from ai.ml.retraining.store.cache import cached_version, kept_ledger
from ai.ml.retraining.store.ledger import Entry, Head, LedgerSnapshot, next_entry, read_line

MARKERS: dict[Section, str] = {"versions": MANIFEST_NAME, "quarantine": VERDICT_NAME}
"""The object that is put last and removed first: a directory without it isn't there."""
READERS = 16


@dataclass(frozen=True)
class BucketBackend:
    """`s3://BUCKET/PREFIX/NAME`."""

    objects: Objects

    @property
    def location(self) -> str:
        """The model's URL."""
        return self.objects.url

    @property
    def exclusive(self) -> bool:
        """False: writers find out about each other when they write."""
        return False

    def exists(self) -> bool:
        """Whether there is a ledger, a pointer or a version."""
        return self.objects.read(POINTER_NAME) is not None or any(
            self.objects.names(part) for part in ("ledger", "versions")
        )

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """Hold nothing: a bucket has no lock."""
        yield

    def read_pointer(self) -> tuple[bytes | None, Any]:
        """The object's bytes and its entity tag."""
        found = self.objects.read_tagged(POINTER_NAME)
        return (None, None) if found is None else found

    def replace_pointer(self, data: bytes, token: Any) -> bool:
        """Replace the pointer by a conditional put; False if another was quicker."""
        return self.objects.put_if(POINTER_NAME, data, token, "the pointer is as it was")

    def read_ledger(self) -> LedgerSnapshot:
        """Read the objects of all lines, several at a time."""
        numbers = sorted(_number(name) for name in self.objects.names("ledger"))
        with ThreadPoolExecutor(READERS) as pool:
            lines = list(pool.map(lambda number: self.objects.read(_line_key(number)), numbers))
        entries: list[Entry] = []
        for expected, (number, line) in enumerate(zip(numbers, lines, strict=True), start=1):
            entry = None if line is None or number != expected else read_line(line)
            if entry is None:
                gap = number != expected
                later = len(numbers) - expected + (1 if gap else 0)
                return LedgerSnapshot(
                    f"{self.location}/ledger",
                    entries,
                    rest=b"" if gap else line or b"",
                    later_lines=later,
                    damaged=True,
                )
            entries.append(entry)
        return LedgerSnapshot(f"{self.location}/ledger", entries)

    def ledger_bytes(self, known: Anchor | None) -> LedgerBytes:
        """List the lines' objects, and read those that this machine doesn't have as they are."""
        name = f"{self.location}/ledger"
        listed = sorted((_number(entry.name), entry.tag or "") for entry in self.objects.entries("ledger"))
        tags = tuple(tag for _, tag in listed)
        if [number for number, _ in listed] != list(range(1, len(listed) + 1)):
            raise StoreRefused(self.read_ledger().damage or f"{name} changed while it was listed: try again")
        kept = self._kept_lines(known, tags)
        first = known.sequence if kept and known is not None else 0
        with ThreadPoolExecutor(READERS) as pool:
            lines = list(pool.map(lambda number: self.objects.read(_line_key(number)), range(first + 1, len(tags) + 1)))
        for number, line in enumerate(lines, start=first + 1):
            if line is None or line.count(b"\n") != 1 or not line.endswith(b"\n"):
                raise StoreRefused(self.read_ledger().damage or f"{name}: line {number} is damaged")
        return LedgerBytes(name, b"".join((kept, *map(bytes, filter(None, lines)))), tags)

    def keep_lines(self, lines: bytes) -> None:
        """Beside the versions in the cache; where they can't be written, they are read again the next time."""
        path = kept_ledger(self.location)
        with contextlib.suppress(StorageFailed):
            make_dirs(path.parent)
            write_atomic(path, lines)

    def _kept_lines(self, known: Anchor | None, tags: tuple[str, ...]) -> bytes:
        """The lines that `known` stands for if bucket and cache still have them so; else none."""
        same = known is not None and "" not in tags and tags_sha256(tags[: known.sequence]) == known.tags
        if known is None or not same:
            return b""
        try:
            kept = kept_ledger(self.location).read_bytes()
        except OSError:
            return b""
        return kept if sha256_bytes(kept) == known.content else b""

    def append(self, snapshot: LedgerSnapshot, body: dict[str, Any], *, point: bool) -> Entry:
        """Create the next line's object, which is the commit; then the pointer follows."""
        if snapshot.damage is not None:
            raise StoreRefused(snapshot.damage)
        entry, line = next_entry(snapshot.entries, body)
        if not self.objects.put_if(
            _line_key(entry.sequence), line, None, "the decision isn't recorded and has no effect"
        ):
            raise LineTaken
        if point:
            self._point(entry)
        # The decision stands without it, and the next writer mends it first.
        with contextlib.suppress(StorageFailed):
            self.write_head(Head.of(entry))
        return entry

    def read_head(self) -> Head | None:
        """The last line as the object beside the ledger records it."""
        data = self.objects.read(HEAD_NAME)
        return None if data is None else Head.from_json(data, f"{self.location}/{HEAD_NAME}")

    def write_head(self, head: Head) -> None:
        """Put that object."""
        self.objects.put(HEAD_NAME, head.to_json())

    def names(self, section: Section) -> list[str]:
        """The names of complete directories, oldest first."""
        marker = f"/{MARKERS[section]}"
        found = [
            (when, name.removesuffix(marker)) for name, when in self.objects.listed(section) if name.endswith(marker)
        ]
        return [name for _, name in sorted(found) if "/" not in name]

    def publish(self, section: Section, name: str, source: Path, extra: dict[str, bytes]) -> None:
        """Put every object, read a version's back and hash it, and put the marker last."""
        marker, folder = MARKERS[section], f"{section}/{name}"
        if self.objects.read(f"{folder}/{marker}") is not None:
            return
        files: dict[str, Path | bytes] = {**dict(plain_files(source)), **extra}
        last = files.pop(marker, b"")
        content = last if isinstance(last, bytes) else last.read_bytes()
        if section == "versions" and sha256_bytes(content) != name:
            raise BundleRefused(f"{source} changed while it was published: its manifest isn't {name[:12]}")
        for key, file in files.items():
            self.objects.put(f"{folder}/{key}", file)
        if section == "versions":
            problems = self._file_problems(folder, Manifest.from_json(content))
            if problems:
                raise BundleRefused(f"{source} changed while it was published: {problems[0]}")
        self.objects.put(f"{folder}/{marker}", content)

    def problems(self, name: str) -> list[str]:
        """What is wrong with a directory: every object is read and hashed."""
        folder = f"versions/{name}"
        content = self.objects.read(f"{folder}/{MANIFEST_NAME}")
        if content is None:
            return [f"no {MANIFEST_NAME} in {self.address('versions', name)}"]
        if sha256_bytes(content) != name:
            return [f"its manifest has the digest {sha256_bytes(content)[:12]}, not {name[:12]}"]
        try:
            return self._file_problems(folder, Manifest.from_json(content))
        except BundleRefused as error:
            return [str(error)]

    def fetch(self, name: str) -> Path:
        """A folder of the cache on this machine, hashed now."""
        content = self.objects.read(f"versions/{name}/{MANIFEST_NAME}")
        if content is None:
            raise BundleNotFound(f"version {name[:12]} is not in {self.location}/versions")
        return cached_version(
            name, content, lambda key, path, max_bytes: self.objects.download(f"versions/{name}/{key}", path, max_bytes)
        )

    def address(self, section: Section, name: str) -> str:
        """The URL of a directory in the store."""
        return f"{self.location}/{section}/{name}"

    def remove(self, section: Section, name: str) -> None:
        """Delete a directory's objects, the marker that makes it visible first."""
        folder = f"{section}/{name}"
        self.objects.delete([f"{folder}/{MARKERS[section]}"])
        self.objects.delete([f"{folder}/{key}" for key in self.objects.names(folder)])

    def keep_verdict(self, name: str, document: bytes) -> None:
        """Its name is its content's, so putting it twice changes nothing."""
        self.objects.put(f"{VERDICTS}/{name}.json", document)

    def read_verdict(self, name: str) -> bytes | None:
        """The bytes of a stored verdict, or None."""
        return self.objects.read(f"{VERDICTS}/{name}.json")

    def keep_signature(self, name: str, signature: bytes) -> str:
        """Put it below `signatures`."""
        key = f"{SIGNATURES}/{name}.sig"
        self.objects.put(key, signature)
        return f"{self.location}/{key}"

    def read_signature(self, name: str) -> bytes | None:
        """The bytes of that object, or None."""
        return self.objects.read(f"{SIGNATURES}/{name}.sig")

    def sweep(self) -> None:
        """Nothing: objects without their marker may be another's upload in progress, and `publish` overwrites them."""

    def _point(self, entry: Entry) -> None:
        try:
            while True:
                data, token = self.read_pointer()
                if (
                    data is not None
                    and Pointer.from_json(data, f"{self.location}/{POINTER_NAME}", "").sequence >= entry.sequence
                ):
                    return
                if self.replace_pointer(Pointer.to(entry).to_json(), token):
                    return
        except StorageFailed as error:
            raise StorageFailed(
                f"{error}; the decision itself is in the ledger, and the next write moves the pointer"
            ) from error

    def _file_problems(self, folder: str, manifest: Manifest) -> list[str]:
        present = set(self.objects.names(folder)) - {MANIFEST_NAME}
        problems = [f"{name} is not in the manifest" for name in sorted(present - set(manifest.files))]
        for name, entry in sorted(manifest.files.items()):
            if name not in present:
                problems.append(f"{name} is missing")
            elif (found := self.objects.sha256(f"{folder}/{name}")) != entry.sha256:
                problems.append(
                    f"{name} has changed: sha-256 {str(found)[:12]}…, the manifest says {entry.sha256[:12]}…"
                )
        return problems


def open_bucket_backend(bucket: str, prefix: str) -> BucketBackend:
    """The backend under a prefix.

    Raises:
        UsageError: the extra `s3` isn't installed, or a variable of the environment can't be used.
    """
    return BucketBackend(open_objects(f"s3://{bucket}/{prefix}"))


def _line_key(number: int) -> str:
    return f"ledger/{number:09d}.json"


def _number(name: str) -> int:
    digits = name.removesuffix(".json")
    return int(digits) if digits.isdecimal() else 10**9  # a foreign object counts as a line that can't be there
