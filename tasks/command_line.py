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
    flow: Flow[..., Any], settings: type[Section], show: Callable[[Any], None], argv: list[str] | None = None
) -> int:
    """Parse the flags of `settings`, run `flow(config)` once, show its result and return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m flows.{flow.fn.__name__}", description=settings.__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="settings as TOML; flags win over it")
    parser.add_argument("--json", action="store_true", help="print the run's record as JSON, nothing else on stdout")
    add_settings(parser, settings)
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        parser.print_usage(sys.stderr)
        return ExitCode.USAGE

    def run() -> int:
        given = parser.parse_args(arguments)
        config = load_config(settings, given.config, given_settings(given))
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
