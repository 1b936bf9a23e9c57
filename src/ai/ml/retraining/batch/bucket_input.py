"""Input parts on object storage: listed by prefix, read through a local copy of one part at a time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ai.ml.core.errors import DataNotFound
from ai.ml.core.files.object_store import bucket_errors, open_bucket
from ai.ml.core.files.scratch import scratch_folder
from ai.ml.core.tables.addresses import is_bucket
from ai.ml.retraining.batch.receipts import Content

_COPY_BYTES = 8 << 20


def bucket_files(source: str) -> list[tuple[str, str, int]]:
    """The objects below a prefix, or the one of that name: (name relative to the prefix, URL, bytes).

    Raises:
        DataNotFound: there is nothing at `source`.
        StorageFailed: the storage didn't answer.
    """
    root = source.rstrip("/")
    store = open_bucket(root)
    with bucket_errors(f"listing {source}"):
        found = [(str(entry["path"]), int(entry["size"])) for page in store.list() for entry in page]
    if not found:
        folder, _, name = root.rpartition("/")
        content = None if folder.endswith(":/") else object_content(root)
        if content is None:
            raise DataNotFound(f"there is nothing below {source}")
        return [(name, root, content.size)]
    return [(name, f"{root}/{name}", size) for name, size in found]


def object_content(url: str) -> Content | None:
    """Version tag and size of an object; None if there is none.

    Raises:
        StorageFailed: the storage didn't answer.
    """
    folder, _, name = url.rpartition("/")
    try:
        with bucket_errors(f"asking for {url}"):
            meta = open_bucket(folder).head(name)
    except FileNotFoundError:
        return None
    return Content(sha256=str(meta["e_tag"]), size=int(meta["size"]))


@contextmanager
def local_copy(source: str) -> Generator[str]:
    """Where to read a part's source on this machine: itself, or a copy that is gone afterwards.

    Raises:
        DataNotFound: the object is gone.
        StorageFailed: the storage didn't answer, or the disk has no room for the copy.
    """
    if not is_bucket(source):
        yield source
        return
    folder, _, name = source.rpartition("/")
    with scratch_folder() as scratch:
        target = Path(scratch) / name
        try:
            with bucket_errors(f"reading {source}"), target.open("wb") as stream:
                for chunk in open_bucket(folder).get(name).stream(min_chunk_size=_COPY_BYTES):
                    stream.write(bytes(chunk))
        except FileNotFoundError:
            raise DataNotFound(f"there is no object {source}") from None
        yield str(target)
