"""How a command ends: one sentence and the right exit code for what a user can mend, a traceback for our own bugs."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from ai.ml.core.errors import BundlegateError, ExitCode
from ai.ml.retraining.console.interruption import NOTHING, changed, last_words
from ai.ml.retraining.console.stdout import steady_output

INTERRUPTED = 130
"""128 + SIGINT, as shells have it: Ctrl-C is never a pass."""


def exit_code_of(error: BaseException) -> int:
    """The exit code that goes with an exception."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return int(error.exit_code if isinstance(error, BundlegateError) else ExitCode.BUG)


def run_command(command: Callable[[], int]) -> int:
    """Call `command`, turn what it raises into a message on stderr, and return the exit code.

    What becomes of its output changes the exit code in one case only: a command that would have ended with 0, and whose
    output a full disk didn't take, ends with 74.
    """
    changed(NOTHING)
    with steady_output() as output:
        code = _ending(command)
    if output is not None and output.problem is not None:
        print(f"error: the output is incomplete: {output.problem}", file=sys.stderr)
        return code or ExitCode.STORAGE
    return code


def _ending(command: Callable[[], int]) -> int:
    try:
        return command()
    except KeyboardInterrupt as interrupt:
        print(f"interrupted: {last_words(interrupt)}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return report_error(error)


def report_error(error: BaseException) -> int:
    """Say what went wrong on stderr and return the exit code."""
    if isinstance(error, BundlegateError) and error.exit_code is not ExitCode.BUG:
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
        print("error: this is a bug in bundlegate; the traceback above is what its authors need", file=sys.stderr)
    return exit_code_of(error)
