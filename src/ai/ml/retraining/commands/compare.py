"""The console command `compare`: two bundles side by side on a table."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ai.ml.core.errors import ExitCode
from ai.ml.core.number_text import figure
from ai.ml.retraining.console.progress import result_console, working
from ai.ml.retraining.console.stdout import print_json
from ai.ml.retraining.settings.reading import read_options, reading_of
from ai.ml.retraining.store.references import bundle_directory, find_version
from ai.ml.retraining.store.store import Store

if TYPE_CHECKING:
    from ai.ml.retraining.decision.evaluation import EvaluatedBundle


def compare(arguments: Namespace) -> int:
    """Metrics with intervals, slices, and the rows on which the two differ most."""
    from ai.ml.core.tables.reader import read_table
    from ai.ml.retraining.decision.evaluation import EvaluatedBundle
    from ai.ml.retraining.decision.side_by_side import side_by_side

    folders = [bundle_directory(name, arguments.store) for name in (arguments.first, arguments.second)]
    read = replace(read_options(arguments), remembered=reading_of(folders[0]))
    table = read_table(arguments.data, read)
    with working("asking both"):
        first, second = bundles = [EvaluatedBundle(folder) for folder in folders]
        comparison = side_by_side(first, second, table, arguments.slice, arguments.rows)
        learned = [_learned(Store(arguments.store), bundle, table) for bundle in bundles]
    bundles_by_name = zip((arguments.first, arguments.second), bundles, learned, strict=True)
    sides = [{"bundle": name, "digest": bundle.digest, **facts} for name, bundle, facts in bundles_by_name]
    record = {"first": sides[0], "second": sides[1], **comparison.to_json()}
    if arguments.json:
        print_json(record)
    else:
        show_comparison(record, result_console())
    return ExitCode.OK


def show_comparison(record: dict[str, Any], console: Console) -> None:
    """Print the comparison: rows that each learned from, metrics, slices, rows."""
    for side in ("first", "second"):
        facts = record[side]
        if facts["unknown"]:
            text = "which rows it learned from isn't known: " + "; ".join(facts["unknown"])
        else:
            text = f"learned from {facts['learned_from']:,} of these rows, which flatter it"
            text = text if facts["learned_from"] else "learned from none of these rows"
        console.print(Text(f"{side:7} {facts['bundle']} ({facts['digest'][:12]}): {text}"))
    if record["note"]:
        console.print(Text(f"note    {record['note']}"))
    measured = Table("metric", "first", "second", "gain of the second", title=f"{record['rows']:,} rows")
    for name, facts in record["metrics"].items():
        measured.add_row(name, *_cells(facts))
    console.print(measured)
    if record["slices"]:
        parts = Table("slice", "rows", "metric", "first", "second", "gain of the second")
        for name, facts in record["slices"].items():
            parts.add_row(Text(name), f"{facts['rows']:,}", facts["metric"], *_cells(facts))
        console.print(parts)
    if record["apart"]:
        rows = Table("row", "truth", "first", "second", "cells", title="where they differ most")
        for facts in record["apart"]:
            cells = ", ".join(f"{name} {cell}" for name, cell in facts["cells"].items())
            answers = (_answer(facts[side]) for side in ("first", "second"))
            rows.add_row(*(Text(each) for each in (str(facts["row"]), _answer(facts["truth"]), *answers, cells)))
        console.print(rows)


def _cells(facts: dict[str, Any]) -> tuple[str, str, str]:
    first, second = (_figure(facts[side]) for side in ("first", "second"))
    gain, low, high = (_figure(facts["gain"][name], signed=True) for name in ("estimate", "low", "high"))
    return first, second, f"{gain} ({low} to {high})"


def _figure(value: float | None, *, signed: bool = False) -> str:
    return "–" if value is None else figure(value, signed=signed)


def _answer(answer: Any) -> str:
    if isinstance(answer, dict):
        return f"{answer['class']} {figure(answer['probability'], 3)}"
    return figure(answer) if isinstance(answer, float) else str(answer)


def _learned(store: Store, bundle: EvaluatedBundle, table: Any) -> dict[str, Any]:
    """The number of rows that a bundle learned from, and the models whose rows aren't known."""
    from ai.ml.retraining.decision.overlap import learned_from

    overlap = learned_from("it", bundle.path, table, partial(find_version, store))
    return {"learned_from": int(overlap.seen.sum()), "unknown": list(overlap.unknown)}
