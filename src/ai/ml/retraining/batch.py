"""Scoring a table of any size: read, answer and write a batch at a time, and publish the result whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from ai.ml.core.contract import STRICT, ContractCounts, Limits
from ai.ml.core.errors import DataRefused, ExitCode, UsageError
from ai.ml.core.files import write_atomic
from ai.ml.core.manifest import read_manifest
from ai.ml.core.tables import ReadOptions, read_batches
from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.inference import Answers, Scorer, ScoringSettings
from ai.ml.frameworks.pytorch.serialization import load_bundle

BATCH_ROWS = 65_536
BUNDLE_FILE = "model_bundle.pt"


@dataclass(frozen=True)
class BatchSettings:
    """What to write beside the answers, and what to refuse."""

    proba: bool = False
    """A column of probabilities for each class."""
    keep: tuple[str, ...] = ()
    """Input columns that are carried to the output."""
    strict: bool = False
    """Refuse what the contract otherwise only counts."""
    read: ReadOptions = field(default_factory=ReadOptions)


@dataclass(frozen=True)
class BatchReport:
    """What was scored."""

    output: Path
    rows: int
    counts: ContractCounts | None

    @property
    def exit_code(self) -> ExitCode:
        """0: a report is made only of what was written."""
        return ExitCode.OK

    @property
    def sentence(self) -> str:
        """What was done, and what was odd about the rows."""
        return f"{self.output}: {self.rows:,} rows scored{_odd(self.counts)}"


def predict_dataset(bundle_path: Path, source: str, output: str, settings: BatchSettings | None = None) -> BatchReport:
    """Score every row of a table, in its order.

    Memory is that of a batch, whatever the table's size. The output takes its name only when the last row is written.

    Args:
        bundle_path: bundle directory, or a `.pt` file (without a manifest beside it there is no contract).
        source: CSV, Parquet or Excel file, folder of Parquet parts, or database URL.
        output: CSV or Parquet file, by its suffix. Columns: those of `keep`, `TARGET_predicted`, and with `proba` a
            `TARGET_probability_CLASS` for each class.
        settings: see `BatchSettings`.

    Raises:
        BundleRefused: the bundle is damaged.
        DataRefused: the table doesn't meet the contract, or with `strict` exceeds its limits.
        UsageError: a column to keep isn't there, or the output's suffix is unknown.
        StorageFailed: the disk refused; an older output is as it was.
    """
    settings = settings or BatchSettings()
    target = Path(output)
    if target.suffix not in (".csv", ".tsv", ".parquet"):
        raise UsageError(f"can't write {target}: the name must end in .csv, .tsv or .parquet")
    if not target.parent.is_dir():
        raise UsageError(f"can't write {target}: there is no folder {target.parent}")
    scorer = _scorer(bundle_path)
    if settings.proba and scorer.bundle.task != "classification":
        raise UsageError("probabilities are for classification, this bundle is a regression")
    rows = 0

    def write(stream: BinaryIO) -> None:
        nonlocal rows
        rows = _write(stream, target.suffix, _answers(scorer, source, settings))
        if scorer.counts is not None and scorer.bundle.contract is not None:
            # Without `strict` only rows in which nothing is recognisable are refused.
            (STRICT if settings.strict else Limits()).check(scorer.counts, scorer.bundle.contract)

    write_atomic(target, write)
    return BatchReport(target, rows, scorer.counts)


def _scorer(bundle_path: Path) -> Scorer:
    file = bundle_path if bundle_path.is_file() else bundle_path / BUNDLE_FILE
    bundle = load_bundle(file, map_location="cpu")
    sealed = (file.parent / "manifest.json").is_file()
    settings = ScoringSettings.from_manifest(read_manifest(file.parent).scoring) if sealed else ScoringSettings()
    return Scorer(bundle, settings, "cpu")


def _answers(scorer: Scorer, source: str, settings: BatchSettings) -> Iterator[pa.RecordBatch]:
    for batch in read_batches(source, settings.read, BATCH_ROWS):
        for name in settings.keep:
            if name not in batch.schema.names:
                raise UsageError(f"{source} has no column {name!r} to keep; it has {', '.join(batch.schema.names)}")
        columns = {name: batch.column(name) for name in settings.keep}
        answers = scorer.score_table(batch)
        yield pa.RecordBatch.from_pydict(columns | _answer_columns(scorer, answers, proba=settings.proba))


def _answer_columns(scorer: Scorer, answers: Answers, *, proba: bool) -> dict[str, pa.Array]:
    bundle = scorer.bundle
    decoded = answers.decoded.astype(str) if answers.decoded.dtype == object else answers.decoded
    columns = {f"{bundle.target_column}_predicted": pa.array(decoded)}
    if proba:
        for name, shares in zip(class_labels(bundle), scorer.probabilities(answers.raw).T, strict=True):
            columns[f"{bundle.target_column}_probability_{name}"] = pa.array(np.ascontiguousarray(shares))
    return columns


def class_labels(bundle: ModelBundle) -> list[str]:
    """The classes' names, or their numbers where the bundle has none."""
    return bundle.class_names or [str(index) for index in range(bundle.output_dim)]


def _write(stream: BinaryIO, suffix: str, batches: Iterator[pa.RecordBatch]) -> int:
    first = next(batches, None)
    if first is None:
        raise DataRefused("there are no rows to score")
    if suffix == ".parquet":
        writer: pq.ParquetWriter | csv.CSVWriter = pq.ParquetWriter(stream, first.schema, write_page_checksum=True)
    else:
        writer = csv.CSVWriter(
            stream, first.schema, write_options=csv.WriteOptions(delimiter="\t" if suffix == ".tsv" else ",")
        )
    rows = 0
    with writer:
        while first is not None:
            writer.write_batch(first)
            rows += first.num_rows
            first = next(batches, None)
    return rows


def _odd(counts: ContractCounts | None) -> str:
    if counts is None:
        return " (no input contract)"
    parts = [
        f"{name!r}: {count:,} {kind.replace('_', ' ')}"
        for name, column in counts.columns.items()
        for kind, count in vars(column).items()
        if count and kind != "missing"
    ]
    return f"; odd cells in {', '.join(parts)}" if parts else ""
