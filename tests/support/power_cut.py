"""Every state in which a power cut may leave a directory, from the system calls of a save.

The model is harsher than any file system that keeps its promises: the content of a file is sure from its fsync on,
until then any beginning of it may be there; the names in a directory (created, renamed, removed) are sure from the
directory's fsync on, until then **any subset** of the changes may have reached the disk, in any order.
"""

from __future__ import annotations

import ast
import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_OPEN = re.compile(r'^openat\(AT_FDCWD, "([^"]*)", ([A-Z_|]+)(?:, 0\d+)?\) = (\d+)')
_WRITE = re.compile(r'^write\((\d+), "([^"]*)", \d+\) = (\d+)')
_FSYNC = re.compile(r"^fsync\((\d+)\) = 0")
_CLOSE = re.compile(r"^close\((\d+)\) = 0")
_RENAME = re.compile(r'^rename\("([^"]*)", "([^"]*)"\) = 0')
_REMOVE = re.compile(r'^(?:unlink|rmdir)\("([^"]*)"\) = 0')
_MKDIR = re.compile(r'^mkdir\("([^"]*)", \d+\) = 0')
_CHANGES = ("rename", "unlink", "mkdir", "rmdir", "link", "symlink", "truncate", "ftruncate", "pwrite64", "writev")
_UNDERSTOOD = (_OPEN, _WRITE, _FSYNC, _CLOSE, _RENAME, _REMOVE, _MKDIR)
DIRECTORY = -1
"""Stands for a directory where an inode's number is expected."""


@dataclass
class Change:
    """A change of one directory's names: what stands under them afterwards (None: nothing)."""

    folder: str
    names: dict[str, int | None]


@dataclass
class Disk:
    """What a save has asked for so far, and what of it is sure."""

    names: dict[str, int] = field(default_factory=dict[str, int])
    sure_names: dict[str, int] = field(default_factory=dict[str, int])
    content: dict[int, bytes] = field(default_factory=dict[int, bytes])
    sure_length: dict[int, int] = field(default_factory=dict[int, int])
    pending: list[Change] = field(default_factory=list[Change])
    open: dict[int, str] = field(default_factory=dict[int, str])

    @classmethod
    def of(cls, directory: Path, parent: Path) -> Disk:
        """A directory whose present content is sure, below a parent that is there."""
        disk = cls()
        for number, path in enumerate(sorted(directory.rglob("*")) if directory.exists() else []):
            disk.names[str(path)] = DIRECTORY if path.is_dir() else number
            if path.is_file():
                disk.content[number] = path.read_bytes()
                disk.sure_length[number] = len(disk.content[number])
        for folder in (directory, *directory.parents):
            if folder.exists() and folder.is_relative_to(parent):
                disk.names[str(folder)] = DIRECTORY
        disk.sure_names = dict(disk.names)
        return disk

    def play(self, line: str) -> None:
        """Take one line of strace in."""
        line = re.sub(r"\s+= ", " = ", line)
        match = next((found for form in _UNDERSTOOD if (found := form.match(line))), None)
        if match is None:
            if line.startswith(_CHANGES) and not line.rsplit(" = ", 1)[-1].startswith("-1"):
                raise ValueError(f"a call that the model doesn't know: {line}")
            return
        form = match.re
        if form is _OPEN:
            path = _text(match[1])
            self.open[int(match[3])] = path
            if "O_CREAT" in match[2] and path not in self.names:
                number = len(self.content) + 1000
                self.content[number], self.sure_length[number] = b"", 0
                self._change(_folder(path), {path: number})
        elif form is _WRITE and int(match[1]) in self.open:
            number = self.names[self.open[int(match[1])]]
            self.content[number] += _bytes(match[2])
        elif form is _FSYNC:
            self._fsync(self.open[int(match[1])])
        elif form is _CLOSE:
            self.open.pop(int(match[1]), None)
        elif form is _RENAME:
            source, target = _text(match[1]), _text(match[2])
            self._change(_folder(target), {source: None, target: self.names[source]})
        elif form is _REMOVE:
            self._change(_folder(_text(match[1])), {_text(match[1]): None})
        elif form is _MKDIR:
            self._change(_folder(_text(match[1])), {_text(match[1]): DIRECTORY})

    def after_power_cut(self) -> Iterator[tuple[dict[str, int], float]]:
        """Each set of names that may be there afterwards, and the share of unsure bytes that may be."""
        for chosen in itertools.product((False, True), repeat=len(self.pending)):
            names: dict[str, int | None] = dict(self.sure_names)
            for change in itertools.compress(self.pending, chosen):
                names |= change.names
            there = {name: number for name, number in names.items() if number is not None}
            # A name in a directory that isn't there isn't there either.
            there = {name: number for name, number in there.items() if _has_parents(name, there)}
            unsure = any(len(self.content[n]) > self.sure_length[n] for n in there.values() if n != DIRECTORY)
            for share in (0.0, 0.5, 1.0) if unsure else (1.0,):
                yield there, share

    def write_out(self, names: dict[str, int], share: float, root: Path) -> None:
        """Make that state real."""
        shutil.rmtree(root, ignore_errors=True)
        for name, number in sorted(names.items()):
            if number == DIRECTORY:
                Path(name).mkdir(parents=True, exist_ok=True)
            else:
                content, sure = self.content[number], self.sure_length[number]
                Path(name).write_bytes(content[: sure + int((len(content) - sure) * share)])

    def _change(self, folder: str, names: dict[str, int | None]) -> None:
        if not any(name in self.names or folder in self.names for name in names):
            return  # outside the directory that is watched
        for name, number in names.items():
            if number is None:
                self.names.pop(name, None)
            else:
                self.names[name] = number
        self.pending.append(Change(folder, names))

    def _fsync(self, path: str) -> None:
        number = self.names.get(path)
        if number is not None and number != DIRECTORY:
            self.sure_length[number] = len(self.content[number])
            return
        for change in [change for change in self.pending if change.folder == path]:
            self.pending.remove(change)
            for name, number in change.names.items():
                if number is None:
                    self.sure_names.pop(name, None)
                else:
                    self.sure_names[name] = number


def _has_parents(name: str, names: dict[str, int]) -> bool:
    """Whether all the directories between a name and the topmost one known are there."""
    top = min(names, key=len)
    parent = _folder(name)
    while len(parent) > len(top):
        if names.get(parent) != DIRECTORY:
            return False
        parent = _folder(parent)
    return True


def _folder(name: str) -> str:
    return str(Path(name).parent)


def _bytes(escaped: str) -> bytes:
    return ast.literal_eval(f'b"{escaped}"')


def _text(escaped: str) -> str:
    return _bytes(escaped).decode() if "\\x" in escaped else escaped
