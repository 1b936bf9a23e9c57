"""The parts of a dataset: its files, their order, and their names in the output."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ai.ml.core.errors import DataNotFound, DataRefused, UsageError
from ai.ml.core.files.bucket import open_objects
from ai.ml.core.files.scratch import scratch_folder
from ai.ml.core.tables.dataset_files import data_files, partition_of
from ai.ml.core.tables.locations import is_bucket, is_url
from ai.ml.core.tables.reader import CSV_SUFFIXES, PARQUET_SUFFIXES
from ai.ml.retraining.batch.receipts import Content


@dataclass(frozen=True)
class Part:
    """One input file and its name in the output."""

    name: str
    """Of the output, POSIX, relative to the output's folder; derived from the input's name alone."""
    source: str
    """Where to read: a path or a database URL."""
    size: int
    """Bytes of the input; 0 where that is unknown."""
    partition: tuple[tuple[str, str | None], ...] = ()
    """Columns that the folders' names hold (`year=2024`), outermost first."""


def plan_parts(source: str, output_format: str = "auto") -> tuple[Part, ...]:
    """All parts of a file, a folder, a prefix in a bucket or a database query, in the order of their names.

    Args:
        source: a folder is searched through and through; names that begin with `_` or `.` aren't data.
        output_format: `csv`, `parquet`, or `auto` for that of each input.

    Raises:
        DataNotFound: there is nothing at `source`, or the folder holds no part.
        DataRefused: the folder holds files that aren't parts, or links that lead nowhere: they would be left out
            silently; or a name isn't UTF-8.
        UsageError: two parts would get one name in the output.
    """
    if is_bucket(source):
        return _bucket_parts(source, output_format)
    if is_url(source):
        return (Part(f"query{_suffix('query.csv', output_format)}", source, 0),)
    root = Path(source)
    if not root.is_dir():
        size = root.stat().st_size if root.is_file() else 0
        _check_encoding(root.name)
        return (Part(output_name(root.name, output_format), str(root.absolute()), size),)
    files = [(name, str(path.absolute()), path.stat().st_size) for name, path in data_files(root)]
    return _folder_parts(files, source, output_format)


def _bucket_parts(source: str, output_format: str) -> tuple[Part, ...]:
    """The parts below a prefix, or the one object of that name."""
    root = source.rstrip("/")
    found = [(entry.name, f"{root}/{entry.name}", entry.size) for entry in open_objects(root).entries()]
    if not found:
        folder, _, name = root.rpartition("/")
        content = None if folder.endswith(":/") else object_content(root)
        if content is None:
            raise DataNotFound(f"there is nothing below {source}")
        found = [(name, root, content.size)]
    return _folder_parts(found, source, output_format)


def object_content(url: str) -> Content | None:
    """Version tag and size of an object; None if there is none.

    Raises:
        StorageFailed: the storage didn't answer.
    """
    folder, _, name = url.rpartition("/")
    entry = open_objects(folder).entry(name)
    return None if entry is None else Content(sha256=str(entry.tag), size=entry.size)


@contextmanager
def local_copy(source: str) -> Generator[str]:
    """Where to read a part's source on this machine: itself, or a temporary copy.

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
        if not open_objects(folder).download(name, target):
            raise DataNotFound(f"there is no object {source}")
        yield str(target)


def _folder_parts(files: Iterable[tuple[str, str, int]], folder: str, output_format: str) -> tuple[Part, ...]:
    """The parts among files given as (name relative to the folder, where to read, bytes); raises as `plan_parts`."""
    data = sorted(file for file in files if not any(step[0] in "._" for step in PurePosixPath(file[0]).parts))
    if not data:
        raise DataNotFound(f"{folder} holds no parts: expected .csv or .parquet files")
    unknown = [name for name, _, _ in data if not _is_part(name)]
    if unknown:
        raise DataRefused(
            f"{folder} holds files that are no parts ({', '.join(unknown[:5])}{', …' if len(unknown) > 5 else ''}): "
            "expected .csv (also .gz) or .parquet; move them away, or let their names begin with _"
        )
    for name, _, _ in data:
        _check_encoding(name)
    parts = tuple(
        Part(output_name(name, output_format), source, size, partition_of(name)) for name, source, size in data
    )
    duplicates = [name for name, count in Counter(part.name for part in parts).items() if count > 1]
    if duplicates:
        raise UsageError(f"{folder}: more than one part would be written as {duplicates[0]}; rename all but one")
    return parts


def output_name(name: str, output_format: str) -> str:
    """An input part's name with the output's suffix.

    >>> output_name("year=2024/part-0.csv.gz", "parquet")
    'year=2024/part-0.parquet'
    """
    folder, file = posixpath.split(name)
    stem = file.removesuffix(".gz")
    return posixpath.join(folder, posixpath.splitext(stem)[0] + _suffix(name, output_format))


def group_parts(parts: Sequence[Part], task_bytes: int) -> list[tuple[Part, ...]]:
    """Neighbours in groups of about `task_bytes` of input, none empty."""
    groups: list[tuple[Part, ...]] = []
    waiting: list[Part] = []
    size = 0
    for part in parts:
        if waiting and size + part.size > task_bytes:
            groups.append(tuple(waiting))
            waiting, size = [], 0
        waiting.append(part)
        size += part.size
    return [*groups, tuple(waiting)] if waiting else groups


def _check_encoding(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise DataRefused(
            f"the part {shown} has a name that isn't UTF-8, and no manifest can hold it: rename it"
        ) from None


def _suffix(name: str, output_format: str) -> str:
    if output_format != "auto":
        return f".{output_format}"
    return ".parquet" if posixpath.splitext(name)[1].lower() in PARQUET_SUFFIXES else ".csv"


def _is_part(name: str) -> bool:
    return posixpath.splitext(name.lower().removesuffix(".gz"))[1] in (*CSV_SUFFIXES, *PARQUET_SUFFIXES)
