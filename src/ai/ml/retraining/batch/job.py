"""Scoring a dataset of any size: plan its parts, score those that aren't done, and publish the manifest last."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai.ml.core.contract import ContractCounts
from ai.ml.core.errors import DataRefused, ExitCode, UsageError
from ai.ml.core.tables.locations import is_bucket, is_database, is_url, source_name
from ai.ml.retraining.batch.columns import AnswerColumns
from ai.ml.retraining.batch.drift import scoring_drift
from ai.ml.retraining.batch.outputs.file import FileOutput
from ai.ml.retraining.batch.outputs.folder import FolderLocation
from ai.ml.retraining.batch.outputs.job_record import JobRecord
from ai.ml.retraining.batch.outputs.resumable import ResumableOutput
from ai.ml.retraining.batch.parts import Part, group_parts, plan_parts
from ai.ml.retraining.batch.pinned import BundlePin, pin_bundle, prove_pinned
from ai.ml.retraining.batch.receipts import AnswerTally, Failure, Receipt, total_answers, total_counts
from ai.ml.retraining.batch.runners import PartOutcome, Runner, ScoringTask, run_inline
from ai.ml.retraining.batch.score_part import has_changed_input
from ai.ml.retraining.records import DriftRecord, Record
from ai.ml.retraining.settings.predict import BatchSettings

MAX_FAILURES_SHOWN = 5
MAX_NOTES_SHOWN = 3
MAX_GAPS_SHOWN = 5

__all__ = ["BatchJob", "BatchReport", "BatchSettings", "open_job", "predict_dataset", "run_job"]


class BatchReport(Record):
    """The report of a batch prediction: rows and parts, the bundle, and contract violations."""

    output: str
    bundle: str
    """Path of the bundle; a name in the store was resolved once."""
    digest: str
    """Of the bundle."""
    proof: str
    """The result of the replay before the first row."""
    rows: int
    parts: int
    kept: int
    """Parts that an earlier run had done: hashed again, not scored."""
    failures: tuple[Failure, ...]
    counts: dict[str, Any] | None
    """`ContractCounts.to_json` over all parts."""
    answers: AnswerTally
    seconds: float = 0.0
    """From the plan to the manifest. What workers take before they score (imports, a proof each) is in it; the proof in
    this process and the start of a cluster's processes are not."""
    drift: DriftRecord | None = None
    """From the training table, over all parts; None if it isn't configured."""

    @property
    def exit_code(self) -> ExitCode:
        """Exit code 4 if a part couldn't be scored, else 0."""
        return ExitCode.DATA if self.failures else ExitCode.OK

    @property
    def sentence(self) -> str:
        """A sentence on the rows scored, contract violations, and missing parts."""
        kept = f" ({self.kept} of {self.parts} parts were done before)" if self.kept else ""
        drift = f"; {self.drift.sentence}" if self.drift is not None else ""
        summary = f"{self.output}: {self.rows:,} rows scored{kept}{_violations(self.counts)}{drift}"
        if not self.failures:
            return summary
        causes = "; ".join(f"{failure.source}: {failure.message}" for failure in self.failures[:MAX_FAILURES_SHOWN])
        more = len(self.failures) - MAX_FAILURES_SHOWN
        return (
            f"{summary}; {len(self.failures)} of {self.parts} parts could not be scored, run again once they are "
            f"mended: {causes}{f'; and {more} more' if more > 0 else ''}"
        )


@dataclass(frozen=True)
class BatchJob:
    """A planned job."""

    task: ScoringTask
    parts: tuple[Part, ...]
    output: str

    @property
    def record(self) -> JobRecord:
        """The record in the output by which a later run knows the job."""
        names = tuple(part.name for part in self.parts)
        asked = [part.source for part in self.parts if is_database(part.source)]
        return JobRecord(
            bundle=self.task.pin.digest,
            settings=self.task.settings.identity(),
            parts=names,
            source=source_name(asked[0]) if asked else None,
        )


