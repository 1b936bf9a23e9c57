"""A flow's run in a process of its own, under a flow run that its parent made: `python -m tasks.subflows.child`.

Two runs in threads of one process would share its signals, its threads of arithmetic and its memory; a process that
dies takes one run with it. Nothing is imported here before it is needed: Prefect reads its settings when it is.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any
from uuid import UUID

from pydantic import BaseModel


class SubRun(BaseModel):
    """The request to the process: JSON on its stdin."""

    flow: str
    """`flows.retrain:retrain`."""
    flow_run: str
    """Id of the run, which has the parameters."""
    api: str
    """URL of the parent's Prefect API, which may have been started for the parent alone."""
    threads: int
    """Threads of arithmetic, unless the settings name them."""
    owner: int = 0
    """Process id of the parent, which this process must not outlive."""


class SubRunEnd(BaseModel):
    """The result of the process: JSON on its stdout."""

    exit_code: int
    reason: str = ""
    """Why there is no record."""
    record: dict[str, Any] | None = None
    """The flow's result."""
    silent: bool = False
    """Whether the process died without reporting its end, to Prefect neither."""


def main() -> int:
    """Run the request on stdin; the result goes to stdout, everything else to stderr."""
    request = SubRun.model_validate_json(sys.stdin.buffer.read())
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        end = _run(request)
        answer.write(end.model_dump_json().encode())
    return end.exit_code


def _run(request: SubRun) -> SubRunEnd:
    from ai.ml.core.processes import follow_owner
    from ai.ml.retraining.console.exit_codes import INTERRUPTED, report_error
    from ai.ml.retraining.console.progress import log_to_terminal

    follow_owner(request.owner)
    log_to_terminal()
    module, _, name = request.flow.partition(":")
    try:
        flow = getattr(import_module(module), name)
        record = _record(flow, request.flow_run)
    except KeyboardInterrupt:
        return SubRunEnd(exit_code=INTERRUPTED, reason="interrupted")
    except Exception as error:
        return SubRunEnd(exit_code=report_error(error), reason=str(error) or type(error).__name__)
    return SubRunEnd(exit_code=int(getattr(record, "exit_code", 0)), record=record.model_dump(mode="json"))


def _record(flow: Any, flow_run: str) -> Any:
    from prefect.exceptions import TerminationSignal
    from prefect.flow_engine import load_flow_run, run_flow

    from ai.ml.core.errors import Busy
    from tasks.command_line import outcome_of

    try:
        state: Any = run_flow(flow, flow_run=load_flow_run(UUID(flow_run)), return_type="state")
        return outcome_of(state)
    except TerminationSignal:
        raise Busy("its process was asked to stop; what is done is kept: run again") from None


if __name__ == "__main__":
    sys.exit(main())
