"""What a command has changed by the time of a Ctrl-C, so that its message on exit is true.

An interrupt can also arrive between two steps of Prefect, where none of our code has the promotion's record.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

NOTHING = "nothing was promoted"
_interrupt_message = NOTHING


def set_interrupt_message(sentence: str) -> None:
    """Set the sentence that an interrupt prints from now on."""
    global _interrupt_message
    _interrupt_message = sentence


def progress_sentence(done: int, total: int, plural: str) -> str:
    """The interrupt message of a run over several items, such as `2 of 5 segments are done, and stay so`."""
    return f"{done} of {total} {plural} are done, and stay so"


@contextmanager
def lasting_change(step: str, name: str) -> Generator[Callable[[str], None]]:
    """Context of a step that changes the store; an interrupt within it reports that the step may or may not be done.

    Args:
        step: "promotion" or "rollback".
        name: of the model.

    Yields:
        `set_interrupt_message`, to be called with the new state after the step. A failed step has changed nothing.
    """
    before, in_progress = _interrupt_message, f"the {step} was under way; bundlegate show {name} says what is live"
    set_interrupt_message(in_progress)
    try:
        yield set_interrupt_message
    except Exception:
        if _interrupt_message == in_progress:
            set_interrupt_message(before)
        raise


def interrupted_message(interrupt: KeyboardInterrupt) -> str:
    """The message of an interrupted command: the exception's own text, or the current state message."""
    return str(interrupt) or _interrupt_message
