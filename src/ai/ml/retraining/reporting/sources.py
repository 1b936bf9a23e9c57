"""Builds a report's inputs from a candidate of a running retrain, or from a version in the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ai.ml.core.errors import BundlegateError, BundleNotFound
from ai.ml.core.tables.reader import read_table
from ai.ml.retraining.console.progress import logger, working
from ai.ml.retraining.decision.evaluation import EvaluatedBundle, unknown_classes
from ai.ml.retraining.evidence.evidence import read_evidence
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.records import CandidateRef, DecisionRecord, FileRef, ReportRef, VerdictRef
from ai.ml.retraining.reporting.files import CARD, HISTORY, PAGE, REMARKS, Written, report_folder, write_report
from ai.ml.retraining.reporting.inputs import Material
from ai.ml.retraining.reporting.svg import require_matplotlib
from ai.ml.retraining.settings.retrain import ReportSettings, RetrainConfig
from ai.ml.retraining.store.store import Store


def report_or_warn(
    config: RetrainConfig,
    candidate: CandidateRef,
    verdict: VerdictRef,
    decision: DecisionRecord | None = None,
    show: Callable[[ReportRef], None] | None = None,
) -> ReportRef | None:
    """Make a candidate's card and report, unless the settings disable it; an error is logged and changes nothing.

    Args:
        config: of the run.
        candidate: what was trained.
        verdict: of the gate.
        decision: None where the gate refused.
        show: called with the report; an error that it raises is logged, too.
    """
    if not config.report.enabled or config.dry_run:
        return None
    try:
        require_matplotlib()
        with working("measuring and drawing the report"):
            report = report_candidate(config, candidate, verdict, decision)
        logger.info("reported  %s", Path(report.page.path).as_uri())
        if show is not None:
            show(report)
    except Exception as error:
        logger.warning("no report: %s: %s; nothing else depends on it", type(error).__name__, error)
        return None
    return report


def report_candidate(
    config: RetrainConfig, candidate: CandidateRef, verdict: VerdictRef, decision: DecisionRecord | None = None
) -> ReportRef:
    """Card and report of a candidate, beside it and under `NAME/reports/DIGEST` in the store.

    Raises:
        BundlegateError: the report can't be made; nothing else depends on it.
    """
    folder = Path(candidate.bundle.path)
    subject = EvaluatedBundle(folder)
    store = Store(config.store)
    folder_in_store = report_folder(store, config.name, subject.digest)
    if decision is not None and decision.champion == subject.digest and (folder_in_store / PAGE).is_file():
        # It is the champion already: the report of its promotion has more than one of this run would.
        return ReportRef(card=FileRef.of(folder_in_store / CARD), page=FileRef.of(folder_in_store / PAGE))
    champion = None if decision is None else decision.champion
    material = Material(
        config.name,
        subject,
        read_table(candidate.holdout.path),
        "the rows held out from training",
        history=json.loads(Path(candidate.history.path).read_bytes()),
        verdict=Verdict.from_json(Path(verdict.file.path).read_bytes()),
        outcome="" if decision is None else decision.outcome,
        reason="" if decision is None else decision.reason,
        decision=None if decision is None else decision.document,
        champion=_open_champion(store, config.name, champion, subject.digest),
        findings=candidate.findings,
        baselines=candidate.baselines,
        trials=candidate.trials,
        address=_address(store, config.name, subject, decision),
        store=config.store,
        settings=config.report,
        slice_column=config.decision.slice_column,
    )
    written = write_report(material, folder_in_store, folder.parent / "report")
    return ReportRef(card=FileRef.of(written.card), page=FileRef.of(written.page))


def _address(store: Store, name: str, subject: EvaluatedBundle, decision: DecisionRecord | None) -> str:
    """The bundle's address after the decision: as a version, in quarantine, or (held, rejected) in the work folder."""
    if decision is None:
        return store.backend(name).address("quarantine", subject.digest)
    return f"{name}@{subject.digest[:12]}" if decision.outcome == "PROMOTE" else str(subject.path)


def report_version(
    reference: str, bundle_dir: Path, store: Store, data: pa.Table | None, settings: ReportSettings, output: Path
) -> Written:
    """Card and report of any bundle that has a contract, on new rows or on those of its evidence.

    Raises:
        DataRefused: the rows don't meet its contract, have no truth, or no class that it knows.
    """
    subject = EvaluatedBundle(bundle_dir)
    name = reference.partition("@")[0] if "@" in reference else bundle_dir.name
    rows = read_evidence(bundle_dir).holdout if data is None else data
    where = "the holdout rows that its evidence keeps" if data is None else "the rows given for this report"
    unknown = None if data is None else unknown_classes(subject, rows)
    if unknown is not None:
        where = f"{where}; {unknown}"
    material = Material(name, subject, rows, where, address=reference, settings=settings)
    if "@" in reference:
        material = _with_history(material, store, name, same_rows=data is None)
    return replace(write_report(material, output), note=unknown)


def _with_history(material: Material, store: Store, name: str, *, same_rows: bool) -> Material:
    """A copy with a version's verdict, decision, previous champion and learning curve from ledger and store."""
    digest = material.subject.digest
    entry = next((entry for entry in reversed(store.history(name)) if entry.body.get("digest") == digest), None)
    body: dict[str, Any] = {} if entry is None else entry.body
    decision: dict[str, Any] = body.get("decision") or {}
    history, remarks = (report_folder(store, name, digest) / file for file in (HISTORY, REMARKS))
    if remarks.is_file():
        material = material.recalled(json.loads(remarks.read_bytes()), same_rows=same_rows)
    return replace(
        material,
        address=f"{name}@{digest[:12]}",
        store=str(store.root),
        verdict=_read_verdict(store, name, str(body.get("verdict", ""))),
        outcome=str(decision.get("outcome", "")),
        reason=str(decision.get("reason", "")),
        decision=decision or None,
        champion=_open_champion(store, name, body.get("champion_before") or decision.get("champion_digest"), digest),
        history=json.loads(history.read_bytes()) if history.is_file() else (),
    )


def _read_verdict(store: Store, name: str, sha256: str) -> Verdict | None:
    document = store.backend(name).read_verdict(sha256) if sha256 else None
    return None if document is None else Verdict.from_json(document)


def _open_champion(store: Store, name: str, digest: str | None, own: str) -> EvaluatedBundle | None:
    """The bundle to compare with; None where it is no longer stored."""
    if digest is None or digest == own:
        return None
    try:
        return EvaluatedBundle(store.resolve(f"{name}@{digest}"))
    except (BundleNotFound, BundlegateError):
        return None
