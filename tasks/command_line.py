"""Running a flow from the command line: flags and TOML in, a readable account and the right exit code out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import httpx
from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL

from ai.ml.core.errors import Busy, ExitCode, StorageFailed, UsageError
from ai.ml.core.tables.locations import source_name
from ai.ml.retraining.console.exit_codes import run_command
from ai.ml.retraining.console.progress import log_to_terminal
from ai.ml.retraining.settings.fields import Section, SomeSection
from ai.ml.retraining.settings.flags import asked_settings, settings_parser
from tasks.hidden_passwords import without_passwords

_NO_SERVER = "; start it, or unset PREFECT_API_URL for one of this run's own; what is done is kept"
_UNREACHED = ("Failed to reach API", "Timed out while attempting to connect to ephemeral")
"""Beginnings of Prefect's messages where no server is reached."""
_NO_BLOCK = "Unable to find block"
"""Beginning of Prefect's message where its settings name a storage of results that the server doesn't have."""
Choice = tuple[Flow[..., Any], Any, Callable[[Any], None]]
"""A flow, its settings, and the function that prints its result."""


def run_from_command_line(
    flow: Flow[..., Any],
    settings: type[SomeSection],
    show: Callable[[Any], None],
    argv: list[str] | None = None,
    *,
    choose: Callable[[Any], Choice] | None = None,
    resume: Callable[[str, dict[str, Any]], Section] | None = None,
) -> int:
    """Parse the flags of `settings`, run `flow(config)` once, show its result and return the exit code.

    `choose` says for the settings at hand which flow it is instead. With `resume` there is a flag `--resume NAME`
    for `flow` itself, whose settings it gives.
    """
    parser = settings_parser(f"python -m flows.{flow.fn.__name__}", settings, resumable=resume is not None)
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        parser.print_usage(sys.stderr)
        return ExitCode.USAGE

    def run() -> int:
        given = parser.parse_args(arguments)
        config = asked_settings(given, settings, resume)
        chosen, settings_of_flow, show_result = (flow, config, show) if choose is None else choose(config)
        log_to_terminal()
        with server_answers(_NO_SERVER):
            state: State[Any] = chosen(without_passwords(settings_of_flow), return_state=True)
        return _end(state, show=None if given.json else show_result)

    return run_command(run)


def outcome_of(state: State[Any]) -> Any:
    """The record of a run that has ended; a run can fail and have one, which says why.

    Raises:
        BaseException: what the run failed with.
        Busy: it took too long.
        UsageError: it was stopped.
    """
    result = state.result(raise_on_failure=False)
    if state.name == "TimedOut":
        raise Busy(f"{state.message}; run it again: what is done is kept")
    if isinstance(result, BaseException):
        raise result
    if not state.is_completed() and not hasattr(result, "exit_code"):
        raise UsageError(f"the run ended as {state.name}: {state.message}")
    return result


def _end(state: State[Any], show: Callable[[Any], None] | None) -> int:
    result = outcome_of(state)
    if show is None:
        print(result.model_dump_json(indent=2))
    else:
        show(result)
    return int(getattr(result, "exit_code", ExitCode.OK))


@contextmanager
def server_answers(advice: str = "") -> Generator[None]:
    """Turn Prefect's error without a reachable server, or without its storage of results, into a sentence.

    Args:
        advice: the end of the sentence.

    Raises:
        StorageFailed: no server answers.
        UsageError: Prefect's settings name a block that the server doesn't have.
    """
    try:
        yield
    except (httpx.TransportError, RuntimeError) as error:
        if not isinstance(error, httpx.TransportError) and not str(error).startswith(_UNREACHED):
            raise
        address = source_name(PREFECT_API_URL.value() or "this run's own address")
        raise StorageFailed(
            f"no Prefect server answers at {address}: {str(error) or type(error).__name__}{advice}"
        ) from error
    except ValueError as error:
        if not str(error).startswith(_NO_BLOCK):
            raise
        raise UsageError(
            f"the storage of results that Prefect's settings name isn't on its server: {error}; make the block, or "
            "unset PREFECT_DEFAULT_RESULT_STORAGE_BLOCK"
        ) from error
