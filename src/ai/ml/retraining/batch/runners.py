"""Who scores the groups of parts: this process, or processes of this machine. A cluster's runner is in `tasks/`.

A runner takes a task and groups of parts, and gives the outcomes of each group as it is done, in any order. It may do
a group twice, as clusters do when a worker dies: the second time finds the receipts of the first.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from ai.ml.core.errors import BundleRefused, DataRefused, GateRefused, StorageFailed
from ai.ml.core.processes import follow_owner
from ai.ml.core.tables.locations import source_name
from ai.ml.retraining.batch.outputs.resumable import ResumableOutput
from ai.ml.retraining.batch.parts import Part
from ai.ml.retraining.batch.pinned import BundlePin, prove_pinned
from ai.ml.retraining.batch.receipts import Failure, Receipt
from ai.ml.retraining.batch.score_part import ScoredPart
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.settings.predict import BatchSettings

MAX_BROKEN_POOLS = 3
"""In a row without a group done between them: then it is no accident."""

Group = tuple[Part, ...]
_proving = threading.Lock()


@dataclass(frozen=True)
class ScoringTask:
    """The task of every worker of a job; picklable."""

    pin: BundlePin
    destination: ResumableOutput
    settings: BatchSettings


@dataclass(frozen=True)
class PartOutcome:
    """The outcome of one part: its receipt, or why it couldn't be scored."""

    result: Receipt | Failure
    kept: bool
    """It was whole before: hashed again, not scored."""


Runner = Callable[[ScoringTask, Sequence[Group]], Iterator[list[PartOutcome]]]


def score_group(task: ScoringTask, group: Group) -> list[PartOutcome]:
    """Score the parts of a group that aren't done yet; a part that can't be scored doesn't stop the others.

    Raises:
        BundleRefused: the pinned bundle isn't there any more.
        GateRefused: this environment gives other bits than the trained model did.
        UsageError: a part's input has changed since it was scored.
        StorageFailed: the disk refused; what was done before stays.
    """
    proven = prove_pinned(task.pin, task.settings.device)
    outcomes: list[PartOutcome] = []
    for part in group:
        receipt = task.destination.done(part)
        if receipt is not None:
            outcomes.append(PartOutcome(receipt, kept=True))
            continue
        try:
            result = task.destination.write(ScoredPart(proven, part, task.settings))
        except DataRefused as error:
            result = Failure(part=part.name, source=source_name(part.source), message=str(error))
        outcomes.append(PartOutcome(result, kept=False))
    return outcomes


def score_group_in_worker(task: ScoringTask, group: Group) -> tuple[list[PartOutcome], float]:
    """Score a group in a worker of a Dask cluster, whose threads wait for one proof of the bundle per process.

    Returns:
        The outcomes, and the seconds that they took: the clocks of machines differ.

    Raises:
        As `score_group`; a refusal of the bundle or of this environment says which worker it was.
    """
    began = time.monotonic()
    with _proving:
        try:
            prove_pinned(task.pin, task.settings.device)
        except (BundleRefused, GateRefused) as error:
            from distributed import get_worker

            raise type(error)(f"worker {get_worker().address} on {socket.gethostname()}: {error}") from None
    return score_group(task, group), time.monotonic() - began


def import_scoring() -> None:
    """Nothing: calling it in a worker imports this module there, and with it all that scoring needs."""


def run_inline(task: ScoringTask, groups: Sequence[Group]) -> Iterator[list[PartOutcome]]:
    """One group after the other, here."""
    for group in groups:
        yield score_group(task, group)


@dataclass(frozen=True)
class ProcessRunner:
    """Processes of this machine, one thread of arithmetic each."""

    workers: int

    def __call__(self, task: ScoringTask, groups: Sequence[Group]) -> Iterator[list[PartOutcome]]:
        """Run all groups; those that a killed process held are done again by new ones.

        Raises:
            StorageFailed: processes die again and again.
        """
        left = dict(enumerate(groups))
        broken = 0
        while left:
            done = 0
            try:
                for index, outcomes in self._pool(task, left):
                    del left[index]
                    done += 1
                    yield outcomes
            except BrokenProcessPool:
                broken = 0 if done else broken + 1
                if broken >= MAX_BROKEN_POOLS:
                    raise StorageFailed(
                        f"worker processes were killed {broken} times in a row (out of memory?): "
                        f"{len(left)} groups of parts are left; run again with fewer --workers"
                    ) from None
                logger.warning("a worker process was killed: %s groups of parts are done again", len(left))

    def _pool(self, task: ScoringTask, groups: dict[int, Group]) -> Iterator[tuple[int, list[PartOutcome]]]:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.workers, context, _start_worker, (os.getpid(),)) as pool:
            futures: dict[Future[list[PartOutcome]], int] = {
                pool.submit(score_group, task, group): index for index, group in groups.items()
            }
            try:
                waiting = set(futures)
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield futures[future], future.result()
            finally:
                pool.shutdown(cancel_futures=True)


def _start_worker(owner: int) -> None:
    import torch

    torch.set_num_threads(1)
    follow_owner(owner)
