"""Drift before a training (from the champion's training table) and before a scoring (from the bundle's)."""

from __future__ import annotations

from collections.abc import Sequence

from ai.ml.core.drift import DriftReport, measure_drift
from ai.ml.core.errors import DataRefused
from ai.ml.core.files import dump_json, write_atomic
from ai.ml.core.input_contract import InputContract
from ai.ml.core.manifest import read_manifest
from ai.ml.core.tables import read_table
from ai.ml.retraining.bundle_pin import prove_pinned
from ai.ml.retraining.checkpoints import DataRef, DriftRecord
from ai.ml.retraining.config import RetrainConfig
from ai.ml.retraining.partition import part_batches
from ai.ml.retraining.parts import Part
from ai.ml.retraining.runners import ScoringTask
from ai.ml.retraining.steps import work_dir
from ai.ml.retraining.store import Store
from ai.ml.retraining.workplace import keep_latest


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


def scoring_drift(task: ScoringTask, parts: Sequence[Part]) -> DriftRecord | None:
    """Read all parts of a batch job once and hold them against the bundle's contract.

    Returns:
        None if the settings don't ask.

    Raises:
        DataRefused: the bundle has no contract, a part can't be read or doesn't meet it, or the settings say to refuse
            and the rows have drifted.
    """
    settings = task.settings
    if settings.drift == "off":
        return None
    proven = prove_pinned(task.pin, settings.device)
    if proven.bundle.contract is None:
        raise DataRefused(f"{task.pin.path} has no input contract to measure drift from: leave --drift out")
    report = measure_drift(
        proven.bundle.contract, (batch for part in parts for batch in part_batches(part, settings.read))
    )
    if settings.drift == "refuse":
        report.refuse_from(settings.drift_severity)
    return _record(task.pin.digest, report)


def _record(digest: str, report: DriftReport) -> DriftRecord:
    return DriftRecord(against=digest, severity=report.severity, sentence=report.sentence, document=report.to_json())
