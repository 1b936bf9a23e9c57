"""What a Prefect server says of its own failures, and nobody would read: its services fail without any run failing."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path

ENTRY = re.compile(r"^\d\d:\d\d:\d\d\.\d{3} \| (?P<level>[A-Z]+) +\| ", re.MULTILINE)
"""How each entry begins; what follows up to the next one, a traceback for instance, belongs to it."""

HARMLESS = {
    # SQLite has one lock, and on a loaded machine a writer may wait too long for it: each service looks again at its
    # next turn. What fails at every turn is found by `test_schedule`, which waits for what the services are there for.
    r"sqlite3\.OperationalError: database is locked": "a moment's contention for SQLite's only lock",
}
"""Patterns of entries that say nothing of what the server does for a user, each with the reason."""


def complaints(text: str) -> list[str]:
    """Every error and every traceback of a log, whole, but for those that are known to be harmless."""
    starts = [match.start() for match in ENTRY.finditer(text)]
    # What a process prints past its logger comes before, between or after entries.
    bounds = [0, *starts, len(text)]
    entries = [text[start:end].strip() for start, end in itertools.pairwise(bounds)]
    return [entry for entry in entries if _complains(entry) and not any(re.search(each, entry) for each in HARMLESS)]


def _complains(entry: str) -> bool:
    match = ENTRY.match(entry)
    level = match["level"] if match else ""
    return level in ("ERROR", "CRITICAL") or "Traceback (most recent call last)" in entry


@dataclass
class ServerLogs:
    """The logs of the servers that this process has started; what was looked at once isn't looked at again."""

    read: dict[Path, int] = field(default_factory=dict)
    """How many bytes of each log were looked at."""

    def watch(self, log: Path) -> None:
        self.read.setdefault(log, 0)

    def complaints(self) -> list[str]:
        """What the servers complained about since the last look."""
        found: list[str] = []
        for log, start in self.read.items():
            text = log.read_bytes()[start:]
            self.read[log] = start + len(text)
            found += complaints(text.decode(errors="replace"))
        return found


LOGS = ServerLogs()
"""Of every Prefect server that a test or a fixture starts. Here and not in `conftest`, which is imported twice: once by
pytest, whose fixtures search, and once by the tests, which start servers."""
