"""Which of the held-out rows a model was trained on, so that they can't be used to evaluate it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ai.ml.core.bundle_dir import read_manifest
from ai.ml.core.errors import BundleNotFound, DataRefused, UsageError
from ai.ml.core.files.atomic import open_plain, write_atomic
from ai.ml.core.input_contract import InputContract
from ai.ml.core.splits.row_record import RECORD_NAME, among_rows, encode_rows
from ai.ml.core.splits.rule import SplitRule, keys_of
from ai.ml.core.tables import fingerprint

MAX_TEACHERS = 20
"""Maximum number of teachers in a chain; a longer one is a cycle."""


@dataclass(frozen=True)
class Overlap:
    """The rows that models learned from, as far as that is known."""

    seen: np.ndarray
    """`(n_rows,)` bool: learned from, as far as that is known."""
    unknown: tuple[str, ...] = ()
    """One phrase for each model whose rows aren't known."""

    @property
    def sentence(self) -> str:
        """A sentence on rows that are left out and models whose rows aren't known; empty where there are none."""
        parts: list[str] = []
        if self.seen.any():
            parts.append(f"{self.seen.sum():,} of {len(self.seen):,} held-out rows don't count: they were learned from")
        if self.unknown:
            parts.append(f"which rows were learned from isn't known of all: {', '.join(self.unknown)}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The counts in the ledger's form."""
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


def remember_table(bundle_dir: Path, table: pa.Table) -> dict[str, Any]:
    """Keep a record of the table that a bundle from elsewhere was trained on; to be sealed with the bundle.

    Rows that its training held out count as learned from: nobody can tell them apart any more.

    Args:
        bundle_dir: whose contract names the cells of a row; without a contract all columns are.
        table: raw.

    Returns:
        What goes into the manifest's lineage.

    Raises:
        UsageError: the bundle knows its rows already.
        DataRefused: the table lacks a column that the bundle reads, or has no rows.
        StorageFailed: the disk refused.
    """
    manifest = None
    with contextlib.suppress(BundleNotFound):
        manifest = read_manifest(bundle_dir)
    if manifest is not None and "split" in manifest.lineage:
        words = SplitRule.from_json(manifest.lineage["split"]).description
        raise UsageError(f"{bundle_dir.name} knows its training rows already ({words}): leave out --trained-on")
    if not table.num_rows:
        raise DataRefused("the table that it was trained on has no rows")
    cells = tuple(table.column_names)
    if manifest is not None and manifest.contract is not None:
        cells = tuple(column.name for column in InputContract.from_json(manifest.contract).columns)
    rule = SplitRule("random", 0.0, cells)
    absent = rule.missing_columns(table)
    if absent:
        raise DataRefused(f"it can't have been trained on that table: column {absent[0]!r} isn't there")
    salt = fingerprint(table)
    return {"split": remember_rows(bundle_dir, rule, table, salt).to_json(), "data_fingerprint": salt}


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
    for _ in range(MAX_TEACHERS):
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
