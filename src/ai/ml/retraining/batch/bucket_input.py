"""Input parts on object storage: listed by prefix, read through a local copy of one part at a time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ai.ml.core.errors import DataNotFound
from ai.ml.core.files.object_store import bucket_errors, open_bucket
from ai.ml.core.files.scratch import scratch_folder
from ai.ml.core.tables.addresses import is_bucket
from ai.ml.retraining.batch.parts import Part, folder_parts
from ai.ml.retraining.batch.receipts import Content

_COPY_BYTES = 8 << 20


def plan_bucket(source: str, output_format: str) -> tuple[Part, ...]:
    """The parts below a prefix, or the one object of that name; raises as `plan_parts`."""
    root = source.rstrip("/")
    store = open_bucket(root)
    with bucket_errors(f"listing {source}"):
        found = [(str(entry["path"]), int(entry["size"])) for page in store.list() for entry in page]
    if not found:
        folder, _, name = root.rpartition("/")
        content = None if folder.endswith(":/") else object_content(root)
        if content is None:
            raise DataNotFound(f"there is nothing below {source}")
        return folder_parts([(name, root, content.size)], source, output_format)
    return folder_parts([(name, f"{root}/{name}", size) for name, size in found], source, output_format)


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
def local_copy(part: Part) -> Generator[str]:
    """Where to read a part on this machine: itself, or a copy that is gone afterwards.

    Raises:
        DataNotFound: the object is gone.
        StorageFailed: the storage didn't answer, or the disk has no room for the copy.
    """
    if not is_bucket(part.source):
        yield part.source
        return
    folder, _, name = part.source.rpartition("/")
    with scratch_folder() as scratch:
        target = Path(scratch) / name
        try:
            with bucket_errors(f"reading {part.source}"), target.open("wb") as stream:
                for chunk in open_bucket(folder).get(name).stream(min_chunk_size=_COPY_BYTES):
                    stream.write(bytes(chunk))
        except FileNotFoundError:
            raise DataNotFound(f"there is no object {part.source}") from None
        yield str(target)
