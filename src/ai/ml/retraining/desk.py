"""A model as one writer finds it: what was decided, and which bundle is live."""

from __future__ import annotations

from dataclasses import dataclass

from ai.ml.retraining.ledger import Entry, Pages
from ai.ml.retraining.shelf import Shelf

CHAMPION_ACTIONS = ("promoted", "rolled-back")


@dataclass(frozen=True)
class Desk:
    """The state that the writer's line will follow, with what a killed writer left already mended."""

    shelf: Shelf
    pages: Pages
    champion: str | None
    previous: str | None

    def is_last(self, action: str, digest: str) -> Entry | None:
        """The last line, if it is this very decision."""
        last = self.pages.entries[-1] if self.pages.entries else None
        return last if last is not None and (last.action, last.body.get("digest")) == (action, digest) else None


def moves(entries: list[Entry]) -> list[Entry]:
    """The lines that made a bundle the champion."""
    return [entry for entry in entries if entry.action in CHAMPION_ACTIONS]
