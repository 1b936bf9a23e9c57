"""The whole drill: every kind in turn, and what came of it all."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ai.ml.core.bundle_dir import Manifest
from ai.ml.core.errors import ExitCode, UsageError
from ai.ml.core.files.scratch import scratch_folder
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.drill import columns, formats, good, labels, rows, targets
from ai.ml.retraining.drill.kind import FAMILIES, Family, Kind
from ai.ml.retraining.drill.play import Night, Player
from ai.ml.retraining.drill.scene import drill_settings, set_scene
from ai.ml.retraining.store.anchor import forget

CATALOGUE: tuple[Kind, ...] = (*good.KINDS, *labels.KINDS, *columns.KINDS, *rows.KINDS, *formats.KINDS, *targets.KINDS)


@dataclass(frozen=True)
class DrillReport:
    """All nights of a drill."""

    nights: tuple[Night, ...]
    rows: int
    """Of the table that was broken."""

    @property
    def silent(self) -> list[Night]:
        """Broken tables whose model was promoted without a word."""
        return [night for night in self.nights if night.fate == "silent"]

    @property
    def stopped(self) -> list[Night]:
        """Good nights that were stopped for their table."""
        return [night for night in self.nights if night.family == "good" and night.is_stopped]

    @property
    def counts(self) -> dict[str, int]:
        """How many broken nights ended in which way."""
        fates = Counter(night.fate for night in self.nights if night.family != "good")
        return {fate: fates[fate] for fate in ("refused", "held", "noted", "silent", "not applicable")}

    @property
    def exit_code(self) -> ExitCode:
        """Exit code 1 where a broken table was promoted in silence, or a good night stopped."""
        return ExitCode.REFUSED if self.silent or self.stopped else ExitCode.OK

    @property
    def sentence(self) -> str:
        """The outcome in a sentence."""
        counts = self.counts
        tried = sum(counts.values()) - counts["not applicable"]
        nights = [night for night in self.nights if night.family == "good"]
        return (
            f"{tried} kinds of broken tables: {counts['refused']} refused, {counts['held']} held, {counts['noted']} "
            f"promoted with a note, {counts['silent']} promoted in silence ({counts['not applicable']} don't apply to "
            f"this table); {len(self.stopped)} of {len(nights)} good nights stopped"
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "sentence": self.sentence,
            "rows": self.rows,
            "counts": self.counts,
            "good_nights": sum(night.family == "good" for night in self.nights),
            "good_nights_stopped": len(self.stopped),
            "nights": [night.to_json() for night in self.nights],
        }


def drill(
    manifest: Manifest,
    table: pa.Table,
    source: str,
    *,
    families: Sequence[Family] = FAMILIES,
    names: Sequence[str] = (),
    show: Callable[[Night], None] | None = None,
) -> DrillReport:
    """Break copies of a table in every known way, and play the night with each in a scratch store.

    Args:
        manifest: of the model's champion, whose settings the nights are played with.
        table: the last good one, raw.
        source: where it came from, for sentences.
        families: of kinds that are tried; good nights are always.
        names: of single kinds in their place, beside the usual night; none for all of the families.
        show: is told each night as it ends.

    Raises:
        DataRefused: the table can't be trained on, or has too few rows.
        UsageError: the champion doesn't remember its settings, or there is no such family or kind.
        GateRefused: the drill's own champion can't be proved here.
    """
    kinds = _chosen(families, names)
    nights: list[Night] = []
    with scratch_folder() as folder, _quiet():
        config = drill_settings(manifest, source, folder)
        try:
            player = Player(config, set_scene(config, table))
            for kind in kinds:
                nights.append(player.play(kind))
                if show is not None:
                    show(nights[-1])
        finally:
            forget(str(Path(config.store) / config.name))
    return DrillReport(tuple(nights), table.num_rows)


def _chosen(families: Sequence[Family], names: Sequence[str]) -> list[Kind]:
    """The kinds that are asked for; the first of all is always played, for what is said every night."""
    known = [kind.name for kind in CATALOGUE]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise UsageError(f"there is no kind {name!r}{hint}")
    for family in families:
        if family not in FAMILIES:
            raise UsageError(f"family {family!r}: known are {', '.join(FAMILIES)}")
    if names:
        return [kind for kind in CATALOGUE if kind is CATALOGUE[0] or kind.name in names]
    return [kind for kind in CATALOGUE if kind.family == "good" or kind.family in families]


@contextmanager
def _quiet() -> Generator[None]:
    """Sixty runs would say a thousand sentences."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
