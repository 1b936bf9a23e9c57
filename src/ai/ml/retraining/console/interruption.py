"""What a command has changed for good by the time that somebody presses Ctrl-C, so that its last words are true.

The interrupt can come between any two steps of Prefect, too, where no code of ours holds the promotion's record.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

NOTHING = "nothing was promoted"
_true_now = NOTHING


def changed(sentence: str) -> None:
    """From now on an interrupt says this sentence."""
    global _true_now
    _true_now = sentence


@contextmanager
def lasting_change(step: str, name: str) -> Generator[Callable[[str], None]]:
    """A step after which the store isn't what it was; an interrupt within it says that nobody knows how far it came.

    Args:
        step: "promotion" or "rollback".
        name: of the model.

    Yields:
        `changed`, to be called with what is true once it is done. A step that fails has changed nothing.
    """
    before, under_way = _true_now, f"the {step} was under way; bundlegate show {name} says what is live"
    changed(under_way)
    try:
        yield changed
    except Exception:
        if _true_now == under_way:
            changed(before)
        raise


def last_words(interrupt: KeyboardInterrupt) -> str:
    """What to say of a command that was interrupted: its own words, or what is true by then."""
    return str(interrupt) or _true_now
