"""The name of a setting's flag, written beside the setting where its own name would read badly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """Metadata of a field: `Annotated[str, Field(...), Flag("--data")]`; it shows in no schema and no form."""

    name: str
    alias: str | None = None
    """A second name for the same."""
    pair: str | None = None
    """What a pair looks like where the setting is a table and that isn't METRIC=LIMIT."""

    @property
    def names(self) -> list[str]:
        """The flag and its second name as argparse takes them."""
        return [self.name] if self.alias is None else [self.name, self.alias]
