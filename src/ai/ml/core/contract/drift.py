"""How far a table has moved from the one that a model was trained on: PSI and KS per column, from the contract alone.

Both come from counts between the contract's percentiles, so a table of any size is measured in pieces and the training
data needn't be there. The usual thresholds: a population stability index (PSI) below 0.1 is stable, from 0.25 on it is
major. Neither it nor a Kolmogorov-Smirnov (KS) distance counts where its p-value says that it may be an accident, as
among a few rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from ai.ml.core.contract.casting import Conformed, Conformer
from ai.ml.core.errors import DataRefused
from ai.ml.core.input_contract import ColumnContract, InputContract

PSI_MODERATE = 0.1
PSI_MAJOR = 0.25
KS_DISTANCE = 0.1
P_VALUE = 0.01
MIN_SHARE = 1e-4
"""Stands for the share of a bin that nothing fell into, or one bin would make the index infinite."""
MIN_EXPECTED = 0.25
"""Cells in a bin that counts by itself in the chi-square test."""

Severity = Literal["stable", "moderate", "major"]
_ORDER: tuple[Severity, ...] = ("stable", "moderate", "major")
_SHOWN = 10


@dataclass(frozen=True)
class ColumnDrift:
    """One column's distance from training."""

    column: str
    psi: float
    """Over deciles (levels, for a category) and the missing cells."""
    psi_p_value: float
    """How likely such different bins are without any drift: Pearson's chi-square test of the two tables."""
    ks: float | None
    """Greatest distance of the two cumulative distributions, to about 0.01; None for a category."""
    ks_p_value: float | None
    missing_share: float
    missing_share_at_training: float
    severity: Severity


@dataclass(frozen=True)
class DriftReport:
    """Every column, the most moved one first."""

    rows: int
    columns: tuple[ColumnDrift, ...]

    @property
    def severity(self) -> Severity:
        """The severity of the column that has moved most."""
        return _ORDER[max((_ORDER.index(column.severity) for column in self.columns), default=0)]

    @property
    def sentence(self) -> str:
        """What has moved, the farthest first."""
        if not self.rows:
            return "no drift could be measured: there are no rows"
        moved = [column for column in self.columns if column.severity != "stable"]
        if not moved:
            return f"no drift in {self.rows:,} rows"
        named = ", ".join(map(_figures, moved[:_SHOWN])) + (", …" if len(moved) > _SHOWN else "")
        return f"{self.severity} drift in {self.rows:,} rows: {named}"

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "rows": self.rows,
            "severity": self.severity,
            "thresholds": {
                "psi_moderate": PSI_MODERATE,
                "psi_major": PSI_MAJOR,
                "ks_distance": KS_DISTANCE,
                "p_value": P_VALUE,
            },
            "columns": [dict(vars(column)) for column in self.columns],
        }

    def refuse_from(self, severity: Severity) -> None:
        """Turn drift into a refusal.

        Raises:
            DataRefused: a column's drift is as severe as that or more; all of them are named.
        """
        beyond = [column for column in self.columns if _ORDER.index(column.severity) >= _ORDER.index(severity)]
        if beyond:
            shown = ", ".join(map(_figures, beyond))
            raise DataRefused(f"the table has drifted from the training table, {severity} or worse: {shown}")


def _figures(column: ColumnDrift) -> str:
    ks = "" if column.ks is None else f", KS {column.ks:.2f}"
    return f"{column.column!r} (PSI {column.psi:.2f}{ks})"


class DriftMeter:
    """Counts conformed pieces of a table, then reports."""

    def __init__(self, contract: InputContract):
        self.contract = contract
        self.rows = 0
        self._counts = {column.name: np.zeros(len(_expected(column)), dtype=np.int64) for column in contract.columns}

    def add(self, conformed: Conformed) -> None:
        """Count the rows of a piece that `Conformer` of the same contract gave."""
        self.rows += conformed.table.num_rows
        for column in self.contract.columns:
            self._counts[column.name] += _count(column, conformed.table)

    def merge(self, other: DriftMeter) -> None:
        """Count what another meter of the same contract has counted, too."""
        self.rows += other.rows
        for name, counts in other._counts.items():
            self._counts[name] += counts

    def report(self) -> DriftReport:
        """The drift of all rows counted so far, the farthest column first."""
        columns = [_measure(column, self._counts[column.name], self.contract.rows) for column in self.contract.columns]
        return DriftReport(self.rows, tuple(sorted(columns, key=lambda drift: drift.psi, reverse=True)))


def measure_drift(contract: InputContract, pieces: Iterable[pa.Table | pa.RecordBatch]) -> DriftReport:
    """Drift of a raw table that comes in pieces; one of them is in memory at a time.

    Raises:
        DataRefused: the table doesn't meet the contract.
    """
    meter, conformer = DriftMeter(contract), Conformer(contract)
    for piece in pieces:
        meter.add(conformer.table(piece))
    return meter.report()


def _edges(column: ColumnContract) -> tuple[np.ndarray, np.ndarray]:
    """Distinct percentiles `(k,)` and the share of training values at or below each."""
    values, last = np.unique(np.asarray(column.quantiles)[::-1], return_index=True)
    return values, (len(column.quantiles) - 1 - last) / (len(column.quantiles) - 1)


def _expected(column: ColumnContract) -> np.ndarray:
    """Share of the training rows per bin; the last bin is the missing cells, a category's last but one the unseen."""
    present = 1 - column.missing_share
    if column.kind == "category":
        levels = np.array(list((column.levels or {}).values()), dtype=np.float64)
        shares = np.append(levels / max(levels.sum(), 1), 0.0) * present
    else:
        # Bins: up to the first edge, between edges, above the last.
        shares = np.diff(_edges(column)[1], prepend=0.0, append=1.0) * present
    return np.append(shares, column.missing_share)


