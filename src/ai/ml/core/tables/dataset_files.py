"""The files of a dataset's folder, and what its folders' names say (`country=NO/`): one rule for every reader."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from ai.ml.core.errors import DataRefused, StorageFailed
from ai.ml.core.tables.cells import column_name

PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def data_files(root: Path) -> list[tuple[str, Path]]:
    """Every file below a folder by its POSIX name relative to it; what begins with `_` or `.` isn't data.

    Links are followed, to files and to folders.

    Raises:
        DataRefused: a link leads nowhere or to a folder that holds it, or something is neither file nor folder: its
            rows would be left out silently.
        StorageFailed: the disk refused.
    """
    try:
        return list(_below(root, "", (root.resolve(),)))
    except OSError as error:
        if isinstance(error, DataRefused):
            raise
        raise StorageFailed(f"reading {error.filename or root} failed: {error.strerror}") from None


def _below(folder: Path, prefix: str, above: tuple[Path, ...]) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name[0] in "._":
                continue
            path = folder / entry.name
            if path.is_file():
                found.append((f"{prefix}{entry.name}", path))
            elif path.is_dir():
                target = path.resolve()
                if target in above:
                    raise DataRefused(f"{path} is a link to a folder that holds it: remove it")
                found += _below(path, f"{prefix}{entry.name}/", (*above, target))
            elif path.is_symlink():
                raise DataRefused(f"{path} is a link to {path.readlink()}, which isn't there: mend or remove it")
            elif path.exists():
                raise DataRefused(f"{path} is neither a file nor a folder: remove it")
    return found


def partition_of(name: str) -> tuple[tuple[str, str | None], ...]:
    """The columns that the folders of a file hold, outermost first: texts as they stand there, None for missing.

    >>> partition_of("zip=00501/city=S%C3%A3o/part.csv")
    (('zip', '00501'), ('city', 'São'))
    """
    pairs = (folder.partition("=") for folder in PurePosixPath(name).parts[:-1])
    columns = ((unquote(key), unquote(value)) for key, equals, value in pairs if equals)
    return tuple((key, None if value == _NULL_PARTITION else value) for key, value in columns)


def refuse_other_columns(folder: Path, parts: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Refuse parts whose columns aren't those of most parts: cells would be filled up or left out in silence.

    Args:
        folder: that holds them, for messages.
        parts: name and columns of each; what only its folders' names hold needn't be among them.

    Raises:
        DataRefused: names a part, its columns, and how many are so.
    """
    keys = partition_keys([name for name, _ in parts])
    sets = [frozenset(map(column_name, filter(_is_data, columns))).difference(keys) for _, columns in parts]
    usual = Counter(sets).most_common(1)[0][0] if sets else frozenset[str]()
    others = [place for place, names in enumerate(sets) if names != usual]
    if not others:
        return
    lacks, has = sorted(usual - sets[others[0]]), sorted(sets[others[0]] - usual)
    said = [f"lacks {', '.join(map(repr, lacks[:5]))}"] if lacks else []
    said += [f"has {', '.join(map(repr, has[:5]))} more"] if has else []
    raise DataRefused(
        f"{folder} holds parts of different columns: {parts[others[0]][0]} {' and '.join(said)} ({len(others)} of "
        f"{len(parts)} parts are unlike the others): make them alike, or let their names begin with _"
    )


def partition_keys(names: Iterable[str]) -> list[str]:
    """The columns that the folders of any of these files hold, in the order in which they come."""
    return list(dict.fromkeys(key for name in names for key, _ in partition_of(name)))


def _is_data(name: str) -> bool:
    return not PANDAS_INDEX.fullmatch(name)
