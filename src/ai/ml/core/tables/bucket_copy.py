"""Tables on object storage, copied to this machine to be read."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ai.ml.core.errors import DataNotFound
from ai.ml.core.files.bucket import open_objects
from ai.ml.core.files.scratch import scratch_folder


@contextmanager
def bucket_copy(url: str) -> Generator[Path]:
    """The object of that name as a file, or all below the prefix as a folder of its name; gone afterwards.

    Raises:
        DataNotFound: there is neither.
        StorageFailed: the storage didn't answer, or the disk has no room for the copy.
    """
    root = url.rstrip("/")
    folder, _, name = root.rpartition("/")
    with scratch_folder() as scratch:
        target = Path(scratch) / (name or "bucket")
        objects = open_objects(root)
        entries = [entry for entry in objects.entries() if not _is_hidden(entry.name)]
        for entry in entries:
            path = target / entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            objects.download(entry.name, path)
        is_bucket_itself = folder.endswith("/")
        if not entries and (is_bucket_itself or not open_objects(folder).download(name, target)):
            raise DataNotFound(f"there is nothing at {url}")
        yield target


def _is_hidden(name: str) -> bool:
    return any(step[0] in "._" for step in PurePosixPath(name).parts)
