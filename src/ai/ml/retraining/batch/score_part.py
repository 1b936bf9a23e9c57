"""Scoring one part: read, encode, answer and write at the same time, a batch at a time, in the rows' order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from ai.ml.core.contract import STRICT, USUAL, ContractCounts, Limits
from ai.ml.core.contract.casting import KIND_CELLS
from ai.ml.core.errors import DataRefused
from ai.ml.core.input_contract import InputContract
from ai.ml.core.number_text import counted
from ai.ml.core.reading import NOTHING_TOLD
from ai.ml.core.tables.locations import is_bucket, is_url
from ai.ml.core.tables.notes import kept_notes
from ai.ml.core.tables.reader import ReadOptions, read_batches, read_table
from ai.ml.retraining.batch.columns import AnswerColumns, tally_answers
from ai.ml.retraining.batch.part_writer import write_part
from ai.ml.retraining.batch.parts import Part, local_copy, object_content
from ai.ml.retraining.batch.pinned import BundlePin, ProvenBundle, pin_bundle, prove_pinned
from ai.ml.retraining.batch.prefetch import prefetch
from ai.ml.retraining.batch.receipts import AnswerTally, Content, Receipt, compact_counts, file_content
from ai.ml.retraining.settings.predict import BatchSettings

CONTRADICTING_SHARE = 0.1
"""The share of a batch's rows in another number format from which on the table's numbers can't be trusted."""
BATCH_ROWS = 32_768
"""A multiple of the tile; it decides a receipt's sums, so it isn't a setting."""

SourceStamp = tuple[int, int, int]
"""Inode, bytes and time of change in nanoseconds."""


@dataclass
class ScoredPart:
    """The output rows of one part, as a stream; its figures are complete after the last row."""

    proven: ProvenBundle
    part: Part
    settings: BatchSettings
    partition_columns: bool = False
    """Write the columns that stand in the folders' names, because the output has no such folders."""
    last_check: Callable[[], None] | None = None
    """Called when all rows are written and before they take the part's name; what it raises leaves them unpublished."""
    rows: int = 0
    counts: ContractCounts | None = None
    answers: AnswerTally = field(default_factory=AnswerTally)
    points: dict[str, int] = field(default_factory=dict[str, int])
    """Cells by column with a decimal point where the marks have a comma."""

    def tables(self) -> Iterator[pa.Table]:
        """The output, at least one table.

        Raises:
            DataRefused: the part can't be read, doesn't meet the contract, or with `strict` exceeds its limits.
        """
        # Three threads: this one writes, one scores, one reads and decodes.
        with closing(prefetch(self._scored())) as tables:
            yield from tables

    def receipt(self, content: Content | None, source: Content | None) -> Receipt:
        """The part's receipt; available after the last row."""
        return Receipt(
            part=self.part.name,
            rows=self.rows,
            content=content,
            source=source,
            counts=compact_counts(self.counts),
            answers=self.answers,
        )

    def _scored(self) -> Iterator[pa.Table]:
        bundle = self.proven.bundle
        scorer = self.proven.scorer()
        folders = tuple(name for name, _ in self.part.partition)
        inner = tuple(name for name in self.settings.keep if name not in folders)
        keep = (*folders, *inner) if self.partition_columns else inner
        columns = AnswerColumns.plan(bundle, keep, proba=self.settings.proba)
        # What is kept must look as it stands there, and the model may read the same cell as a number.
        reading = self._reading()
        with kept_notes() as reader_notes, closing(prefetch(_raw_batches(self.part, reading, BATCH_ROWS))) as batches:
            for batch in batches:
                self._look_for_points(batch, reading)
                answers = scorer.score_table(_plain_cells(batch, reading))
                self.rows += batch.num_rows
                self.answers = self.answers.merge(tally_answers(answers.decoded, bundle.task))
                yield columns.table(batch, scorer, answers)
        self.counts = scorer.counts
        if self.counts is not None:
            point_notes = (f"{name!r} has {counted(n, 'cell')} with a decimal point" for name, n in self.points.items())
            self.counts = replace(
                self.counts, notes=tuple(dict.fromkeys((*self.counts.notes, *reader_notes, *point_notes)))
            )
        if scorer.counts is not None and bundle.contract is not None and self.rows:
            usual = Limits() if self.settings.allow_empty_columns else USUAL
            (STRICT if self.settings.strict else usual).check(scorer.counts, bundle.contract)

    def _look_for_points(self, batch: pa.RecordBatch, read: ReadOptions) -> None:
        """Cells with a decimal point in a table that is read with a comma, by the training's options.

        Raises:
            DataRefused: they are many, so the marks aren't those of this table.
        """
        contract = self.proven.bundle.contract
        if contract is None or read.decimal is not None or read.marks.decimal == ".":
            return
        for column in contract.columns:
            if column.kind != "number" or column.name not in batch.schema.names:
                continue
            cells, example = read.marks.contradictions(batch.column(column.name))
            if cells >= KIND_CELLS and cells >= CONTRADICTING_SHARE * batch.num_rows:
                raise DataRefused(
                    f"column {column.name!r}: {cells:,} of {batch.num_rows:,} cells have a decimal point, such as "
                    f"{example!r}, and the training was told {contract.reading.flags}; say --decimal . if this table "
                    "is written so"
                )
            if cells:
                self.points[column.name] = self.points.get(column.name, 0) + cells

    def _reading(self) -> ReadOptions:
        """With the columns that the contract says are numbers; what is kept must look as it stands there."""
        contract = self.proven.bundle.contract
        columns = () if contract is None else contract.columns
        numbers = {column.name.strip() for column in columns if column.kind == "number" and not column.amount}
        read = reading_for(self.settings, contract)
        return replace(read, numbers=frozenset(numbers - set(self.settings.keep)))


