"""Room for one file on the local disk, gone afterwards, even if its owner was killed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ai.ml.core.errors import StorageFailed
from ai.ml.core.files import is_alive

_NAME = re.compile(r"^bundlegate-(?P<pid>\d+)-")


@contextmanager
def scratch_folder() -> Generator[Path]:
    """A new folder; what processes that are dead left is removed first.

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
        if match and folder.is_dir() and folder.stat().st_uid == os.getuid() and not is_alive(int(match["pid"])):
            shutil.rmtree(folder, ignore_errors=True)
