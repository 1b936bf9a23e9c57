"""Replacing the pair `model_bundle.pt` and `metrics.json` as one, by a redo record.

Two renames can't be one instant, so the writer first puts both new files beside the old ones under temporary names,
makes them durable, and then renames a **record** into place that names them with size and sha-256. That rename is the
commit: before it the old pair holds, after it the new one does. What follows (old metrics out, new bundle in, new
metrics in, record out) only tidies up, and can be done again by anyone who finds the record.

- A **writer** holds the directory's lock, and finishes or sweeps away what a killed writer left.
- A **reader** never writes. While a record stands it takes each file from under the name, temporary or final, where
  the content is that the record names.
- A reader that knows only the two names can meet the new bundle without metrics for an instant, never with old ones.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai.ml.core.bundle_dir import BUNDLE_NAME, MANIFEST_NAME, METRICS_NAME
from ai.ml.core.errors import BundleRefused, StorageFailed, storage_failed
from ai.ml.core.files.atomic import dump_json, fsync_dir, sha256_bytes, sha256_file, sweep_temps, temp_path, write_new
from ai.ml.core.files.lock import LOCK_NAME, locked

RECORD_NAME = ".bundle-commit.json"
RECORD_FORMAT = 1
"""Raise it when a key changes its meaning; `_decode_record` must keep reading lower numbers, and refuse higher ones."""

_OUR_TEMPS = re.compile(r"\.(?:model_bundle\.pt|metrics\.json|\.bundle-commit\.json)\.\d+\.[0-9a-f]{16}\.tmp")
_EVIDENCE_FILE = re.compile(r"evidence/[\w-][\w.-]*")
# A reader that is overtaken looks again; each look is overtaken only by another whole save.
_MAX_LOOKS = 1000


@dataclass(frozen=True)
class NewFile:
    """A file that waits under a temporary name."""

    temp: str
    size: int
    sha256: str


Record = Mapping[str, NewFile | None]
"""The committed pair by final name; None where the pair has no such file."""


def replace_pair(directory: Path, write_bundle: Callable[[Path], str], metrics: bytes | None) -> None:
    """Replace both files as one; with `metrics` None the new pair has no metrics.

    A manifest that described the older pair goes with it, and so does the evidence that it names.

    Args:
        directory: must be there.
        write_bundle: creates the new bundle under the name it is given, durably, and returns its sha-256.
        metrics: content of `metrics.json`.

    Raises:
        StorageFailed: the disk refused; says whether the old pair or the new one holds.
        BundleRefused: an unfinished save lies there that this version can't finish.
        Busy: another writer holds the directory.
    """
    try:
        with locked(directory):
            finish_pending(directory)
            _check_targets(directory)
            new = _commit(directory, write_bundle, metrics)
            _finish(directory, new)
    except StorageFailed:
        raise
    except OSError as error:
        raise storage_failed(f"saving into {directory}", error, "nothing was changed") from error


def finish_pending(directory: Path) -> None:
    """Under the lock: finish a committed save that was cut off, and sweep what an uncommitted one left.

    Raises:
        BundleRefused: the record can't be read.
        OSError: the disk refused.
    """
    record = read_record(directory)
    if record is not None:
        _apply(directory, record)
    for path in directory.iterdir():
        if _OUR_TEMPS.fullmatch(path.name):
            path.unlink(missing_ok=True)
    sweep_temps(directory)


def committed_files(directory: Path) -> dict[str, Path]:
    """The present paths of the committed pair's files, by final name; never writes.

    Returns:
        Empty without a pending record: the files lie under their own names. Else a name that is missing is a file
        that the committed pair doesn't have.

    Raises:
        BundleRefused: the record can't be read, or what it names isn't there.
    """
    record = None
    for _ in range(_MAX_LOOKS):
        before, record = record, read_record(directory)
        if record is None:
            return {}
        files = _locate(directory, record)
        if files is not None:
            return files
        if record == before:
            break
    raise BundleRefused(
        f"{directory / RECORD_NAME} names files of an unfinished save that aren't in {directory}: save the bundle again"
    )


def read_record(directory: Path) -> Record | None:
    """The pending record, or None.

    Raises:
        BundleRefused: it is of a newer format, or damaged (which the protocol can't bring about).
        OSError: the disk refused.
    """
    path = directory / RECORD_NAME
    try:
        return _decode_record(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleRefused(
            f"{path} belongs to an unfinished save and can't be read ({error}): finish it with the bundlegate that "
            "began it, or remove this file and save again"
        ) from None


def _commit(directory: Path, write_bundle: Callable[[Path], str], metrics: bytes | None) -> Record:
    """Stage both files and rename the record into place; an error before that removes what was staged."""
    temps = {name: temp_path(directory / name) for name in (BUNDLE_NAME, METRICS_NAME, RECORD_NAME)}
    bundle = temps[BUNDLE_NAME]
    try:
        digest = write_bundle(bundle)
        new: dict[str, NewFile | None] = {
            BUNDLE_NAME: NewFile(bundle.name, bundle.stat().st_size, digest),
            METRICS_NAME: None,
        }
        if metrics is not None:
            write_new(temps[METRICS_NAME], metrics)
            new[METRICS_NAME] = NewFile(temps[METRICS_NAME].name, len(metrics), sha256_bytes(metrics))
        write_new(temps[RECORD_NAME], _encode_record(new))
        fsync_dir(directory)
        temps[RECORD_NAME].replace(directory / RECORD_NAME)
    except BaseException:
        with contextlib.suppress(OSError):
            # An interruption can come right behind the rename: then the files belong to the record.
            if not _is_there(directory / RECORD_NAME):
                for temp in temps.values():
                    with contextlib.suppress(OSError):
                        temp.unlink(missing_ok=True)
        raise
    return new


def _finish(directory: Path, new: Record) -> None:
    try:
        fsync_dir(directory)
        _apply(directory, new)
    except OSError as error:
        state = "the new bundle is committed, unfinished: it loads from here, and the next save tidies up"
        raise storage_failed(f"saving into {directory}", error, state) from error


def _apply(directory: Path, new: Record) -> None:
    """Put the committed files under their names; may be begun again after any of its steps."""
    _remove_seal(directory)
    metrics = new[METRICS_NAME]
    # Old metrics out first, new ones in last, each step durable before the next: whoever reads the two names without
    # the record never pairs a bundle with another one's metrics, not even after a power cut.
    if (metrics is None or _is_there(directory / metrics.temp)) and _is_there(directory / METRICS_NAME):
        (directory / METRICS_NAME).unlink()
        fsync_dir(directory)
    for name in (BUNDLE_NAME, METRICS_NAME):
        entry = new[name]
        if entry is not None and _is_there(directory / entry.temp):
            (directory / entry.temp).replace(directory / name)
            fsync_dir(directory)
    (directory / RECORD_NAME).unlink(missing_ok=True)
    fsync_dir(directory)


def _remove_seal(directory: Path) -> None:
    """Remove the replaced pair's evidence, and last the manifest that names it."""
    manifest, evidence = directory / MANIFEST_NAME, directory / "evidence"
    try:
        names = [name for name in json.loads(manifest.read_bytes())["files"] if _EVIDENCE_FILE.fullmatch(name)]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, RecursionError):
        names = []
    if names and evidence.is_dir() and not evidence.is_symlink():
        for name in names:
            (directory / name).unlink(missing_ok=True)
        fsync_dir(evidence)
        with contextlib.suppress(OSError):  # somebody put a file of their own there
            evidence.rmdir()
    manifest.unlink(missing_ok=True)


