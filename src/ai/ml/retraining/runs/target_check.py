"""The decision's last question: are labels and world still those that the champion learned from?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ai.ml.core.contract.drift import measure_drift
from ai.ml.core.contract.table_changes import table_changes
from ai.ml.core.contract.target import target_values
from ai.ml.core.contract.target_record import record_target
from ai.ml.core.errors import BundleNotFound, DataRefused, NothingChecked
from ai.ml.core.splits.row_keys import named_as, row_keys
from ai.ml.core.tables.reader import read_table
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.records import CandidateRef, DataRef, DecisionRecord
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.settings.target_check import TargetCheckSettings
from ai.ml.retraining.store.store import Store

if TYPE_CHECKING:
    from ai.ml.retraining.decision.evaluation import EvaluatedBundle
    from ai.ml.retraining.decision.target_check import KnownRows, TargetCheck

MAX_ROWS = 20_000
"""Held-out rows whose losses are compared: enough for narrow intervals."""
_SALT = "whose label"


@dataclass(frozen=True)
class _Night:
    """The inputs of the check."""

    champion: EvaluatedBundle
    challenger: EvaluatedBundle
    table: pa.Table
    """Tonight's rows, or only the held-out ones where the table isn't given."""
    holdout: pa.Table
    is_whole: bool
    """Whether `table` is the whole of tonight's."""

    @cached_property
    def past(self) -> pa.Table | None:
        """The held-out rows of the champion's evidence with their truth, raw; None without any."""
        from ai.ml.retraining.evidence.evidence import read_evidence

        try:
            rows = read_evidence(self.champion.path).holdout
        except NothingChecked:
            return None
        return rows if rows.num_rows and self.champion.contract.target_column in rows.column_names else None

    def known(self, table: pa.Table) -> KnownRows | None:
        """Numbers and labels of rows, as the champion reads them; None where it can't name them."""
        from ai.ml.retraining.decision.target_check import KnownRows

        cells = [column.name for column in self.champion.contract.columns]
        table = named_as(table, cells)
        if not set(cells) <= set(table.column_names):
            return None
        return KnownRows(row_keys(table, cells, _SALT)[0], target_values(self.champion.contract, table))


def hold_changed_target(
    config: RetrainConfig, candidate: CandidateRef, decision: DecisionRecord, data: DataRef | None = None
) -> DecisionRecord:
    """Turn a promotion into a HOLD where labels or the world have changed beyond the settings' limits.

    Args:
        config: of the run.
        candidate: what was trained.
        decision: by the metrics.
        data: the run's table; the held-out rows stand for it where it isn't given.

    Returns:
        The decision, with what was measured under `target` in its document.

    Raises:
        BundleRefused: the champion is damaged.
    """
    settings = config.target_check
    if settings.action == "off" or decision.champion in (None, candidate.bundle.digest):
        return decision
    night = _open(config, candidate, decision.champion or "", data)
    if night is None:
        return decision
    check = _measure(night, settings)
    if data is not None:
        check.noted += _table_changes(night, data)
    for sentence in check.unknown:
        logger.info("note      %s", sentence)
    document = decision.document | {"target": {"action": settings.action, **check.to_json()}}
    if not check.beyond:
        reason = "; ".join([decision.reason, *check.noted])
        return decision.model_copy(update={"reason": reason, "document": document | {"reason": reason}})
    outcome = decision.outcome
    reason = f"labels or the world changed: {'; '.join([*check.beyond, *check.noted])}; {_inputs(night)}"
    if settings.action == "report":
        reason = f"{decision.reason}; but {reason}"
    elif outcome == "PROMOTE":
        outcome = "HOLD"
        candidate_words = f"bundlegate promote {config.name} --candidate {candidate.bundle.digest[:12]} --reason …"
        reason = (
            f"{reason}; the champion stays. If the table is right, `{candidate_words}` overrules this, or "
            f"--target-check report lets one night through (by the metrics: {decision.reason})"
        )
    else:
        reason = f"{reason}; by the metrics: {decision.reason}"
    changed = {"outcome": outcome, "reason": reason}
    return decision.model_copy(update=changed | {"document": document | changed})


