"""Running a flow from the command line: flags and TOML in, a readable account and the right exit code out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import State

from ai.ml.core.errors import Busy, ExitCode, UsageError
from ai.ml.retraining.arguments import add_settings, given_settings
from ai.ml.retraining.config import Section, load_config
from ai.ml.retraining.exits import report_error, run_command
from ai.ml.retraining.log import log_to_terminal


def run_from_command_line(
    flow: Flow[..., Any],
    settings: type[Section],
    show: Callable[[Any], None],
    argv: list[str] | None = None,
    *,
    resume: Callable[[str, dict[str, Any]], Section] | None = None,
) -> int:
    """Parse the flags of `settings`, run `flow(config)` once, show its result and return the exit code.

    With `resume` there is a flag `--resume NAME`, whose settings it gives.
    """
    parser = argparse.ArgumentParser(prog=f"python -m flows.{flow.fn.__name__}", description=settings.__doc__)
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument("--config", type=Path, metavar="FILE.toml", help="settings as TOML; flags win over it")
    if resume is not None:
        told = "go on with the settings of this model's last run, which didn't come to its end"
        origin.add_argument("--resume", metavar="NAME", help=told)
    parser.add_argument("--json", action="store_true", help="print the run's record as JSON, nothing else on stdout")
    add_settings(parser, settings)
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        parser.print_usage(sys.stderr)
        return ExitCode.USAGE

    def run() -> int:
        given = parser.parse_args(arguments)
        values = given_settings(given)
        name: str | None = getattr(given, "resume", None)
        if resume is None or name is None:
            config = load_config(settings, given.config, values)
        else:
            config = resume(name, values)
        log_to_terminal()
        state: State[Any] = flow(config, return_state=True)
        return _end(state, show=None if given.json else show)

    return run_command(run)


def _end(state: State[Any], show: Callable[[Any], None] | None) -> int:
    result = state.result(raise_on_failure=False)
    if state.name == "TimedOut":
        raise Busy(f"{state.message}; run it again: what is done is kept")
    if isinstance(result, BaseException):
        return report_error(result)
    if not state.is_completed():
        raise UsageError(f"the run ended as {state.name}: {state.message}")
    if show is None:
        print(result.model_dump_json(indent=2))
    else:
        show(result)
    return int(getattr(result, "exit_code", ExitCode.OK))
