"""Replacing the pair `model_bundle.pt` and `metrics.json` as one, by a redo record.

Two renames can't be one instant, so the writer first puts both new files beside the old ones under temporary names,
makes them durable, and then renames a **record** into place that names them with size and sha-256. That rename is the
commit: before it the old pair holds, after it the new one does. What follows (old metrics out, new bundle in, new
metrics in, record out) only tidies up, and can be done again by anyone who finds the record.

- A **writer** holds a lock on the directory (`flock` on the directory itself: no lock file, and the lock dies with its
  owner), and finishes or sweeps away what a killed writer left.
- A **reader** never writes. While a record stands it takes each file from under its temporary name if it is still
  there, else from under its final one.
- A reader that knows only the two names can meet the new bundle without metrics for an instant, never with old ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ai.ml.core.errors import Busy, StorageFailed
from ai.ml.core.files import dump_json, fsync_dir, sha256_bytes, sha256_file, storage_failed, temp_path, write_new

BUNDLE_NAME = "model_bundle.pt"
METRICS_NAME = "metrics.json"
RECORD_NAME = ".bundle-commit.json"
LOCK_TIMEOUT_S = 60.0
RECORD_FORMAT = 1
"""Raise it when a key changes its meaning; `_read_record` must keep finishing lower numbers."""

# What described the pair that is being replaced; our own, written after `save_bundle` by whoever seals the directory.
_STALE_WITH_PAIR = ("manifest.json",)
_OUR_TEMPS = re.compile(r"\.(?:model_bundle\.pt|metrics\.json|\.bundle-commit\.json)\.\d+\.[0-9a-f]{16}\.tmp")


@dataclass(frozen=True)
class NewFile:
    """A file that waits under a temporary name."""

    temp: str
    size: int
    sha256: str


@contextlib.contextmanager
def locked(directory: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Generator[None]:
    """Hold the directory's write lock.

    Raises:
        Busy: another writer held it all the time.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Busy(f"another process has been saving into {directory} for {timeout_s:.0f} s") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def replace_pair(directory: Path, write_bundle: Callable[[Path], str], metrics: bytes | None) -> None:
    """Replace both files as one; with `metrics` None the new pair has no metrics.

    Args:
        directory: must be there.
        write_bundle: creates the new bundle under the name it is given, durably, and returns its sha-256.
        metrics: content of `metrics.json`.

    Raises:
        StorageFailed: the disk refused; says whether the old pair or the new one holds.
        Busy: another writer holds the directory.
    """
    with locked(directory):
        finish_pending(directory)
        temps = {name: temp_path(directory / name) for name in (BUNDLE_NAME, METRICS_NAME, RECORD_NAME)}
        committed = False
        try:
            digest = write_bundle(temps[BUNDLE_NAME])
            new: dict[str, NewFile | None] = {
                BUNDLE_NAME: NewFile(temps[BUNDLE_NAME].name, temps[BUNDLE_NAME].stat().st_size, digest),
                METRICS_NAME: None,
            }
            if metrics is not None:
                write_new(temps[METRICS_NAME], metrics)
                new[METRICS_NAME] = NewFile(temps[METRICS_NAME].name, len(metrics), sha256_bytes(metrics))
            write_new(temps[RECORD_NAME], _encode_record(new))
            fsync_dir(directory)
            temps[RECORD_NAME].replace(directory / RECORD_NAME)
            committed = True
            fsync_dir(directory)
            _apply(directory, new)
        except OSError as error:
            if isinstance(error, StorageFailed):
                raise
            state = (
                "the new bundle is committed, the next save or load finishes it" if committed else "nothing was changed"
            )
            raise storage_failed(f"saving into {directory}", error, state) from error
        finally:
            if not committed:
                for temp in temps.values():
                    with contextlib.suppress(OSError):
                        temp.unlink(missing_ok=True)


def finish_pending(directory: Path) -> None:
    """Under the lock: finish a committed save that was cut off, and sweep what an uncommitted one left."""
    record = _read_record(directory)
    try:
        if record is not None:
            _apply(directory, record)
        elif (directory / RECORD_NAME).exists():
            (directory / RECORD_NAME).unlink()
        for path in directory.iterdir():
            if _OUR_TEMPS.fullmatch(path.name):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_failed(f"finishing an earlier save in {directory}", error, "run the save again") from error


def committed_files(directory: Path) -> dict[str, Path]:
    """Where the files of the committed pair lie just now: empty without a pending record; never writes."""
    record = _read_record(directory)
    if record is None:
        return {}
    files: dict[str, Path] = {}
    for name, new in record.items():
        if new is None:
            continue
        temp = directory / new.temp
        files[name] = temp if _holds(temp, new) else directory / name
    return files


def _apply(directory: Path, new: Mapping[str, NewFile | None]) -> None:
    """Put the committed files under their names; may be begun again after any of its steps."""
    for name in _STALE_WITH_PAIR:
        (directory / name).unlink(missing_ok=True)
    metrics = new[METRICS_NAME]
    # Out first, in last: whoever reads the two names without the record never pairs a new bundle with old metrics.
    if metrics is None or (directory / metrics.temp).exists():
        (directory / METRICS_NAME).unlink(missing_ok=True)
    for name in (BUNDLE_NAME, METRICS_NAME):
        entry = new[name]
        if entry is not None and (directory / entry.temp).exists():
            (directory / entry.temp).replace(directory / name)
    fsync_dir(directory)
    (directory / RECORD_NAME).unlink(missing_ok=True)
    fsync_dir(directory)


def _encode_record(new: Mapping[str, NewFile | None]) -> bytes:
    files = {name: None if entry is None else vars(entry) for name, entry in new.items()}
    return dump_json({"format": RECORD_FORMAT, "files": files})


def _read_record(directory: Path) -> dict[str, NewFile | None] | None:
    """The pending record; None if there is none, or if it isn't one of ours (it was renamed whole or not at all)."""
    try:
        document: Any = json.loads((directory / RECORD_NAME).read_bytes())
        files = document["files"]
        if (
            document["format"] != RECORD_FORMAT
            or set(files) != {BUNDLE_NAME, METRICS_NAME}
            or files[BUNDLE_NAME] is None
        ):
            return None
        new = {name: None if entry is None else NewFile(**entry) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # The names come from a file: they may only be temporary names of ours, in this very directory.
    if any(entry is not None and not _OUR_TEMPS.fullmatch(str(entry.temp)) for entry in new.values()):
        return None
    return new


def _holds(path: Path, expected: NewFile) -> bool:
    try:
        return path.stat().st_size == expected.size and sha256_file(path) == expected.sha256
    except OSError:
        return False


def write_hashed(path: Path, write: Callable[[BinaryIO], None]) -> str:
    """Create a file durably and return the sha-256 of what was written, without reading it again."""
    digest = hashlib.sha256()

    class Tee:
        """Hashes on the way to the file."""

        def __init__(self, stream: BinaryIO):
            self.stream = stream

        def write(self, data: Any) -> int:
            digest.update(data)
            return self.stream.write(data)

        def flush(self) -> None:
            self.stream.flush()

    write_new(path, lambda stream: write(Tee(stream)))  # pyright: ignore[reportArgumentType] - write and flush suffice
    return digest.hexdigest()