def _check_targets(directory: Path) -> None:
    """Refuse, before the commit, a name that is taken by something that a file can't replace."""
    for name in (BUNDLE_NAME, METRICS_NAME, MANIFEST_NAME, LOCK_NAME):
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            raise StorageFailed(f"saving into {directory} failed: {name} is a directory there; nothing was changed")


def _locate(directory: Path, record: Record) -> dict[str, Path] | None:
    """The path of each file of the record; None if one is at neither of its paths."""
    files: dict[str, Path] = {}
    for name, new in record.items():
        if new is None:
            continue
        # The temporary name first: a file only moves from there to the final one.
        found = next((path for path in (directory / new.temp, directory / name) if _holds(path, new)), None)
        if found is None:
            return None
        files[name] = found
    return files


def _holds(path: Path, expected: NewFile) -> bool:
    try:
        return path.stat().st_size == expected.size and sha256_file(path) == expected.sha256
    except FileNotFoundError:
        return False


def _is_there(path: Path) -> bool:
    """Like `lexists`, which would return False on an error of the disk."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _encode_record(new: Record) -> bytes:
    files = {name: None if entry is None else vars(entry) for name, entry in new.items()}
    return dump_json({"format": RECORD_FORMAT, "files": files})


def _decode_record(content: bytes) -> Record:
    document: Any = json.loads(content)
    number, files = document["format"], document["files"]
    if number != RECORD_FORMAT:
        raise ValueError(f"format {number!r}, this bundlegate knows {RECORD_FORMAT}")
    if set(files) != {BUNDLE_NAME, METRICS_NAME} or files[BUNDLE_NAME] is None:
        raise ValueError("it doesn't name the pair")
    new = {name: None if entry is None else NewFile(**entry) for name, entry in files.items()}
    # The names come from a file: they may only be temporary names of ours, in this very directory.
    if any(entry is not None and not _OUR_TEMPS.fullmatch(entry.temp) for entry in new.values()):
        raise ValueError("it names a file that isn't its own")
    return new