def predict_dataset(
    bundle_path: Path,
    source: str,
    output: str,
    settings: BatchSettings | None = None,
    *,
    run: Runner = run_inline,
    progress: Callable[[int, int], None] | None = None,
) -> BatchReport:
    """Score every row of a file or a folder of parts, in its order; a further run scores only what isn't done.

    Memory is that of a few batches, whatever the size.

    Args:
        bundle_path: bundle directory, or a `.pt` file (without a manifest beside it there is no contract).
        source: CSV, Parquet or Excel file, folder of CSV or Parquet parts, or database URL.
        output: a file (by its suffix), else a folder with a part for each of the input's. Columns: those of `keep`,
            `TARGET_predicted`, and with `proba` a `TARGET_probability_CLASS` for each class.
        settings: see `BatchSettings`.
        run: who scores the groups of parts.
        progress: called with the parts done and their number in all.

    Raises:
        BundleRefused: the bundle is damaged.
        GateRefused: this environment gives other bits than the trained model did.
        DataRefused: there are no parts, or the only part can't be scored, or `drift` refuses them; among several
            parts, one that can't be scored is a failure in the report.
        UsageError: the settings don't fit the bundle, or the output belongs to another job.
        Busy: another run is writing to that output.
        StorageFailed: the disk refused; what was done before stays.
    """
    job = open_job(pin_bundle(bundle_path), source, output, settings or BatchSettings())
    return run_job(job, run, progress=progress)


def open_job(
    pin: BundlePin, source: str, output: str, settings: BatchSettings, *, table: str | None = None
) -> BatchJob:
    """Check everything that can be checked before the first side effect, and plan the parts.

    Raises:
        As `predict_dataset`.
    """
    for location in (source, output):
        _check_location(location, is_input=location == source)
    proven = prove_pinned(pin, settings.device)
    AnswerColumns.plan(proven.bundle, settings.keep, proba=settings.proba)
    if not is_url(source) and not Path(source).exists():
        _refuse_absent(source, settings)
    destination = choose_destination(output, table)
    parts = plan_parts(source, destination.part_format(settings))
    if is_bucket(output) and is_bucket(source):
        inside = f"{output.rstrip('/')}/".startswith(f"{source.rstrip('/')}/")
    else:
        inside = not is_url(output) and not is_url(source) and _lies_inside(Path(output), Path(source), parts)
    if inside:
        raise UsageError(f"the output {output} lies inside the input {source}: its parts would be taken for input")
    destination.check_input(source, settings.query, parts)
    return BatchJob(ScoringTask(pin, destination, settings), parts, source_name(output))


def choose_destination(output: str, table: str | None = None) -> ResumableOutput:
    """The output at a path or URL, by its kind.

    Args:
        output: a path, `s3://BUCKET/PREFIX` or a database URL.
        table: the table of the database.

    Raises:
        UsageError: nothing can be written there.
    """
    if is_bucket(output):
        from ai.ml.retraining.batch.outputs.bucket import BucketLocation

        return ResumableOutput(BucketLocation(output))
    if is_url(output):
        from ai.ml.retraining.batch.outputs.sql import SqlLocation

        return ResumableOutput(SqlLocation(output, table))
    if table is not None:
        raise UsageError(f"a table {table!r} is for a database, and {output} is none: leave it out")
    if Path(output).suffix and not output.endswith("/") and not Path(output).is_dir():
        return FileOutput(output)
    return ResumableOutput(FolderLocation(str(Path(output).absolute())))


