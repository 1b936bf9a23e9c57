"""Which of the held-out rows a model has learned from: those say nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ai.ml.core.bundle_dir import read_manifest
from ai.ml.core.errors import BundleNotFound, DataRefused
from ai.ml.core.files.atomic import open_plain, write_atomic
from ai.ml.core.splits.row_record import RECORD_NAME, among_rows, encode_rows
from ai.ml.core.splits.rule import SplitRule, keys_of

MOST_TEACHERS = 20
"""In a row; a chain that is longer is a circle."""


@dataclass(frozen=True)
class Overlap:
    """What is known of the rows that models learned from."""

    seen: np.ndarray
    """`(n_rows,)` bool: learned from, as far as that is known."""
    unknown: tuple[str, ...] = ()
    """One phrase for each model of which it isn't."""

    @property
    def sentence(self) -> str:
        """What isn't counted and what isn't known; empty where all rows count and everything is known."""
        said: list[str] = []
        if self.seen.any():
            said.append(f"{self.seen.sum():,} of {len(self.seen):,} held-out rows don't count: they were learned from")
        if self.unknown:
            said.append(f"which rows were learned from isn't known of all: {', '.join(self.unknown)}")
        return "; ".join(said)

    def to_json(self) -> dict[str, Any]:
        """The counts as the ledger keeps them."""
        return {"held_out": len(self.seen), "learned_from": int(self.seen.sum()), "unknown": list(self.unknown)}

    def __or__(self, other: Overlap) -> Overlap:
        return Overlap(self.seen | other.seen, (*self.unknown, *other.unknown))


def remember_rows(bundle_dir: Path, rule: SplitRule, rows: pa.Table, salt: str) -> SplitRule:
    """Keep a record of the rows that a model learned from, where no rule tells them; to be sealed with the bundle.

    Args:
        bundle_dir: gets the file; made where it isn't there.
        rule: of the split.
        rows: raw training rows, validation rows included.
        salt: of the numbers in the record.

    Returns:
        The rule as the manifest has to keep it.

    Raises:
        StorageFailed: the disk refused.
    """
    if rule.kind != "random":
        return rule
    bundle_dir.mkdir(parents=True, exist_ok=True)
    kept = replace(rule, salt=salt)
    write_atomic(bundle_dir / RECORD_NAME, encode_rows(keys_of(rows, kept.key, kept.cells, kept.salt)[0]))
    return kept


def learned_from(who: str, bundle_dir: Path, table: pa.Table, teacher_dir: Callable[[str], Path]) -> Overlap:
    """Which rows of a table a bundle, its teacher and that one's teacher learned from.

    Rows watched for early stopping, a temperature or a threshold are rows of the training.

    Args:
        who: for sentences, `the champion`.
        bundle_dir: sealed.
        table: `(n_rows,)` raw rows.
        teacher_dir: the bundle directory of a digest.
    """
    found = Overlap(np.zeros(table.num_rows, dtype=bool))
    for _ in range(MOST_TEACHERS):
        lineage = read_manifest(bundle_dir).lineage
        found |= _of_one(who, bundle_dir, lineage, table)
        teacher = lineage.get("teacher")
        if not teacher:
            break
        who = f"{who}'s teacher"
        try:
            bundle_dir = teacher_dir(str(teacher))
        except BundleNotFound:
            return found | Overlap(found.seen, (f"{who} is no longer in the store",))
    return found


def taught_from(who: str, bundle_dir: Path, table: pa.Table, teacher_dir: Callable[[str], Path]) -> Overlap:
    """The same for the teachers of a bundle only: its own rows were never held out from these."""
    nothing = Overlap(np.zeros(table.num_rows, dtype=bool))
    teacher = read_manifest(bundle_dir).lineage.get("teacher")
    if not teacher:
        return nothing
    try:
        return learned_from(f"{who}'s teacher", teacher_dir(str(teacher)), table, teacher_dir)
    except BundleNotFound:
        return Overlap(nothing.seen, (f"{who}'s teacher is no longer in the store",))


def _of_one(who: str, bundle_dir: Path, lineage: dict[str, Any], table: pa.Table) -> Overlap:
    nothing = np.zeros(table.num_rows, dtype=bool)
    if "split" not in lineage:
        return Overlap(nothing, (f"{who} is from before bundles remembered it",))
    rule = SplitRule.from_json(lineage["split"])
    try:
        absent = rule.missing_columns(table)
        if absent:
            return Overlap(nothing, (f"{who} went by column {absent[0]!r}, which isn't there any more",))
        if rule.kind == "random":
            if not (bundle_dir / RECORD_NAME).is_file():
                return Overlap(nothing, (f"{who} was split at random and keeps no record of its rows",))
            keys = keys_of(table, rule.key, rule.cells, rule.salt)[0]
            with open_plain(bundle_dir / RECORD_NAME) as stream:
                return Overlap(among_rows(stream.read(), keys))
        seen = rule.may_have_learned(table)
    except DataRefused as error:
        return Overlap(nothing, (f"{who}'s rule can't be applied: {error}",))
    return Overlap(nothing if seen is None else seen)
