"""Runs items one after the other, as segments and origins without Prefect: one that fails doesn't stop the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, Self, TypeVar

from ai.ml.retraining.console.exit_codes import report_error
from ai.ml.retraining.console.interruption import progress_sentence, set_interrupt_message
from ai.ml.retraining.console.progress import logger


class RunOutcome(Protocol):
    """The outcome of one item's run: a pydantic record."""

    @property
    def outcome(self) -> str:
        """One word, such as `PROMOTED`."""
        ...

    @property
    def reason(self) -> str:
        """One sentence."""
        ...

    def model_copy(self, *, update: dict[str, Any]) -> Self:
        """A copy with other values."""
        ...


SomeItem = TypeVar("SomeItem")
SomeOutcome = TypeVar("SomeOutcome", bound=RunOutcome)


def run_in_turn(
    items: Iterable[SomeItem], run: Callable[[SomeItem], SomeOutcome], label: Callable[[SomeItem], str], plural: str
) -> list[SomeOutcome]:
    """Run every item, log its outcome, and keep the interrupt's message up to date.

    Args:
        items: in the order in which they are run.
        run: returns an item's outcome; errors are its own to handle, see `timed_run`.
        label: the item's name in the log.
        plural: what the items are, such as `segments`.

    Raises:
        KeyboardInterrupt: by Ctrl-C; its message says how many are done.
    """
    todo, outcomes = list(items), list[SomeOutcome]()
    for item in todo:
        try:
            outcomes.append(run(item))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(progress_sentence(len(outcomes), len(todo), plural)) from None
        set_interrupt_message(progress_sentence(len(outcomes), len(todo), plural))
        last, count = outcomes[-1], f"{len(outcomes)} of {len(todo)}"
        logger.info("%s: %s — %s (%s)", label(item), last.outcome, last.reason, count)
    return outcomes


def timed_run(run: Callable[[], SomeOutcome], failed: Callable[[int, str], SomeOutcome]) -> SomeOutcome:
    """The outcome of `run` with its seconds; an error is reported on stderr and becomes the outcome of `failed`.

    Args:
        run: returns an outcome or raises.
        failed: makes an outcome from an exit code and a reason.
    """
    start = time.monotonic()
    try:
        outcome = run()
    except Exception as error:
        outcome = failed(report_error(error), str(error) or type(error).__name__)
    return outcome.model_copy(update={"seconds": round(time.monotonic() - start, 1)})
