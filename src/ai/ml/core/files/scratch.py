"""Temporary folders on the local disk; those of a killed process are removed by the next one that needs some."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ai.ml.core.errors import StorageFailed
from ai.ml.core.files.atomic import is_alive

_NAME = re.compile(r"^bundlegate-(?P<pid>\d+)-")


@contextmanager
def scratch_folder() -> Generator[Path]:
    """A new folder; folders of dead processes are removed first.

    Raises:
        StorageFailed: the disk refused.
    """
    _sweep(Path(tempfile.gettempdir()))
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"bundlegate-{os.getpid()}-"))
    except OSError as error:
        raise StorageFailed(f"no room for a copy in {tempfile.gettempdir()}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(root: Path) -> None:
    for folder in root.glob("bundlegate-*-*"):
        match = _NAME.match(folder.name)
        if match and not is_alive(int(match["pid"])) and _is_ours(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:  # another process has just swept it
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
