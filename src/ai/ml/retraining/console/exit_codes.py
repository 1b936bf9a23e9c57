"""How a command ends: one sentence and the exit code for a user's mistake, a traceback for a bug of ours."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from ai.ml.core.errors import BundlegateError, ExitCode
from ai.ml.retraining.console.interruption import NOTHING, interrupted_message, set_interrupt_message
from ai.ml.retraining.console.stdout import resilient_output

INTERRUPTED = 130
"""128 + SIGINT, as shells have it: Ctrl-C is never a pass."""


def exit_code_of(error: BaseException) -> int:
    """The exit code of an exception."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return int(error.exit_code if isinstance(error, BundlegateError) else ExitCode.BUG)


def run_command(command: Callable[[], int]) -> int:
    """Call `command`, turn what it raises into a message on stderr, and return the exit code.

    Standard output changes the exit code in one case only: a command that would have ended with 0 ends with 74 if the
    disk was too full for its output.
    """
    set_interrupt_message(NOTHING)
    with resilient_output() as output:
        code = _exit_code_or_report(command)
    if output is not None and output.problem is not None:
        print(f"error: the output is incomplete: {output.problem}", file=sys.stderr)
        return code or ExitCode.STORAGE
    return code


def _exit_code_or_report(command: Callable[[], int]) -> int:
    try:
        return command()
    except KeyboardInterrupt as interrupt:
        print(f"interrupted: {interrupted_message(interrupt)}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return report_error(error)


def report_error(error: BaseException) -> int:
    """Print the error on stderr and return its exit code."""
    if isinstance(error, BundlegateError) and error.exit_code is not ExitCode.BUG:
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
        print("error: this is a bug in bundlegate; the traceback above is what its authors need", file=sys.stderr)
    return exit_code_of(error)
