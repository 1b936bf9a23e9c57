"""A model's backend in a folder.

::

    ROOT/NAME/versions/DIGEST/     a sealed bundle directory; never changed, published by one rename
    ROOT/NAME/champion             the pointer, replaced by one rename
    ROOT/NAME/ledger.jsonl         every decision
    ROOT/NAME/tip                  number of its last line, so that a ledger that lost its end is found out
    ROOT/NAME/verdicts/SHA.json    what the gate found, by the verdict's own sha-256
    ROOT/NAME/signatures/DIGEST.sig  of versions, where somebody signed them
    ROOT/NAME/quarantine/DIGEST/   refused bundles with their verdict
    ROOT/NAME/.lock                held by the writer; who that is stands in it
    ROOT/NAME/work/                checkpoints of running retrains; losing it costs time only
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai.ml.core.bundle_dir import MANIFEST_NAME, bundle_digest, directory_problems
from ai.ml.core.errors import BundleNotFound, BundleRefused, StorageFailed, storage_failed
from ai.ml.core.files.atomic import (
    fsync_dir,
    make_dirs,
    open_plain,
    publish_dir,
    sweep_temps,
    temp_path,
    write_atomic,
    write_new,
)
from ai.ml.core.files.lock import locked_by_name
from ai.ml.retraining.store.actor import identity
from ai.ml.retraining.store.anchor import Anchor
from ai.ml.retraining.store.backend import (
    HEAD_NAME,
    POINTER_NAME,
    SIGNATURES,
    VERDICTS,
    LedgerBytes,
    Pointer,
    Section,
    plain_files,
)
from ai.ml.retraining.store.ledger import LEDGER_NAME, Entry, Head, Ledger, LedgerSnapshot, next_entry

LOCK_FILE = ".lock"
LEFTOVERS = (".*.copy", ".*.gone")


@dataclass(frozen=True)
class FolderBackend:
    """`ROOT/NAME`."""

    folder: Path
    lock_timeout_s: float

    @property
    def location(self) -> str:
        """The model's folder."""
        return str(self.folder)

    @property
    def exclusive(self) -> bool:
        """True: a lock keeps writers apart."""
        return True

    def exists(self) -> bool:
        """Whether there is a ledger or a pointer; a work folder alone is no decision."""
        return any((self.folder / name).exists() for name in (LEDGER_NAME, POINTER_NAME, "versions"))

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """Hold the model's lock; the kernel lets go of a dead owner's.

        Raises:
            Busy: another process held it all the time.
            StorageFailed: the folder can't be written to.
        """
        make_dirs(self.folder)
        waited = f"{self.lock_timeout_s:g} s; try again later"
        with locked_by_name(
            self.folder / LOCK_FILE,
            identity(),
            self.lock_timeout_s,
            lambda holder: f"{self.folder.name}: {holder} has held the store's lock for {waited}",
        ):
            yield

    def read_pointer(self) -> tuple[bytes | None, Any]:
        """The file's bytes; they are their own token."""
        try:
            data = (self.folder / POINTER_NAME).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None, None
        except OSError as error:
            raise storage_failed(f"reading {self.folder / POINTER_NAME}", error, "nothing was changed") from error
        return data, data

    def replace_pointer(self, data: bytes, token: Any) -> bool:
        """By one rename; the lock keeps other writers away, so this never finds another state."""
        if self.read_pointer()[1] != token:
            return False
        write_atomic(self.folder / POINTER_NAME, data)
        return True

    def read_ledger(self) -> LedgerSnapshot:
        """Read the ledger's file as it is now."""
        return Ledger(self.folder / LEDGER_NAME).read()

    def ledger_bytes(self, known: Anchor | None) -> LedgerBytes:
        """The whole file: hashing it takes longer than reading it."""
        path = self.folder / LEDGER_NAME
        return LedgerBytes(str(path), Ledger(path).content())

    def keep_lines(self, lines: bytes) -> None:
        """Nothing: the file is here."""

    def append(self, snapshot: LedgerSnapshot, body: dict[str, Any], *, point: bool) -> Entry:
        """Under the lock, so the number is free. The new pointer is on the disk before the line is, so that a full
        disk refuses both or neither.
        """
        entry, line = next_entry(snapshot.entries, body)
        pointer = self.folder / POINTER_NAME
        temp = temp_path(pointer)
        try:
            if point:
                _write_beside(temp, Pointer.to(entry).to_json())
            Ledger(self.folder / LEDGER_NAME).write(snapshot, line)
            if point:
                _put_in_place(temp, pointer)
        finally:
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)
        # The decision stands without it, and the next writer mends it first.
        with contextlib.suppress(StorageFailed):
            self.write_head(Head.of(entry))
        return entry

    def read_head(self) -> Head | None:
        """The last line as the file beside the ledger records it; None without one."""
        path = self.folder / HEAD_NAME
        try:
            return Head.from_json(path.read_bytes(), str(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_failed(f"reading {path}", error, "nothing was changed") from error

    def write_head(self, head: Head) -> None:
        """Replace that file whole."""
        write_atomic(self.folder / HEAD_NAME, head.to_json())

    def names(self, section: Section) -> list[str]:
        """The names of folders that have their final one, oldest first.

        Raises:
            StorageFailed: the disk refused to list them, which isn't the same as that there are none.
        """
        try:
            listed = list((self.folder / section).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise storage_failed(f"listing {self.folder / section}", error, "nothing was changed") from error
        # Earlier releases wrote the signature of a version beside it.
        found = [path for path in listed if not path.name.startswith(".") and path.suffix != ".sig"]
        return [path.name for path in sorted(found, key=lambda path: (_mtime(path), path.name))]

    def publish(self, section: Section, name: str, source: Path, extra: dict[str, bytes]) -> None:
        """Copy, hash the copy, rename it."""
        target = self.folder / section / name
        if target.exists():
            return
        make_dirs(target.parent)
        copy = target.with_name(f".{name}.{secrets.token_hex(4)}.copy")
        try:
            _copy_plain(source, copy, extra)
            if section == "versions":
                problems = directory_problems(copy, name)
                if problems:
                    raise BundleRefused(f"{source} changed while it was published: {problems[0]}")
            publish_dir(copy, target)
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def problems(self, name: str) -> list[str]:
        """What is wrong with a directory: every file is hashed."""
        return directory_problems(self.folder / "versions" / name, name)

    def fetch(self, name: str) -> Path:
        """The version where it lies, with the manifest that its name says; the loader holds the files against that."""
        path = self.folder / "versions" / name
        try:
            found = bundle_digest(path)
        except BundleNotFound:
            if path.is_dir():
                raise BundleRefused(
                    f"version {name[:12]} in {path.parent} is damaged: it has no {MANIFEST_NAME}"
                ) from None
            raise BundleNotFound(f"version {name[:12]} is not in {path.parent}") from None
        if found != name:
            raise BundleRefused(f"version {name[:12]} in {path.parent} was exchanged: it holds {found[:12]}")
        return path

    def address(self, section: Section, name: str) -> str:
        """The path of a directory in the store."""
        return str(self.folder / section / name)

    def remove(self, section: Section, name: str) -> None:
        """Hide by one rename, then remove file by file."""
        target = self.folder / section / name
        gone = target.with_name(f".{name}.{secrets.token_hex(4)}.gone")
        try:
            target.rename(gone)
            shutil.rmtree(gone)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_failed(f"removing {target}", error, "run the command again when it works") from error

    def keep_verdict(self, name: str, document: bytes) -> None:
        """Store a verdict once: its name is its content's."""
        path = self.folder / VERDICTS / f"{name}.json"
        if not path.exists():
            make_dirs(path.parent)
            write_atomic(path, document)

    def read_verdict(self, name: str) -> bytes | None:
        """The bytes of a stored verdict, or None."""
        try:
            return (self.folder / VERDICTS / f"{name}.json").read_bytes()
        except OSError:
            return None

    def keep_signature(self, name: str, signature: bytes) -> str:
        """In a folder of its own: whatever lies in `versions` is a version."""
        path = self.folder / SIGNATURES / f"{name}.sig"
        make_dirs(path.parent)
        write_atomic(path, signature)
        return str(path)

    def read_signature(self, name: str) -> bytes | None:
        """From there, or from beside the version, where earlier releases wrote it."""
        for folder in (SIGNATURES, "versions"):
            path = self.folder / folder / f"{name}.sig"
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise storage_failed(f"reading {path}", error, "nothing was changed") from error
        return None

    def sweep(self) -> None:
        """Remove unfinished copies, directories half removed, and temporary files of dead writers."""
        for section in ("versions", "quarantine"):
            for pattern in LEFTOVERS:
                for leftover in (self.folder / section).glob(pattern):
                    shutil.rmtree(leftover, ignore_errors=True)
        for folder in (self.folder, self.folder / VERDICTS):
            sweep_temps(folder)


def _write_beside(temp: Path, data: bytes) -> None:
    try:
        write_new(temp, data)
    except OSError as error:
        raise storage_failed(f"writing {temp.parent}", error, "nothing was decided") from error


def _put_in_place(temp: Path, pointer: Path) -> None:
    try:
        temp.replace(pointer)
        fsync_dir(pointer.parent)
    except OSError as error:
        state = "the decision is in the ledger, and the next write moves the pointer"
        raise storage_failed(f"moving {pointer}", error, state) from error


def _copy_plain(source: Path, target: Path, extra: dict[str, bytes]) -> None:
    try:
        target.mkdir()
        for name, path in plain_files(source):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if name not in extra:
                with open_plain(path) as stream, (target / name).open("xb") as copy:
                    shutil.copyfileobj(stream, copy, 1 << 20)
        for name, data in extra.items():
            (target / name).write_bytes(data)
    except OSError as error:
        raise storage_failed(f"copying {source} into the store", error, "nothing was published") from error


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
