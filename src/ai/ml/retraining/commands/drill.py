"""The console command `drill`: break copies of a table, and report the night's outcome for each."""

from __future__ import annotations

from argparse import Namespace

from rich.console import Console
from rich.text import Text

from ai.ml.core.bundle_dir import read_manifest
from ai.ml.core.tables.locations import source_name
from ai.ml.core.tables.reader import read_table
from ai.ml.retraining.console import colours
from ai.ml.retraining.console.progress import result_console, working
from ai.ml.retraining.console.stdout import print_json
from ai.ml.retraining.drill.kind import FAMILIES
from ai.ml.retraining.drill.play import Night
from ai.ml.retraining.drill.run import drill as play_drill
from ai.ml.retraining.settings.reading import read_options
from ai.ml.retraining.store.store import Store

WORDS = {"silent": "SILENT", "not applicable": "–"}
WIDTH = 38


def drill(arguments: Namespace) -> int:
    """Break copies of a model's last good table in every known way, and run the night with each."""
    store = Store(arguments.store)
    manifest = read_manifest(store.resolve(f"{arguments.name}@champion"))
    with working("reading"):
        table = read_table(arguments.data, read_options(arguments))
    if table.num_rows > arguments.rows:
        table = table.slice(table.num_rows - arguments.rows)
    console = result_console()
    show = None if arguments.json else lambda night: _show(console, night)
    families = arguments.family or FAMILIES
    report = play_drill(
        manifest, table, source_name(arguments.data), families=families, names=arguments.kind, show=show
    )
    if arguments.json:
        print_json(report.to_json())
    else:
        console.print()
        console.print(Text(report.sentence), soft_wrap=True)
    return report.exit_code


def _show(console: Console, night: Night) -> None:
    stopped = night.family == "good" and night.is_stopped
    word = "STOPPED" if stopped else WORDS.get(night.fate, night.fate)
    colour = "red" if stopped else colours.DRILLS.get(night.fate, "dim")
    head = (night.family.ljust(8), (word.ljust(9), colour), night.name.ljust(WIDTH))
    truth = "" if night.truth is None else f" [{night.truth.sentence}]"
    console.print(Text.assemble(*head, night.sentence, (truth, "dim")), soft_wrap=True)