def reading_for(settings: BatchSettings, contract: InputContract | None) -> ReadOptions:
    """The reading options of a job: its settings, else those of the training."""
    return replace(settings.read, remembered=NOTHING_TOLD if contract is None else contract.reading)


def part_batches(part: Part, read: ReadOptions, batch_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """The rows of a part, partition columns added, at least one batch.

    Raises:
        DataRefused: the part can't be read.
    """
    for batch in _raw_batches(part, read, batch_rows):
        yield _plain_cells(batch, read)


def _raw_batches(part: Part, read: ReadOptions, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a part with the cells unchanged, whatever their number format."""
    read = read.raw
    with local_copy(part.source) as path:
        rows = 0
        for batch in read_batches(path, read, batch_rows):
            rows += batch.num_rows
            yield _with_partition(batch, part)
        if not rows:
            # Without a batch the columns are unknown; the output has them all the same.
            schema = read_table(path, read).schema
            yield _with_partition(pa.RecordBatch.from_pylist([], schema=schema), part)


def _plain_cells(batch: pa.RecordBatch, read: ReadOptions) -> pa.RecordBatch:
    if read.marks.is_plain or not batch.num_rows:
        return batch
    return read.marks.plain_table(pa.Table.from_batches([batch])).combine_chunks().to_batches()[0]


def _with_partition(batch: pa.RecordBatch, part: Part) -> pa.RecordBatch:
    for name, value in part.partition:
        if name not in batch.schema.names:
            batch = batch.append_column(name, pa.repeat(pa.scalar(value, pa.string()), batch.num_rows))
    return batch


def predict_partition(
    bundle_dir: Path, part_in: str, part_out: str, settings: BatchSettings | None = None, *, digest: str | None = None
) -> Receipt:
    """Score one file into another; pure: the same arguments give the same bytes anywhere.

    Args:
        bundle_dir: bundle directory or `.pt` file, loaded and proven once per process.
        part_in: CSV, Parquet or Excel file.
        part_out: CSV or Parquet file by its suffix, written beside and renamed.
        settings: see `BatchSettings`.
        digest: the bundle must have it.

    Raises:
        DataRefused: the part can't be read or doesn't meet the contract; nothing is written.
        BundleRefused: the bundle is damaged, or not the one of that digest.
        GateRefused: this environment gives other bits than the trained model did.
        StorageFailed: the disk refused.
    """
    settings = settings or BatchSettings()
    pin = pin_bundle(bundle_dir)
    proven = prove_pinned(BundlePin(pin.path, digest or pin.digest), settings.device)
    target = Path(part_out)
    source = Path(part_in)
    size = source.stat().st_size if source.is_file() else 0
    return write_scored(ScoredPart(proven, Part(target.name, part_in, size), settings), target)


def write_scored(scored: ScoredPart, target: Path) -> Receipt:
    """Write a part's output to a local file; raises as `predict_partition`."""
    before = source_stamp(scored.part)
    source = source_content(scored.part)
    return scored.receipt(write_part(target, unchanged_tables(scored, source, before)), source)


def unchanged_tables(scored: ScoredPart, source: Content | None, before: SourceStamp | None) -> Generator[pa.Table]:
    """The output of a part whose input held `source` after it had the stamp `before`.

    Raises:
        DataRefused: as `ScoredPart.tables`, or the input was changed meanwhile.
    """
    yield from scored.tables()
    if source_stamp(scored.part) != before or (is_bucket(scored.part.source) and source_content(scored.part) != source):
        raise DataRefused(f"{scored.part.source} changed while it was scored: score it again")
    if scored.last_check is not None:
        scored.last_check()


def source_stamp(part: Part) -> SourceStamp | None:
    """A stamp that changes with an input file; take it before `source_content`, or a change between them is missed."""
    try:
        found = Path(part.source).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def source_content(part: Part) -> Content | None:
    """The present content of an input part: a file by its sha-256, an object by its version tag; None for a query.

    Raises:
        StorageFailed: the disk or the bucket refused.
    """
    if is_bucket(part.source):
        return object_content(part.source)
    path = Path(part.source)
    if is_url(part.source) or not path.is_file():
        return None
    return file_content(path)


def has_changed_input(receipt: Receipt, part: Part) -> bool:
    """Whether a part's input is proven to differ from what was scored; reads it in full."""
    return receipt.source is not None and receipt.source != source_content(part)
