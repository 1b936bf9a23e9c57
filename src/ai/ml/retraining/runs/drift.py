"""Drift before a training (from the champion's training table) and before a scoring (from the bundle's)."""

from __future__ import annotations

from collections.abc import Sequence

from ai.ml.core.bundle_dir import read_manifest
from ai.ml.core.contract.casting import Conformer
from ai.ml.core.contract.drift import DriftMeter, DriftReport, measure_drift
from ai.ml.core.errors import DataRefused
from ai.ml.core.files.atomic import dump_json, write_atomic
from ai.ml.core.input_contract import InputContract
from ai.ml.core.tables.locations import source_name
from ai.ml.core.tables.reader import ReadOptions, read_table
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.pinned import prove_pinned
from ai.ml.retraining.batch.receipts import Failure
from ai.ml.retraining.batch.runners import ScoringTask
from ai.ml.retraining.batch.score_part import part_batches
from ai.ml.retraining.records import DataRef, DriftRecord
from ai.ml.retraining.runs.retrain import work_dir
from ai.ml.retraining.runs.work_folder import keep_latest
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.store import Store


def training_drift(config: RetrainConfig, data: DataRef) -> DriftRecord | None:
    """Hold a new table against the champion's contract; the figures are kept as JSON in the work folder.

    Returns:
        None without a champion, without a contract of its, or if the settings don't ask.

    Raises:
        DataRefused: the settings say to refuse, and it has drifted or can't be compared.
    """
    if config.drift.action == "off":
        return None
    store = Store(config.store)
    digest = store.champion(config.name)
    if digest is None:
        return None
    contract = read_manifest(store.resolve(f"{config.name}@champion")).contract
    if contract is None:
        return None
    refuses = config.drift.action == "refuse"
    try:
        report = measure_drift(InputContract.from_json(contract), [read_table(data.file.path)])
    except DataRefused as error:
        if refuses:
            raise
        sentence = f"can't be compared with the champion's training table: {error}"
        return DriftRecord(against=digest, severity=None, sentence=sentence, document={})
    path = work_dir(config) / f"drift-{data.fingerprint[:16]}-{digest[:16]}.json"
    write_atomic(path, dump_json(report.to_json()))
    keep_latest(path, "drift-*.json")
    if refuses:
        report.refuse_from(config.drift.severity)
    return _record(digest, report)


def scoring_drift(task: ScoringTask, parts: Sequence[Part]) -> tuple[DriftRecord | None, dict[str, Failure]]:
    """Read all parts of a batch job once and hold them against the bundle's contract.

    Returns:
        The drift, None if the settings don't ask; and by name the parts that can't be read or don't meet the contract:
        they aren't in the figures, and must not be scored in this run.

    Raises:
        DataRefused: the bundle has no contract, no part can be read, or the settings say to refuse and the rows have
            drifted.
    """
    settings = task.settings
    if settings.drift == "off":
        return None, {}
    proven = prove_pinned(task.pin, settings.device)
    if proven.bundle.contract is None:
        raise DataRefused(f"{task.pin.path} has no input contract to measure drift from: leave --drift out")
    meter = DriftMeter(proven.bundle.contract)
    failures: dict[str, Failure] = {}
    for part in parts:
        try:
            meter.merge(_measured(proven.bundle.contract, part, settings.read))
        except DataRefused as error:
            failures[part.name] = Failure(part=part.name, source=source_name(part.source), message=str(error))
    if len(failures) == len(parts):
        first = failures[parts[0].name]
        more = f"none of {len(parts)} parts can be read; {first.source}: " if len(parts) > 1 else ""
        raise DataRefused(f"{more}{first.message}")
    report = meter.report()
    if settings.drift == "refuse":
        try:
            report.refuse_from(settings.drift_severity)
        except DataRefused as error:
            raise DataRefused(f"{error}{_left_out(failures, len(parts))}") from None
    return _record(task.pin.digest, report), failures


def _left_out(failures: dict[str, Failure], of: int) -> str:
    """What a refusal adds: that parts are missing may be all that has moved."""
    if not failures:
        return ""
    first = next(iter(failures.values()))
    return f"; {len(failures)} of {of} parts couldn't be read and aren't in it: {first.source}: {first.message}"


def _measured(contract: InputContract, part: Part, read: ReadOptions) -> DriftMeter:
    """A whole part: one that breaks off in its middle is in no figure."""
    meter, conformer = DriftMeter(contract), Conformer(contract)
    for batch in part_batches(part, read):
        meter.add(conformer.table(batch))
    return meter


def _record(digest: str, report: DriftReport) -> DriftRecord:
    return DriftRecord(against=digest, severity=report.severity, sentence=report.sentence, document=report.to_json())
