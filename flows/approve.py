"""Answer a retraining that waits for approval: `bundlegate approve churn --yes --reason 'seen the report'`.

Without an answer it lists what waits; with a name alone it shows decision and verdict. Prefect's UI does the same: open
the run, *Resume*.
"""

from __future__ import annotations

import argparse
import sys

from ai.ml.core.errors import ExitCode, UsageError
from ai.ml.retraining.console.exit_codes import run_command
from ai.ml.retraining.records import Approval
from ai.ml.retraining.store.actor import whoami
from tasks.approval.answer import find_waiting, list_waiting, question, send_answer


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(prog="bundlegate approve", description="Answer a run that waits for approval.")
    parser.add_argument("run", nargs="?", metavar="NAME|RUN_ID", help="the model, or the run; without it: list them")
    answer = parser.add_mutually_exclusive_group()
    answer.add_argument("--yes", action="store_true", help="the candidate becomes the champion")
    answer.add_argument("--no", action="store_true", help="the champion stays")
    parser.add_argument("--reason", help="why; the ledger keeps it")
    parser.add_argument("--approver", default=whoami(), help="who answers; the ledger keeps it [%(default)s]")
    parser.add_argument("--digest", help="answer only if this candidate waits (its digest, or the start of it)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """List, show or answer; 75 if the run doesn't wait any more."""
    arguments = build_parser().parse_args(argv)

    def run() -> int:
        if arguments.run is None:
            if arguments.yes or arguments.no:
                raise UsageError("name the model or the run that you answer")
            return _list()
        waiting = find_waiting(arguments.run)
        if not (arguments.yes or arguments.no):
            print(question(waiting) or f"{waiting.name}: {waiting.digest} waits in run {waiting.run}")
            return ExitCode.OK
        if not (arguments.reason or "").strip():
            raise UsageError("--reason is missing: the ledger keeps why")
        if not waiting.digest.startswith(arguments.digest or ""):
            raise UsageError(f"{waiting.name}: {waiting.digest} waits for approval, not {arguments.digest}")
        send_answer(waiting, Approval(approved=arguments.yes, approver=arguments.approver, reason=arguments.reason))
        word = "approved" if arguments.yes else "declined"
        print(f"{waiting.name}: {waiting.digest[:12]} is {word}; run {waiting.run} goes on")
        return ExitCode.OK

    return run_command(run)


def _list() -> int:
    found = list_waiting()
    for waiting in found:
        champion = "no champion" if waiting.champion is None else f"champion {waiting.champion[:12]}"
        until = "" if waiting.until is None else f", until {waiting.until:%Y-%m-%d %H:%M} UTC"
        print(f"{waiting.name}: {waiting.digest[:12]} ({champion}{until}) in run {waiting.run}")
    if not found:
        print("nothing waits for approval")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
