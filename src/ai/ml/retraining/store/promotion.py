"""The outcome of a promotion or a rollback, and its sentence."""

from __future__ import annotations

from dataclasses import dataclass

from ai.ml.retraining.store.ledger import Entry
from ai.ml.retraining.store.veto import lifting


@dataclass(frozen=True)
class Promotion:
    """The outcome of a promotion or a rollback."""

    digest: str
    path: str
    """Folder or URL of the version."""
    previous: str | None
    """Digest of the champion before."""
    entry: Entry
    already: bool
    """It was the champion before this call: nothing was written."""

    def rolled_back(self, name: str) -> str:
        """The sentence for a former champion of `name` that is live again."""
        before = "nothing else was"
        if self.previous is not None:
            before = f"{self.previous[:12]} is @previous, and no night promotes it: {lifting(name, self.previous)}"
        return f"{name}: {self.digest[:12]} is the champion again, proved just now; {before}"