def _open(config: RetrainConfig, candidate: CandidateRef, champion: str, data: DataRef | None) -> _Night | None:
    from ai.ml.retraining.decision.evaluation import EvaluatedBundle

    try:
        bundle = EvaluatedBundle(Store(config.store).resolve(f"{config.name}@{champion}"))
    except DataRefused:  # no contract to read rows by
        return None
    holdout = read_table(candidate.holdout.path)
    table = holdout if data is None else read_table(data.file.path)
    return _Night(bundle, EvaluatedBundle(Path(candidate.bundle.path)), table, holdout, data is not None)


def _measure(night: _Night, settings: TargetCheckSettings) -> TargetCheck:
    from ai.ml.retraining.decision.target_check import TargetCheck

    check, ours, theirs = TargetCheck(), night.champion.contract, night.challenger.contract
    if (ours.task, ours.target_column) != (theirs.task, theirs.target_column):
        check.unknown.append("the champion predicts another thing: its labels aren't compared with tonight's")
        return check
    if night.past is None:
        check.unknown.append("what the champion was at its promotion isn't known: its evidence has no labels")
    else:
        _compare_labels(check, night, settings)
        _compare_losses(check, night, night.past, settings)
    _compare_distribution(check, night, settings)
    return check


def _table_changes(night: _Night, data: DataRef) -> list[str]:
    if night.champion.manifest.lineage.get("data_fingerprint") == data.fingerprint:
        return ["it is the very table that the champion was trained on"]
    contract = night.champion.contract
    return table_changes(contract, named_as(night.table, [column.name for column in contract.columns]))


def _compare_labels(check: TargetCheck, night: _Night, settings: TargetCheckSettings) -> None:
    from ai.ml.retraining.decision.target_check import check_labels

    rule = night.champion.manifest.lineage.get("split") or {}
    # Where the cells decide a row's side, none of its rows is anywhere else.
    table = night.holdout if rule.get("kind") == "hash" and not rule.get("key") else night.table
    before, now = (None if rows is None else night.known(rows) for rows in (night.past, table))
    if before is not None and now is not None:
        check_labels(check, before, now, settings, whole=night.is_whole)


def _compare_losses(check: TargetCheck, night: _Night, past: pa.Table, settings: TargetCheckSettings) -> None:
    from ai.ml.retraining.decision.evaluation import with_known_classes
    from ai.ml.retraining.decision.overlap import learned_from
    from ai.ml.retraining.decision.target_check import check_loss, check_new_labels, is_new, new_to

    def no_teacher(digest: str) -> Path:
        raise BundleNotFound(digest)

    before = night.champion.predictions(past)
    rows = night.holdout.filter(pa.array(~learned_from("", night.champion.path, night.holdout, no_teacher).seen))
    if rows.num_rows > MAX_ROWS:
        rows = rows.take(pa.array(np.sort(np.random.default_rng(0).permutation(rows.num_rows)[:MAX_ROWS])))
    challenger = with_known_classes(night.challenger.predictions(rows))
    check_loss(check, "the challenger", before, challenger, settings.quality_drop, settings.confidence)
    known, now = night.known(past), night.known(rows)
    new = np.ones(rows.num_rows, dtype=bool) if known is None or now is None else new_to(known, now.keys)
    if known is not None and now is not None:
        check_new_labels(check, night.champion.contract, now.labels[is_new(known, now.keys)])
    try:
        champion = with_known_classes(night.champion.predictions(rows.filter(pa.array(new))))
    except DataRefused:
        return
    check_loss(check, "the live model", before, champion, settings.loss_rise, settings.confidence)


def _compare_distribution(check: TargetCheck, night: _Night, settings: TargetCheckSettings) -> None:
    from ai.ml.retraining.decision.target_check import check_distribution

    contract = night.champion.contract
    record, rows = contract.target, contract.rows
    if record is not None and record.levels is not None:
        rows = sum(record.levels.values())
    if record is None and night.past is not None:
        record, rows = record_target(contract, target_values(contract, night.past)), night.past.num_rows
        check.unknown.append(
            "the champion is from before bundles kept figures of their target: tonight's is held against the "
            f"{rows:,} rows of its evidence"
        )
    if record is not None:
        check_distribution(check, record, rows, target_values(contract, night.table), settings)


def _inputs(night: _Night) -> str:
    """Whether the inputs changed as well, which hints at the cause."""
    try:
        drift = measure_drift(night.champion.contract, [night.table])
    except DataRefused as error:
        return f"the inputs can't be compared with those before: {error}"
    if drift.severity == "stable":
        return "the inputs are as before"
    return f"the inputs changed, too: {drift.sentence}"
