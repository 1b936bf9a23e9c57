"""The console command `doctor`: why no nightly run happens, in a line for each check."""

from __future__ import annotations

import os
from argparse import Namespace

from rich.console import Console
from rich.text import Text

from ai.ml.retraining.console import colours
from ai.ml.retraining.console.progress import result_console, working
from ai.ml.retraining.console.stdout import print_json
from ai.ml.retraining.doctor.diagnosis import Diagnosis
from ai.ml.retraining.doctor.examination import examine
from ai.ml.retraining.store.store import Store


def doctor(arguments: Namespace) -> int:
    """Check everything that a nightly run needs, and print problems with their remedies."""
    with working("looking at versions, server and store"):
        diagnosis = examine(Store(arguments.store), arguments.name, os.environ)
    if arguments.json:
        print_json(diagnosis.model_dump(mode="json"))
    else:
        show_diagnosis(diagnosis, result_console())
    return diagnosis.exit_code


def show_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    """Print a line for each check; nothing is folded, so that a command can be copied."""
    width = max(len(check.check) for check in diagnosis.checks) + 2
    for check in diagnosis.checks:
        remedy = f" → {check.remedy}" if check.remedy else ""
        mark = (f"{check.status:<6}", colours.HEALTH[check.status])
        line = Text.assemble(mark, check.check.ljust(width), printable(check.message), (printable(remedy), "bold"))
        console.print(line, soft_wrap=True)


def printable(text: str) -> str:
    """Text of others with its control characters shown instead of obeyed."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
