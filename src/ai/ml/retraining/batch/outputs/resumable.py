"""The protocol of a resumable output, the same wherever it is kept: claim, keep what is done, write the rest, finish.

A run takes the output for its job, or goes on with it. A part whose receipt is there, whose input is as it was and
which is still whole is kept; every other one is written anew, its receipt after it. When each part has a receipt, the
manifest is published, then the mark of success. Whatever a run was killed at, the next one goes on from the receipts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ai.ml.core.errors import UsageError
from ai.ml.retraining.batch.outputs.job_record import JobRecord, manifest_json
from ai.ml.retraining.batch.outputs.location import OutputLocation
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.receipts import Receipt
from ai.ml.retraining.batch.score_part import ScoredPart, has_changed_input
from ai.ml.retraining.settings.predict import BatchSettings


@dataclass(frozen=True)
class ResumableOutput:
    """An output of batch scoring. Picklable: workers get a copy, made after `begin`."""

    location: OutputLocation

    def part_format(self, settings: BatchSettings) -> str:
        """The format of a part: `csv`, `parquet`, or `auto` for that of its input."""
        return settings.output_format

    def check_input(self, source: str, query: str | None, parts: Sequence[Part]) -> None:
        """Refuse an input that this output can't take, before anything is read.

        Raises:
            UsageError: the answers would replace what they are made of.
            DataRefused: the parts don't go together here.
        """
        self.location.check_input(source, query, parts)

    def lock(self) -> AbstractContextManager[None]:
        """Held by the one run that writes there; raises Busy if another one does."""
        return self.location.lock()

    def begin(self, job: JobRecord, *, overwrite: bool) -> None:
        """Take the output for this job, anew or to go on with it, and write down what the job is.

        Raises:
            UsageError: it belongs to another job, or holds what isn't ours.
        """
        found = self.location.read_job()
        replaced = None
        if found is not None and found != job and (overwrite or self._is_idle()):
            replaced = found
            self._refuse_foreign_parts(job, found)
        elif found is not None:
            job.refuse_another(found, self.location.name)
        self.location.claim(job, replaced)

    def receipt(self, part: str) -> Receipt | None:
        """The receipt of a part from an earlier run or this one, whether the part still exists or not."""
        return self.location.read_receipt(part)

    def discard(self, job: JobRecord) -> None:
        """Remove this job's files and its record; call it after `begin`, and `begin` again afterwards."""
        self.location.remove(job)

    def done(self, part: Part) -> Receipt | None:
        """The receipt of a part that is whole and whose input is as it was; None if it must be scored.

        Reads the part and its input in full, where only that can tell.

        Raises:
            UsageError: the input part has changed since it was scored.
        """
        receipt = self.location.read_receipt(part.name)
        if receipt is None or not has_same_input(receipt, part):
            return None
        return receipt if self.location.holds(receipt) else None

    def write(self, scored: ScoredPart) -> Receipt:
        """Score a part and publish it whole or not at all, then its receipt; raises as `OutputLocation.write`."""
        return self.location.write(scored)

    def finish(self, job: JobRecord, receipts: Sequence[Receipt]) -> None:
        """Publish manifest and mark of success; every part must have a receipt. Changes nothing where that was done.

        Raises:
            UsageError: the output is another job's by now, or a part isn't what its receipt says.
        """
        manifest = manifest_json(job, receipts)
        if self.location.finished_manifest() != manifest:
            self.location.publish_manifest(manifest, job, receipts)
        self.location.remove_progress()

    def clean_up_if_empty(self) -> None:
        """After a run that ended early: where no part was done, leave nothing behind."""
        if self.location.has_claimed() and not self.location.has_receipts():
            self.location.release()

    def _is_idle(self) -> bool:
        """Whether a claim found here is worth nothing: no part is done, and no other run can be at its first one."""
        return self.location.exclusive and not self.location.has_receipts()

    def _refuse_foreign_parts(self, job: JobRecord, found: JobRecord) -> None:
        """Raise UsageError if a part would replace what the job that was found here didn't write."""
        foreign = self.location.existing({*job.parts} - {*found.parts})
        if foreign:
            raise UsageError(
                f"{self.location.name}/{min(foreign)} is there already, and the batch that wrote there didn't make it: "
                "give another output, or move it away"
            )


def has_same_input(receipt: Receipt, part: Part) -> bool:
    """Whether a part's input is proven to be what was scored; False where nothing can prove it, as of a query.

    To be asked before the answers are looked at: a part whose answers are lost must not be scored from another input
    than its neighbours were.

    Raises:
        UsageError: the input holds something else now.
    """
    if has_changed_input(receipt, part):
        raise UsageError(
            f"the input of {receipt.part} has changed since it was scored; one output never mixes two inputs: "
            "give another output, or --overwrite"
        )
    return receipt.source is not None
