"""Columns that the champion learned from and that hold next to nothing in a new table."""

from __future__ import annotations

from ai.ml.core.bundle_dir import read_manifest
from ai.ml.core.contract import Conformer
from ai.ml.core.contract.counts import USUAL
from ai.ml.core.errors import DataRefused
from ai.ml.core.input_contract import InputContract
from ai.ml.core.tables.reader import read_table
from ai.ml.retraining.records import DataRef
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.store import Store


def refuse_emptied(config: RetrainConfig, data: DataRef) -> None:
    """Refuse a table that lost what the champion reads: weighed on it, the champion has to lose.

    Raises:
        DataRefused: nine tenths more of a column's cells are missing than at the champion's training, unless
            `decision.incomparable` says to promote all the same; names each column with its share.
    """
    store = Store(config.store)
    if config.decision.incomparable == "promote" or store.champion(config.name) is None:
        return
    record = read_manifest(store.resolve(f"{config.name}@champion")).contract
    if record is None:
        return
    contract = InputContract.from_json(record)
    try:
        counts = Conformer(contract).table(read_table(data.file.path)).counts
    except DataRefused:
        # Columns that are gone or of another kind have their own sentence.
        return
    limit = USUAL.missing or 1.0
    lost = [
        f"{column.name!r} ({counts.columns[column.name].missing / counts.rows:.0%} missing, {column.missing_share:.0%} "
        "at its training)"
        for column in contract.columns
        if counts.rows >= USUAL.from_rows
        and counts.columns[column.name].missing / counts.rows > limit + column.missing_share
    ]
    if lost:
        raise DataRefused(
            f"{config.name}: columns that the champion reads hold next to nothing now: {', '.join(lost)}; nothing was "
            "trained. Mend the table, or, if it is as it should be, say --incomparable promote"
        )
