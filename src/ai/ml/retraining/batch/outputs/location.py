"""The storage behind a resumable output: a folder, a prefix in a bucket or an SQL table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from ai.ml.retraining.batch.outputs.job_record import JobRecord
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.receipts import Receipt
from ai.ml.retraining.batch.score_part import ScoredPart


class OutputLocation(ABC):
    """Keeps one output: its job's record, a receipt for each part, the parts, the manifest.

    It doesn't decide when these are trusted or replaced; `ResumableOutput` does. Picklable: workers get a copy, made
    after `claim`. Every method raises StorageFailed where the disk, the bucket or the database refuses.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The location's name in messages."""

    def check_input(self, source: str, query: str | None, parts: Sequence[Part]) -> None:  # noqa: B027 most take any
        """Refuse an input that can't be scored into this location, before anything is read; most take any.

        Raises:
            UsageError: the answers would replace what they are made of.
        """

    @property
    @abstractmethod
    def exclusive(self) -> bool:
        """Whether `lock` keeps other runs away."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Held by the one run that writes here; raises Busy if another one does."""

    @abstractmethod
    def read_job(self) -> JobRecord | None:
        """The job that was begun or finished here; None where nothing is.

        Raises:
            UsageError: something is here that no batch made, or the record can't be read.
        """

    @abstractmethod
    def existing(self, names: Iterable[str]) -> set[str]:
        """Which of these names of parts exist, whoever wrote them."""

    @abstractmethod
    def claim(self, job: JobRecord, replaced: JobRecord | None) -> None:
        """Record that this is the output of `job`, after removing the output of `replaced`.

        Changes nothing where the job is recorded already, or finished.

        Raises:
            UsageError: another job has claimed it since `read_job`, or the job has names that can't stand here.
        """

    @abstractmethod
    def has_claimed(self) -> bool:
        """Whether the claim here may be this run's own, to be taken back by `release` while no part is done."""

    @abstractmethod
    def release(self) -> None:
        """Remove the job's record, where no answer is left that it would speak of."""

    @abstractmethod
    def has_receipts(self) -> bool:
        """Whether a part was ever done here."""

    @abstractmethod
    def read_receipt(self, part: str) -> Receipt | None:
        """The receipt of a part of this job, whether the part still exists or not."""

    @abstractmethod
    def holds(self, receipt: Receipt) -> bool:
        """Whether the part that a receipt is about is here, as it was written."""

    @abstractmethod
    def write(self, scored: ScoredPart) -> Receipt:
        """Score a part and publish it whole or not at all, then its receipt.

        Raises:
            DataRefused: the part can't be scored, or can't stand here.
            UsageError: the output is another job's by now.
        """

    @abstractmethod
    def finished_manifest(self) -> bytes | None:
        """The manifest, if it and the mark of success exist and no job is in progress."""

    @abstractmethod
    def publish_manifest(self, manifest: bytes, job: JobRecord, receipts: Sequence[Receipt]) -> None:
        """Write the manifest, then the mark of success.

        Raises:
            UsageError: the output is another job's by now, or a part isn't what its receipt says.
        """

    @abstractmethod
    def remove_progress(self) -> None:
        """Remove the records of a job in progress; the manifest has the receipts by then."""

    @abstractmethod
    def remove(self, job: JobRecord) -> None:
        """Remove the files of a job and its record, the mark of success first; other files stay."""
