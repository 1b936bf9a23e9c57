"""The project's one logger, and progress on a terminal.

Prefect forwards it to its API (`logging.extra_loggers` in `pyproject.toml`); a command prints it to the terminal.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from ai.ml.frameworks.pytorch.trainer.loop import EpochReport

logger = logging.getLogger("bundlegate")
PIPE_WIDTH = 400
PROVING = "proving in a fresh process"
"""Text of the spinner (`working`) during a proof."""


def log_to_terminal() -> None:
    """Print the project's own log messages to stderr, without level or time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: record.name.startswith(logger.name))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def result_console() -> Console:
    """A console on stdout; lines in a file or pipe, which has no window's width, aren't folded or cut."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


@contextmanager
def working(doing: str) -> Generator[None]:
    """A spinner with the text `doing` during a long step, on a terminal only."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(doing):
        yield


@contextmanager
def epoch_bar() -> Generator[Callable[[EpochReport], None]]:
    """A progress bar over epochs, on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from ai.ml.core.number_text import figure

    columns = (TextColumn("  training"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("train", total=None, state="")

        def update(report: EpochReport) -> None:
            loss = report.train_loss if report.validation_loss is None else report.validation_loss
            state = f"epoch {report.epoch}/{report.epochs}, loss {figure(loss)}"
            progress.update(bar, total=report.epochs, completed=report.epoch, state=state)

        yield update


@contextmanager
def part_bar(doing: str) -> Generator[Callable[[int, int], None]]:
    """A progress bar over parts, on a terminal only; yields a function of (parts done, number of parts)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(f"  {doing}"), BarColumn(), MofNCompleteColumn(), TextColumn("parts"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("parts", total=None)
        yield lambda done, parts: progress.update(bar, total=parts, completed=done)
