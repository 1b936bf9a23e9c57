"""Standard output that survives closed pipes and full disks.

When a reader closes its end (`… | head`), the rest of the output is dropped. By default Python would end such a
process with 120 and rich with 1, whatever the command's own exit code. A full disk behind `> FILE` is reported once,
at the end.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ai.ml.core.files.atomic import dump_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def print_json(value: Any) -> None:
    """Print canonical JSON, for machines."""
    print_bytes(dump_json(value))


def print_bytes(document: bytes) -> None:
    """Print a document in UTF-8 as it is, whatever the terminal's encoding."""
    sys.stdout.flush()
    sys.stdout.buffer.write(document)
    sys.stdout.flush()


def print_facts(console: Console, facts: Iterable[tuple[str, str | Text]]) -> None:
    """Print names with their values, a line each. Lines aren't folded: a folded path can't be clicked or copied."""
    from rich.text import Text

    lines = list(facts)
    width = max(len(name) for name, _ in lines) + 2
    for name, value in lines:
        console.print(Text.assemble((name.ljust(width), "bold"), value), soft_wrap=True)


class Output(io.RawIOBase):
    """A file descriptor whose writes never fail; `problem` is the reason why output was lost."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self._dropping = False
        self.problem: str | None = None

    def write(self, data: Any, /) -> int:
        """Write, or drop, all of `data`."""
        if not self._dropping:
            try:
                return os.write(self._descriptor, data)
            except BrokenPipeError:
                self._dropping = True
            except OSError as error:
                self._dropping = True
                self.problem = error.strerror
        return memoryview(data).nbytes

    def writable(self) -> bool:
        """Always True, as for any output stream."""
        return True

    def fileno(self) -> int:
        """The file descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)


@contextmanager
def resilient_output() -> Generator[Output | None]:
    """Let `sys.stdout` write through an `Output`; None where stdout has no file descriptor (a capture, a notebook)."""
    before = sys.stdout
    if before is None:  # closed by the caller (`>&-`)
        with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
            sys.stdout = nowhere
            try:
                yield None
            finally:
                sys.stdout = before
        return
    try:
        descriptor = before.fileno()
        before.flush()
    except (OSError, ValueError, AttributeError):
        yield None
        return
    output = Output(descriptor)
    stream = io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding=before.encoding,
        # Characters that the terminal's encoding lacks are printed as codes: an error would come too late.
        errors="backslashreplace" if before.errors == "strict" else before.errors,
        line_buffering=output.isatty(),
    )
    sys.stdout = stream
    try:
        yield output
    finally:
        stream.flush()
        sys.stdout = before