def run_job(
    job: BatchJob,
    run: Runner = run_inline,
    *,
    task_bytes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> BatchReport:
    """Score what isn't done and finish the output if no part failed; raises as `predict_dataset`."""
    destination = job.task.destination
    drift, unread = scoring_drift(job.task, job.parts)
    outcomes = {name: PartOutcome(failure, kept=False) for name, failure in unread.items()}
    readable = [part for part in job.parts if part.name not in unread]
    began = time.monotonic()
    finished = False
    with destination.lock():
        try:
            _claim_output(job)
            for group in run(job.task, group_parts(readable, task_bytes)):
                outcomes |= {outcome.result.part: outcome for outcome in group}
                if progress is not None:
                    progress(len(outcomes), len(job.parts))
            results = [outcomes[part.name] for part in job.parts]
            receipts = [outcome.result for outcome in results if isinstance(outcome.result, Receipt)]
            if len(receipts) == len(job.parts):
                destination.finish(job.record, receipts)
                finished = True
        finally:
            # What was finished may be another run's by now.
            if not finished:
                destination.clean_up_if_empty()
    return _report(job, results, drift).model_copy(update={"seconds": time.monotonic() - began})


def _claim_output(job: BatchJob) -> None:
    """Begin, or with `overwrite` begin anew where an input has changed."""
    destination, overwrite = job.task.destination, job.task.settings.overwrite
    destination.begin(job.record, overwrite=overwrite)
    if not overwrite:
        return
    receipts = ((part, destination.receipt(part.name)) for part in job.parts)
    if any(receipt is not None and has_changed_input(receipt, part) for part, receipt in receipts):
        destination.discard(job.record)
        destination.begin(job.record, overwrite=overwrite)


def _report(job: BatchJob, outcomes: Sequence[PartOutcome], drift: DriftRecord | None) -> BatchReport:
    receipts = [outcome.result for outcome in outcomes if isinstance(outcome.result, Receipt)]
    failures = tuple(outcome.result for outcome in outcomes if isinstance(outcome.result, Failure))
    if failures and len(job.parts) == 1:
        raise DataRefused(failures[0].message)
    counts = total_counts(receipts)
    return BatchReport(
        output=job.output,
        bundle=job.task.pin.path,
        digest=job.task.pin.digest,
        proof=prove_pinned(job.task.pin, job.task.settings.device).proof,
        rows=sum(receipt.rows for receipt in receipts),
        parts=len(job.parts),
        kept=sum(outcome.kept for outcome in outcomes),
        failures=failures,
        counts=None if counts is None else counts.to_json(),
        answers=total_answers(receipts),
        drift=drift,
    )


def _lies_inside(output: Path, source: Path, parts: Sequence[Part]) -> bool:
    """Whether writing there would add to the input, by whatever spelling or link."""
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        return True
    if output.is_file() and any(output.samefile(part.source) for part in parts):
        raise UsageError(f"{output} is the input itself: give another output")
    if output.resolve() in source.resolve().parents:
        raise UsageError(f"the input {source} lies inside the output {output}: give another output")
    return False


def _check_location(location: str, *, is_input: bool) -> None:
    """Raise UsageError for an impossible path, DataRefused for an input that isn't a file or folder."""
    try:
        mode = None if is_url(location) else Path(location).stat().st_mode
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except (OSError, ValueError) as error:
        raise UsageError(f"{location!r} can't be a place: {getattr(error, 'strerror', None) or error}") from None
    if is_input and mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataRefused(f"{location} is neither a file nor a folder: give one")


def _refuse_absent(source: str, settings: BatchSettings) -> None:
    from ai.ml.core.tables.reader import read_batches

    # The reader's own sentence names files with near names.
    next(read_batches(source, settings.read))


def _violations(record: dict[str, Any] | None) -> str:
    if record is None:
        return " (no input contract)"
    counts = ContractCounts.from_json(record)
    found = [
        f"{name!r}: {count:,} {kind.replace('_', ' ')}"
        for name, column in counts.columns.items()
        for kind, count in vars(column).items()
        if count and kind != "missing"
    ]
    gaps = sorted(((column.missing, name) for name, column in counts.columns.items() if column.missing), reverse=True)
    violations = f"; contract violations in {', '.join(found)}" if found else ""
    if gaps:
        shown = ", ".join(f"{name!r}: {count:,}" for count, name in gaps[:MAX_GAPS_SHOWN])
        more = f" and {len(gaps) - MAX_GAPS_SHOWN} more columns" if len(gaps) > MAX_GAPS_SHOWN else ""
        violations += f"; missing cells in {shown}{more}"
    more = f"; and {len(counts.notes) - MAX_NOTES_SHOWN} more notes" if len(counts.notes) > MAX_NOTES_SHOWN else ""
    return violations + "".join(f"; {note}" for note in counts.notes[:MAX_NOTES_SHOWN]) + more
