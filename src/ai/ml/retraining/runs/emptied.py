"""Columns that the champion learned from and that are almost empty in a new table."""

from __future__ import annotations

from ai.ml.core.contract.counts import USUAL, ContractCounts
from ai.ml.core.errors import DataRefused
from ai.ml.core.input_contract import InputContract


def refuse_emptied(name: str, contract: InputContract, counts: ContractCounts) -> None:
    """Refuse a table that lost what the champion reads: weighed on it, the champion has to lose.

    Args:
        name: of the model.
        contract: the champion's.
        counts: of the table by that contract.

    Raises:
        DataRefused: nine tenths more of a column's cells are missing than at the champion's training; names each column
            with its share.
    """
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
            f"{name}: columns that the champion reads hold next to nothing now: {', '.join(lost)}; nothing was "
            "trained. Mend the table, or, if it is as it should be, say --incomparable promote"
        )
