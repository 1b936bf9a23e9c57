"""Rollback: a former champion becomes live again, once it has proved itself again, and automations hear of it.

`python -m flows.rollback --name churn --reason 'complaints since Monday'`; `bundlegate rollback` does the same without
Prefect, and sends no event.
"""

from __future__ import annotations

import sys

from prefect import flow

from ai.ml.retraining.records import RollbackRecord
from ai.ml.retraining.settings.proof import RollbackConfig
from tasks.command_line import run_from_command_line
from tasks.promotion import roll_back


@flow(flow_run_name="rollback-{config.name}", persist_result=True, result_serializer="json", timeout_seconds=6 * 3600)
def rollback(config: RollbackConfig) -> RollbackRecord:
    """Prove the former champion here and now, then move the pointer; the champion stays if it doesn't pass.

    Raises:
        UsageError: it was never the champion, or is it already.
        GateRefused: it no longer answers here as it did.
        Busy: another champion was promoted while this one was proved.
    """
    return roll_back(config)


def main(argv: list[str] | None = None) -> int:
    """Run the flow once from flags or a TOML file; the exit code is the result."""
    return run_from_command_line(rollback, RollbackConfig, lambda done: print(done.sentence), argv)


if __name__ == "__main__":
    sys.exit(main())
