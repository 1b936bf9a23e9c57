"""The console script `bundlegate`: bundles, the store, and the flows (`commands.flow`), where Prefect is installed.

Nothing slow is imported here; each command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ai.ml.retraining.commands.store_flags import add_audit_flags, add_prune_flags
from ai.ml.retraining.settings.defaults import GATE_TIMEOUT_S, MAX_REPORT_ROWS, STORE

EXIT_CODES = """\
exit codes: 0 passed, promoted, done · 1 the gate refused · 2 usage · 3 hold · 4 data refused · 5 nothing was checked
            6 integrity or trust refusal · 70 our bug · 74 the disk failed · 75 busy, try again"""

FLOW_COMMANDS = {
    "retrain": "train, prove, decide and promote: the whole retraining",
    "backtest": "try the retraining on past nights: whether it would have served better than none",
    "batch-predict": "score a table or a folder of parts by the flow, as Prefect's UI shows it",
    "validate": "prove a bundle by the flow, with the settings of a TOML file",
    "approve": "answer a retraining that waits for approval, or list what waits",
}
"""Their flags are those of the flows' settings, which are imported when one of them runs."""

BUNDLE_HELP = "bundle directory, a model_bundle.pt, or NAME@champion, NAME@previous, NAME@DIGEST in the store"


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code is the result."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in FLOW_COMMANDS:
        from ai.ml.retraining.commands.flow import run_flow_command

        return run_flow_command(words[0], words[1:])
    parser = build_parser()
    arguments = parser.parse_args(words)
    if arguments.run is None:
        parser.print_usage(sys.stderr)
        print("bundlegate: a command is missing; --help lists them", file=sys.stderr)
        return 2

    from ai.ml.retraining.console.exit_codes import run_command

    module, _, function = arguments.run.partition(":")
    return run_command(lambda: int(getattr(import_module(f"ai.ml.retraining.commands.{module}"), function)(arguments)))


