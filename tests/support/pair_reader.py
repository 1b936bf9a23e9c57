"""A reader by the protocol of `serialization.commit` that takes bundle and metrics together, whatever writers do."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

from ai.ml.core.errors import BundleNotFound, BundleRefused
from ai.ml.frameworks.pytorch.serialization import commit

MAX_LOOKS = 1000


def open_pair(directory: Path) -> tuple[BinaryIO, bytes | None]:
    """The bundle file, open for reading, and the metrics that belong to it, whatever writers do meanwhile.

    Raises:
        BundleNotFound: there is no bundle.
        BundleRefused: as `committed_files`.
    """
    for _ in range(MAX_LOOKS):
        record = commit.read_record(directory)
        pair = _open_final(directory) if record is None else _open_pending(directory, record)
        if pair is not None:
            return pair
    raise BundleRefused(f"{directory} was replaced {MAX_LOOKS} times while it was read")


def _open_final(directory: Path) -> tuple[BinaryIO, bytes | None] | None:
    """The pair under its own names; None if a writer came in between."""
    bundle = directory / commit.BUNDLE_NAME
    try:
        stream = bundle.open("rb")
    except FileNotFoundError:
        if commit.read_record(directory) is None and not commit._is_there(bundle):
            raise BundleNotFound(f"no bundle at {bundle}") from None
        return None
    with contextlib.ExitStack() as stack:
        stack.enter_context(stream)
        # Bundle, record, metrics, record, bundle, in this order: a save that was under way at the first look at the
        # record shows there; one that touched the metrics later shows at the second, or is over and has put another
        # bundle here. The open stream keeps the inode's number from being used again.
        if commit.read_record(directory) is not None:
            return None
        try:
            metrics = (directory / commit.METRICS_NAME).read_bytes()
        except FileNotFoundError:
            metrics = None
        if commit.read_record(directory) is not None or not _is_open(stream, bundle):
            return None
        stack.pop_all()
        return stream, metrics


def _open_pending(directory: Path, record: commit.Record) -> tuple[BinaryIO, bytes | None] | None:
    """The pair that a record names; None if a writer came in between."""
    files = commit._locate(directory, record)
    if files is None:
        commit.committed_files(directory)  # raises where looking again is of no use
        return None
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(files[commit.BUNDLE_NAME].open("rb"))
            metrics = files[commit.METRICS_NAME].read_bytes() if commit.METRICS_NAME in files else None
        except FileNotFoundError:
            return None
        if commit.read_record(directory) != record:
            return None
        stack.pop_all()
        return stream, metrics


def _is_open(stream: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False
