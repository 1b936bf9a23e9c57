"""Drift of a run's table from the champion's training table, measured before anything is trained on it."""

from __future__ import annotations

from ai.ml.core.contract import Conformer
from ai.ml.core.contract.drift import DriftMeter
from ai.ml.core.errors import DataRefused
from ai.ml.core.files.atomic import dump_json, write_atomic
from ai.ml.core.input_contract import InputContract
from ai.ml.core.tables.reader import read_table
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.records import DataRef, DriftRecord
from ai.ml.retraining.runs.continuity import champion_contract, require_same_problem
from ai.ml.retraining.runs.emptied import refuse_emptied
from ai.ml.retraining.runs.work_folder import keep_latest, work_dir
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.store import Store


def check_drift(config: RetrainConfig, data: DataRef) -> DriftRecord | None:
    """Compare a new table with the champion's, before anything is trained on it.

    It must ask the champion's question, see `continuity`; how far its columns moved is kept as JSON in the work folder.

    Returns:
        None without a champion, without a contract of its, or if the settings don't ask.

    Raises:
        DataRefused: it asks another question, or the settings say to refuse and it has drifted or can't be compared.
    """
    contract, drift = champion_contract(config), None
    require_same_problem(config, data, contract)
    if contract is not None and (config.drift.action != "off" or config.decision.incomparable != "promote"):
        drift = _measure(config, data, contract)
    if drift is not None:
        logger.info("drift     %s", drift.sentence)
    return drift


def _measure(config: RetrainConfig, data: DataRef, contract: InputContract) -> DriftRecord | None:
    """Read the table once: check it for emptied columns, and measure the drift of the others."""
    digest = Store(config.store).digest_of(config.name, "champion")
    try:
        conformed = Conformer(contract).table(read_table(data.file.path))
    except DataRefused as error:
        if config.drift.action == "refuse":
            raise
        if config.drift.action == "off":
            return None
        sentence = f"can't be compared with the champion's training table: {error}"
        return DriftRecord(against=digest, severity=None, sentence=sentence, document={})
    # Columns that are missing or of another kind have a message of their own.
    if config.decision.incomparable != "promote":
        refuse_emptied(config.name, contract, conformed.counts)
    if config.drift.action == "off":
        return None
    meter = DriftMeter(contract)
    meter.add(conformed)
    report = meter.report()
    path = work_dir(config) / f"drift-{data.fingerprint[:16]}-{digest[:16]}.json"
    write_atomic(path, dump_json(report.to_json()))
    keep_latest(path, "drift-*.json")
    if config.drift.action == "refuse":
        report.refuse_from(config.drift.severity)
    return DriftRecord.of(report, against=digest)
