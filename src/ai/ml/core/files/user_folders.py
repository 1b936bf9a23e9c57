"""The user's folders for what is kept outside of stores: a cache that may be lost, and a memory that may not."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from ai.ml.core.errors import StorageFailed, storage_failed
from ai.ml.core.files.atomic import make_dirs, write_atomic


def cache_folder() -> Path:
    """`$BUNDLEGATE_CACHE`, else `bundlegate` in the user's cache folder (XDG); losing it costs downloads only."""
    return _user_folder("BUNDLEGATE_CACHE", "XDG_CACHE_HOME", ".cache")


def state_folder() -> Path | None:
    """`$BUNDLEGATE_STATE`, else `bundlegate` in the user's state folder (XDG); None for a user without a home."""
    try:
        return _user_folder("BUNDLEGATE_STATE", "XDG_STATE_HOME", ".local/state")
    except RuntimeError:
        return None


def _user_folder(own: str, usual: str, below_home: str) -> Path:
    if given := os.environ.get(own):
        return Path(given).absolute()
    folder = os.environ.get(usual)
    return (Path(folder) if folder else Path.home() / below_home) / "bundlegate"


@dataclass(frozen=True)
class StateFile:
    """A file in the state folder; nowhere if this machine has no such folder."""

    path: Path | None

    def keep(self, content: bytes) -> None:
        """Write it; a machine that can't goes on without a memory."""
        if self.path is None:
            return
        with contextlib.suppress(StorageFailed):
            make_dirs(self.path.parent)
            write_atomic(self.path, content)

    def remove(self) -> None:
        """Remember nothing.

        Raises:
            StorageFailed: the disk refused.
        """
        try:
            if self.path is not None:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_failed(f"removing {self.path}", error, "nothing was changed") from error


def state_file(section: str, name: str) -> StateFile:
    """The file of that name in a section of the state folder."""
    folder = state_folder()
    return StateFile(None if folder is None else folder / section / name)
