"""The console commands `report` and `card`."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from ai.ml.core.errors import ExitCode
from ai.ml.retraining.console.progress import working
from ai.ml.retraining.console.stdout import print_json
from ai.ml.retraining.settings.reading import read_options, reading_of
from ai.ml.retraining.settings.retrain import ReportSettings
from ai.ml.retraining.store.references import bundle_directory
from ai.ml.retraining.store.store import Store


def report(arguments: Namespace) -> int:
    """Write card and report of a bundle and print their paths."""
    from ai.ml.core.tables.reader import read_table
    from ai.ml.retraining.reporting.sources import report_version
    from ai.ml.retraining.reporting.svg import require_matplotlib

    require_matplotlib()
    bundle_dir = bundle_directory(arguments.bundle, arguments.store)
    output = arguments.output or Path("report-" + arguments.bundle.rstrip("/").rpartition("/")[2].replace("@", "-"))
    read = replace(read_options(arguments), remembered=reading_of(bundle_dir))
    data = None if arguments.data is None else read_table(arguments.data, read)
    settings = ReportSettings(max_rows=arguments.max_rows)
    with working("measuring and drawing"):
        written = report_version(arguments.bundle, bundle_dir, Store(arguments.store), data, settings, output)
    if arguments.json:
        print_json({"card": str(written.card), "report": str(written.page), "note": written.note})
    else:
        if written.note is not None:
            print(f"note    {written.note}")
        print(f"card    {written.card}\nreport  {written.page.absolute().as_uri()}")
    return ExitCode.OK