def _count(column: ColumnContract, table: pa.Table) -> np.ndarray:
    size = len(_expected(column))
    if column.kind == "category":
        codes = table.column(column.name).combine_chunks().indices.to_numpy(zero_copy_only=False)
        known = np.minimum(codes, size - 1)
        return np.roll(np.bincount(known, minlength=size), -1)
    return _count_values(column, _days(column.name, table) if column.kind == "date" else _numbers(column.name, table))


def _count_values(column: ColumnContract, values: np.ndarray) -> np.ndarray:
    finite = values[~np.isnan(values)]
    size = len(_expected(column))
    bins = np.bincount(np.searchsorted(_edges(column)[0], finite, side="left"), minlength=size - 1)
    return np.append(bins, len(values) - len(finite))


def measure_values(record: ColumnContract, values: np.ndarray, training_rows: int) -> ColumnDrift:
    """Drift of values that stand by themselves, as the target's do.

    Args:
        record: of the training.
        values: `(n_rows,)` float64, or texts as objects where the record is of a category.
        training_rows: that the record was made of.
    """
    if record.kind != "category":
        return _measure(record, _count_values(record, values), training_rows)
    places = {level: place for place, level in enumerate(record.levels or {})}
    codes = np.array([places.get(str(value), len(places)) for value in values], dtype=np.int64)
    return _measure(record, np.append(np.bincount(codes, minlength=len(places) + 1), 0), training_rows)


def _numbers(name: str, table: pa.Table) -> np.ndarray:
    return table.column(name).to_numpy(zero_copy_only=False)


def _days(name: str, table: pa.Table) -> np.ndarray:
    """Days since 1970 of an expanded date, NaN where it is missing."""
    year, year_day = _numbers(f"{name}_year", table), _numbers(f"{name}_dayofyear", table)
    known = ~np.isnan(year)
    start = (np.where(known, year, 1970) - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.float64)
    return np.where(known, start + year_day - 1, np.nan)


def _measure(column: ColumnContract, counts: np.ndarray, training_rows: int) -> ColumnDrift:
    expected = _expected(column)
    shares = counts / max(1, counts.sum())
    rows = int(counts.sum())
    psi, psi_p_value = _psi(_coarse(column, expected), _coarse(column, shares), rows, training_rows)
    ks, p_value = (None, None) if column.kind == "category" else _ks(column, counts, training_rows)
    moved = ks is not None and p_value is not None and ks >= KS_DISTANCE and p_value < P_VALUE
    certain = psi_p_value < P_VALUE
    severity: Severity = "stable"
    if moved or (certain and psi >= PSI_MODERATE):
        severity = "major" if certain and psi >= PSI_MAJOR else "moderate"
    missing = float(shares[-1])
    return ColumnDrift(column.name, psi, psi_p_value, ks, p_value, missing, column.missing_share, severity)


def _coarse(column: ColumnContract, shares: np.ndarray) -> np.ndarray:
    """Percentile bins gathered to about ten; a category's rare levels gathered to one."""
    if column.kind == "category":
        rare = _expected(column)[:-2] < 0.01
        return np.concatenate([shares[:-2][~rare], [shares[:-2][rare].sum()], shares[-2:]])
    below = np.append(0.0, _edges(column)[1])
    tenth = np.minimum(np.ceil(below * 10 - 1e-9), 10).astype(np.int64)
    return np.append(np.bincount(tenth, shares[:-1]), shares[-1])


def _psi(expected: np.ndarray, came: np.ndarray, rows: int, training_rows: int) -> tuple[float, float]:
    """The index, and the p-value of Pearson's chi-square test that both tables are drawn from the same bins."""
    used = (expected > 0) | (came > 0)
    if not rows or not training_rows or used.sum() < 2:
        return 0.0, 1.0
    before, after = np.maximum(expected[used], MIN_SHARE), np.maximum(came[used], MIN_SHARE)
    psi = float(((after - before) * np.log(after / before)).sum())
    return psi, _chi_square(expected[used], came[used], rows, training_rows)


def _chi_square(before: np.ndarray, after: np.ndarray, rows: int, training_rows: int) -> float:
    from scipy.special import chdtrc

    pooled = (training_rows * before + rows * after) / (training_rows + rows)
    # The test is off where hardly a cell is expected in a bin: such bins count together.
    thin = pooled * min(rows, training_rows) < MIN_EXPECTED
    if thin.sum() > 1:
        before, after, pooled = (np.append(part[~thin], part[thin].sum()) for part in (before, after, pooled))
    statistic = float(((after - before) ** 2 / pooled).sum()) / (1 / rows + 1 / training_rows)
    return float(chdtrc(len(pooled) - 1, statistic)) if len(pooled) > 1 else 1.0


def _ks(column: ColumnContract, counts: np.ndarray, training_rows: int) -> tuple[float | None, float | None]:
    from scipy.special import kolmogorov

    bins, rows = counts[:-1], int(counts[:-1].sum())
    if not rows or not column.quantiles:
        return None, None
    reached = _edges(column)[1]
    distance = float(np.abs(np.cumsum(bins)[:-1] / rows - reached).max())
    trained = max(1.0, training_rows * (1 - column.missing_share))
    effective = rows * trained / (rows + trained)
    # The percentiles know the training distribution to a hundredth: less than that is no distance.
    return distance, float(kolmogorov(np.sqrt(effective) * max(0.0, distance - 0.01)))
