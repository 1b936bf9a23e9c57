"""What a source holds just now: a key of its content, and stamps that tell whether somebody writes to it."""

from __future__ import annotations

import os
from pathlib import Path

from ai.ml.core.tables.dataset_files import data_files
from ai.ml.retraining.records import FileRef, content_key
from ai.ml.retraining.settings.retrain import DataSettings


def source_key(data: DataSettings) -> str:
    """What decides the content of a read: the file's bytes and how to read them; the database answers afresh."""
    source = Path(data.source)
    if source.is_file():
        return content_key(data, FileRef.of(source).sha256)
    if source.is_dir():
        parts = [(str(path.relative_to(source)), FileRef.of(path).sha256) for path in _files(source)]
        return content_key(data, parts)
    return content_key(data, os.urandom(16).hex())


def source_stamps(source: str) -> list[tuple[str, int, int, int]]:
    """Path, inode, bytes and time of change of every file; empty for a database."""
    found = [(path, path.stat()) for path in _files(Path(source))]
    return [(str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found]


def _files(source: Path) -> list[Path]:
    if source.is_dir():
        return [path for _, path in data_files(source)]
    return [source] if source.is_file() else []
