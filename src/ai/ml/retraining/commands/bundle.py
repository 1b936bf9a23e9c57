"""The console commands that take a bundle: inspect, verify, selftest, sign, predict, evidence, example."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ai.ml.core.errors import BundleRefused, ExitCode, StorageFailed, UsageError
from ai.ml.core.files.atomic import dump_json, make_dirs, write_atomic
from ai.ml.retraining.console import colours
from ai.ml.retraining.console.progress import PROVING, part_bar, result_console, working
from ai.ml.retraining.console.stdout import print_bytes, print_json
from ai.ml.retraining.settings.reading import read_options, reading_of
from ai.ml.retraining.store.references import bundle_directory, names_version
from ai.ml.retraining.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from ai.ml.retraining.batch.job import BatchReport
    from ai.ml.retraining.selftest.run import SelftestReport
    from ai.ml.retraining.settings.predict import PredictConfig


def inspect(arguments: Namespace) -> int:
    """Print the manifest, or the description in a file from elsewhere, without loading it."""
    from ai.ml.retraining.commands.inspect import bundle_facts, show_facts

    reference = Path(arguments.bundle)
    path = reference if reference.is_file() else bundle_directory(arguments.bundle, arguments.store)
    facts = bundle_facts(path)
    if arguments.json:
        print_json(facts)
    else:
        show_facts(facts, result_console())
    return ExitCode.OK


def verify(arguments: Namespace) -> int:
    """Run the gate and print or write its verdict."""
    from ai.ml.retraining.gate.proof import prove
    from ai.ml.retraining.gate.render import to_junit, to_markdown, to_terminal
    from ai.ml.retraining.settings.gate import GatePolicy

    # The proof takes long: a path that can't be written to is reported before it.
    check_report_paths(arguments.junit, arguments.markdown)
    bundle_dir = bundle_directory(arguments.bundle, arguments.store)
    # The signed digest is proved, even if the files change meanwhile.
    digest = None if arguments.key is None else _signed_digest(arguments, bundle_dir)
    policy = GatePolicy(
        pythons=tuple(arguments.python), cpu_matrix=arguments.cpu_matrix, timeout_seconds=arguments.gate_timeout
    )
    with working(PROVING):
        verdict = prove(bundle_dir, policy, expect_digest=digest)
    if arguments.json:
        print_bytes(verdict.to_json())
    else:
        result_console().print(to_terminal(verdict))
    code = verdict.exit_code
    for path, render in ((arguments.junit, to_junit), (arguments.markdown, to_markdown)):
        if path is not None:
            code = _write_report(path, render(verdict), code)
    return code


def selftest(arguments: Namespace) -> int:
    """Try the gate on damaged copies of a bundle."""
    from ai.ml.retraining.selftest.run import selftest as try_defects

    check_report_paths(arguments.json)
    with working("damaging copies and judging each"):
        report = try_defects(bundle_directory(arguments.bundle, arguments.store), timeout_s=arguments.gate_timeout)
    _show_selftest(report, result_console())
    if arguments.json is not None:
        return _write_report(arguments.json, dump_json(report.to_dict()), report.exit_code)
    return report.exit_code


def predict(arguments: Namespace) -> int:
    """Score a table or a folder of parts."""
    from ai.ml.retraining.settings.load import load_config
    from ai.ml.retraining.settings.predict import BatchSettings, JobSettings, PredictConfig

    given = {name: value for name, value in vars(arguments).items() if value is not None}
    config = load_config(
        PredictConfig,
        None,
        {
            "store": str(arguments.store),
            "job": {name: given[name] for name in JobSettings.model_fields if name in given},
            "batch": {name: given[name] for name in BatchSettings.model_fields if name in given},
            "run": {"workers": arguments.workers},
        },
    )
    report = score_on_terminal(config)
    if arguments.json:
        print_json(report.model_dump(mode="json"))
    else:
        print(report.sentence)
    return report.exit_code


def score_on_terminal(config: PredictConfig) -> BatchReport:
    """Score with a progress bar on a terminal; raises as `score` does, and Ctrl-C reports the parts that are kept."""
    from ai.ml.retraining.batch.scoring_job import score

    try:
        with part_bar("scoring") as progress:
            return score(config, progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("parts that were scored stay; run again, and only the others are done") from None


def evidence(arguments: Namespace) -> int:
    """Make evidence for a bundle that was trained elsewhere."""
    from ai.ml.core.tables.reader import read_table
    from ai.ml.retraining.evidence.seal import make_evidence, refuse_trained_evidence

    bundle_dir = bundle_directory(arguments.bundle, arguments.store)
    with working("reading the rows and asking the model"):
        read = replace(read_options(arguments), remembered=reading_of(bundle_dir))
        rows, lineage = read_table(arguments.rows, read), {}
        refuse_trained_evidence(bundle_dir)
        if arguments.trained_on is not None:
            from ai.ml.retraining.decision.overlap import remember_table

            lineage = remember_table(bundle_dir, read_table(arguments.trained_on, read))
        digest = make_evidence(bundle_dir, rows, lineage=lineage)
    knows = ", and a record of the rows that it was trained on (no cell of any)" if lineage else ""
    print(
        f"{bundle_dir} now has evidence made by this environment{knows}: it proves later environments against this "
        f"one, not the training; digest {digest}"
    )
    return ExitCode.OK


def sign(arguments: Namespace) -> int:
    """Sign a bundle with a local key."""
    from ai.ml.core.bundle_dir import check_files, read_manifest
    from ai.ml.retraining.integrations.signing import sign_bundle

    bundle_dir = bundle_directory(arguments.bundle, arguments.store)
    problems = check_files(bundle_dir, read_manifest(bundle_dir))
    if problems:
        raise BundleRefused(f"not signed: {problems[0]}")
    password = os.environ.get("BUNDLEGATE_KEY_PASSWORD")
    where: Path | str
    if arguments.signature is None and names_version(arguments.bundle):
        from ai.ml.retraining.integrations.stored_signatures import sign_version

        name, store = arguments.bundle.partition("@")[0], Store(arguments.store)
        where = sign_version(store, name, bundle_dir, arguments.key, password=password)
    else:
        where = sign_bundle(bundle_dir, arguments.key, arguments.signature, password=password)
    print(f"{where} signs {bundle_dir}")
    return ExitCode.OK


def _signed_digest(arguments: Namespace, bundle_dir: Path) -> str | None:
    """The digest of a bundle whose signature holds; None where it has no manifest."""
    from ai.ml.core.bundle_dir import MANIFEST_NAME, bundle_digest
    from ai.ml.retraining.integrations.signing import check_signature
    from ai.ml.retraining.integrations.stored_signatures import check_version_signature

    digest = bundle_digest(bundle_dir) if (bundle_dir / MANIFEST_NAME).is_file() else None
    if arguments.signature is None and names_version(arguments.bundle):
        name = arguments.bundle.partition("@")[0]
        check_version_signature(Store(arguments.store), name, bundle_dir, arguments.key)
    else:
        check_signature(bundle_dir, arguments.key, arguments.signature)
    return digest


def example(arguments: Namespace) -> int:
    """Write the embedded example table."""
    from ai.ml.core.tables.reader import write_table
    from ai.ml.retraining.commands.example import penguins

    table = penguins()
    make_dirs(arguments.output.parent)
    write_table(table, arguments.output)
    print(f"{arguments.output}: {table.num_rows} penguins × {table.num_columns} columns (CC0)")
    return ExitCode.OK


def check_report_paths(*paths: Path | None) -> None:
    """Check early that a report can be written at its path.

    Raises:
        UsageError: its folder isn't there, or the path is a folder.
    """
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"can't write {path}: there is no folder {path.parent}")
        if path is not None and path.is_dir():
            raise UsageError(f"can't write {path}: it is a folder")


def _write_report(path: Path, document: str | bytes, code: int) -> int:
    """Write a report; a disk error is reported without hiding the result of the command."""
    try:
        write_atomic(path, document if isinstance(document, bytes) else document.encode())
    except StorageFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return code or ExitCode.STORAGE
    return code


def _show_selftest(report: SelftestReport, console: Console) -> None:
    """Print every defect with its result, then the outcome."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("defect", "made by", "fate", "refused by", "what was said")
    for result in report.results:
        idle = result.fate in ("no change", "not applicable")
        style = colours.PROBLEM if result.wrong else "dim" if idle else "green"
        table.add_row(
            result.name,
            result.family,
            f"[{style}]{result.fate}[/{style}]",
            ", ".join(result.checks),
            escape(result.message[:160]),
        )
    console.print(table)
    console.print(report.sentence)