def usual_store() -> str:
    """Where the store is when nobody says it."""
    return os.environ.get("BUNDLEGATE_STORE", STORE)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands and their flags."""
    parser = argparse.ArgumentParser(
        prog="bundlegate",
        description="Prove, inspect, score and promote bundles of tabular PyTorch models.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bundlegate {version('bundlegate')}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, text in FLOW_COMMANDS.items():
        commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    _add_bundle_commands(commands)
    _add_report_commands(commands)
    _add_store_commands(commands)
    return parser


def _command(commands: Any, name: str, run: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--store",
        default=usual_store(),
        help="the store: a folder or s3://BUCKET/PREFIX (default: $BUNDLEGATE_STORE or %(default)s)",
    )
    return parser


def _add_bundle_commands(commands: Any) -> None:
    inspect = _command(commands, "inspect", "bundle:inspect", "show what a bundle is, loading nothing")
    inspect.add_argument("bundle", help=BUNDLE_HELP)
    inspect.add_argument("--json", action="store_true", help="for machines")

    verify = _command(commands, "verify", "bundle:verify", "run the gate on a bundle")
    verify.add_argument("bundle", help=BUNDLE_HELP)
    verify.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PATH",
        help="another interpreter with bundlegate installed that must give the same bits (repeatable)",
    )
    verify.add_argument(
        "--cpu-matrix", action="store_true", help="also under other CPU capabilities, MKL settings and thread counts"
    )
    verify.add_argument("--json", action="store_true", help="print the verdict as JSON")
    verify.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML")
    verify.add_argument("--markdown", type=Path, metavar="FILE", help="also write Markdown for a pull request")

    verify.add_argument(
        "--key", type=Path, metavar="FILE", help="first check the signature, with this public key (PEM)"
    )
    verify.add_argument(
        "--signature", type=Path, metavar="FILE", help="the signature (default: DIRECTORY.sig, or in the store)"
    )
    _add_timeout(verify)

    selftest = _command(
        commands, "selftest", "bundle:selftest", "damage copies of a bundle and see the gate refuse each one"
    )
    selftest.add_argument("bundle", help=BUNDLE_HELP)
    selftest.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    _add_timeout(selftest)

    _add_sign(commands)
    _add_predict(commands)
    _add_drill(commands)

    evidence = _command(
        commands, "evidence", "bundle:evidence", "make evidence for a bundle that was trained elsewhere"
    )
    evidence.add_argument("bundle", help=BUNDLE_HELP)
    evidence.add_argument("--rows", required=True, metavar="FILE", help="table with rows as they come in production")
    evidence.add_argument(
        "--trained-on", metavar="FILE", help="the table that it was trained on: decisions then leave out rows of it"
    )
    _add_reading(evidence)

    example = _command(commands, "example", "bundle:example", "write the embedded example table")
    example.add_argument("output", type=Path, help="CSV or Parquet file to write")


def _add_sign(commands: Any) -> None:
    sign = _command(commands, "sign", "bundle:sign", "sign a bundle with a local elliptic key")
    sign.add_argument("bundle", help=BUNDLE_HELP)
    sign.add_argument(
        "--key",
        type=Path,
        required=True,
        metavar="FILE",
        help="private key, PEM (its password, if it has one, in $BUNDLEGATE_KEY_PASSWORD)",
    )
    sign.add_argument(
        "--signature", type=Path, metavar="FILE", help="where to write (default: DIRECTORY.sig, or in the store)"
    )


def _add_drill(commands: Any) -> None:
    drill = _command(
        commands, "drill", "drill:drill", "break copies of a model's last good table, and play the night with each"
    )
    drill.add_argument("name", help="of a model with a champion; the drill touches neither it nor its store")
    drill.add_argument("--data", required=True, metavar="SOURCE", help="its last good table")
    drill.add_argument(
        "--family",
        action="append",
        choices=["labels", "columns", "rows", "format", "target"],
        help="only these kinds (repeatable); good nights are always played",
    )
    drill.add_argument(
        "--kind",
        action="append",
        default=[],
        metavar="NAME",
        help="only this one, by its printed name (repeatable)",
    )
    drill.add_argument(
        "--rows", type=int, default=5_000, metavar="N", help="the table's last rows are enough (default: %(default)s)"
    )
    drill.add_argument("--json", action="store_true", help="for machines")
    _add_reading(drill)


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gate-timeout",
        type=seconds,
        default=GATE_TIMEOUT_S,
        metavar="SECONDS",
        help="for a fresh process; one that takes longer proves nothing, exit code 75 (default: %(default)g)",
    )


def seconds(text: str) -> float:
    """A positive number of seconds; `ValueError`, as argparse has it, for anything else."""
    value = float(text)
    if not 0 < value <= 24 * 3600:
        raise ValueError(text)
    return value


def _add_report_commands(commands: Any) -> None:
    report = _command(commands, "report", "report:report", "write a bundle's model card and HTML report")
    report.add_argument("bundle", help=BUNDLE_HELP)
    report.add_argument(
        "--data", metavar="FILE", help="rows with their truth to measure on (default: the holdout rows of the evidence)"
    )
    report.add_argument("--output", type=Path, metavar="FOLDER", help="where to write (default: report-NAME-ALIAS)")
    report.add_argument(
        "--max-rows",
        type=int,
        default=MAX_REPORT_ROWS,
        metavar="N",
        help="measure on a sample above that (default: %(default)s)",
    )
    report.add_argument("--json", action="store_true", help="print the paths as JSON")
    _add_reading(report)

    compare = _command(commands, "compare", "compare:compare", "put two bundles side by side on the rows of a table")
    compare.add_argument("first", help=BUNDLE_HELP)
    compare.add_argument("second", help="likewise; the gain is how much better this one is")
    compare.add_argument("--data", required=True, metavar="FILE", help="rows with their truth")
    compare.add_argument("--slice", metavar="COLUMN", help="also by the values of this column")
    compare.add_argument(
        "--rows", type=int, default=10, metavar="N", help="show the rows that differ most (default: %(default)s)"
    )
    compare.add_argument("--json", action="store_true", help="for machines")
    _add_reading(compare)

    init = _command(
        commands, "init", "init:init", "write a commented retrain.toml and a prefect.yaml for a table of yours"
    )
    init.add_argument("folder", nargs="?", type=Path, default=Path(), help="where to (default: here)")
    init.add_argument("--name", help="the model's name")
    init.add_argument("--data", metavar="SOURCE", help="the table")
    init.add_argument("--target", metavar="COLUMN", help="the column to predict")
    _add_reading(init)


def _add_predict(commands: Any) -> None:
    predict = _command(commands, "predict", "bundle:predict", "score a table or a folder of parts")
    predict.add_argument("bundle", help=BUNDLE_HELP)
    predict.add_argument(
        "input", help="CSV, Parquet or Excel file, a folder of parts, s3://BUCKET/PREFIX, or a database URL"
    )
    predict.add_argument(
        "output", help="file (by its suffix), folder, s3://BUCKET/PREFIX, or database URL with --table"
    )
    predict.add_argument("--proba", action="store_true", help="add a column of probabilities for each class")
    predict.add_argument(
        "--keep", action="extend", nargs="+", default=[], metavar="COLUMN", help="carry these columns to the output"
    )
    predict.add_argument("--strict", action="store_true", help="refuse what the contract otherwise only counts")
    predict.add_argument(
        "--allow-empty-columns",
        action="store_true",
        help="score rows whose cells of a column are all missing, though training knew it filled",
    )
    predict.add_argument("--table", metavar="NAME", help="table to insert into, when the output is a database URL")
    predict.add_argument("--overwrite", action="store_true", help="discard what another job left in the output")
    predict.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    predict.add_argument("--device", help="cpu, cuda or cuda:1; first it has to prove itself there (default: cpu)")
    predict.add_argument(
        "--drift",
        choices=["off", "report", "refuse"],
        default="off",
        help="read all rows first, and report or refuse drift from the training table (default: %(default)s)",
    )
    predict.add_argument(
        "--drift-severity",
        choices=["moderate", "major"],
        default="major",
        help="from where on to refuse (default: %(default)s)",
    )
    predict.add_argument("--json", action="store_true", help="print the report as JSON")
    _add_reading(predict)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """`settings.reading.read_options` takes these."""
    reading = parser.add_argument_group("how to read the table")
    reading.add_argument("--query", metavar="SQL", help="what to read, when it is a database URL")
    reading.add_argument("--delimiter", metavar="MARK", help="of a CSV; found by itself when not given")
    reading.add_argument("--encoding", metavar="NAME", help="of a CSV; found by itself when not given")
    reading.add_argument("--decimal", choices=[".", ","], help="of numbers written as text; a point when not given")
    reading.add_argument("--thousands", metavar="MARK", help="of numbers written as text; none: there is none")
    reading.add_argument("--sheet", metavar="NAME", help="of an Excel file; the first when not given")
    reading.add_argument("--quote", choices=["none", "double"], help="none: quotes are plain letters in this CSV")
    reading.add_argument("--skip-lines", type=int, metavar="N", help="of a CSV: lines above the one with the names")
    reading.add_argument("--comment", metavar="TEXT", help="of a CSV: leave out lines that begin with it, such as #")
    reading.add_argument(
        "--missing-mark",
        dest="missing_marks",
        action="append",
        default=[],
        metavar="MARK",
        help="a text or number that stands for a missing cell in any column (repeatable)",
    )
    reading.add_argument(
        "--unit",
        dest="units",
        action="append",
        default=[],
        metavar="UNIT",
        help="what may stand before or behind a number in any column (repeatable)",
    )


def _add_store_commands(commands: Any) -> None:
    history = _command(commands, "history", "store:history", "show every decision on a model")
    history.add_argument("name")
    history.add_argument("--json", action="store_true", help="for machines")

    listing = _command(
        commands,
        "list",
        "list_models:list_models",
        "show every model: live since when, its age, its last night, its trend",
    )
    listing.add_argument("--json", action="store_true", help="for machines")

    show = _command(commands, "show", "store:show", "show which bundle is live, since when, why, and the way back")
    show.add_argument("name")
    show.add_argument("--json", action="store_true", help="for machines")

    _add_champion_commands(commands)

    publish = _command(commands, "publish", "store:publish", "register the champion in an MLflow registry")
    publish.add_argument("name")
    publish.add_argument(
        "--mlflow", required=True, metavar="URI", help="tracking server or database, as sqlite:///mlflow.db"
    )

    audit = _command(
        commands, "audit", "store:audit", "check the ledger's chain, every version's bytes and the pointer"
    )
    add_audit_flags(audit)

    doctor = _command(
        commands,
        "doctor",
        "doctor:doctor",
        "look at what a nightly run needs: versions, server, worker, schedules, next and last run, store, disk, clock",
    )
    doctor.add_argument("name", nargs="?", help="of a model (default: all of the store and the server)")
    doctor.add_argument("--json", action="store_true", help="for machines")

    _add_prune(commands)


def _add_champion_commands(commands: Any) -> None:
    rollback = _command(
        commands, "rollback", "store:rollback", "make a former champion live again, after proving it again"
    )
    rollback.add_argument("name")
    rollback.add_argument("--to", metavar="DIGEST", help="which one (default: the champion before this one)")
    rollback.add_argument("--reason", required=True, help="goes into the ledger")
    rollback.add_argument(
        "--flow", action="store_true", help="as a run of the Prefect flow, so that automations hear of it"
    )
    rollback.add_argument("--dry-run", action="store_true", help="say what would happen, and prove and write nothing")
    _add_timeout(rollback)

    retire = _command(commands, "retire", "store:retire", "take the champion out of service: nothing is live then")
    retire.add_argument("name")
    retire.add_argument("--reason", required=True, help="goes into the ledger")
    retire.add_argument("--dry-run", action="store_true", help="say what would happen, and write nothing")

    promote = _command(commands, "promote", "store:promote", "make a held candidate the champion, over its HOLD")
    promote.add_argument("name")
    promote.add_argument("--candidate", required=True, metavar="DIGEST", help="of the held bundle, or its beginning")
    promote.add_argument("--reason", required=True, help="goes into the ledger")
    promote.add_argument("--dry-run", action="store_true", help="say what would happen, and write nothing")


def _add_prune(commands: Any) -> None:
    prune = _command(commands, "prune", "store:prune", "remove old versions, quarantined bundles, and their reports")
    add_prune_flags(prune)


if __name__ == "__main__":
    sys.exit(main())
