"""The terminal output at the end of a retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ai.ml.core.number_text import figure
from ai.ml.core.tables.reader import read_table
from ai.ml.retraining.console import colours
from ai.ml.retraining.console.progress import result_console
from ai.ml.retraining.console.stdout import print_facts
from ai.ml.retraining.records import RetrainSummary

ROWS_SHOWN = 5
COLUMNS_SHOWN = 7
CELL_SHOWN = 24
COLUMN_WIDTH = 16
"""Minimum width of a column, in characters."""


def show_summary(summary: RetrainSummary) -> None:
    """Print verdict, metrics, decision, champion and the first scored rows to stdout."""
    console = result_console()
    console.print()
    facts: list[tuple[str, str | Text]] = [
        *([("target", summary.candidate.target)] if summary.candidate.target else []),
        ("verdict", _coloured(summary.verdict.outcome, summary.verdict.reason)),
        ("metrics", metrics_line(summary.candidate.metrics)),
        *(("baseline", baseline_line(baseline)) for baseline in summary.candidate.baselines),
    ]
    if summary.drift is not None:
        facts.append(("drift", summary.drift.sentence))
    facts += [
        ("decision", _coloured(summary.promotion.outcome, summary.decision.reason)),
        ("champion", summary.promotion.path or "none"),
        ("scored", summary.scored.file.path),
    ]
    if summary.report is not None:
        facts.append(("report", Path(summary.report.page.path).as_uri()))
    print_facts(console, facts)
    console.print()
    console.print(_first_rows(summary, console.width))


def metrics_line(metrics: dict[str, object]) -> str:
    """`accuracy 0.9420, loss 0.1433 (training 0.0211)`."""
    value, test_loss, train_loss = (_number(metrics[key]) for key in ("test_metric_value", "test_loss", "train_loss"))
    return f"{metrics['test_metric_name']} {value}, loss {test_loss} on unseen rows ({train_loss} on the training rows)"


def baseline_line(baseline: dict[str, Any]) -> str:
    """`gradient boosting: log_loss 0.43, candidate 0.42, gain +0.01 (-0.002 to +0.03)`."""
    gain, low, high = (figure(baseline[key], 3, signed=True) for key in ("gain", "low", "high"))
    values = f"{baseline['metric']} {figure(baseline['value'])}, candidate {figure(baseline['candidate'])}"
    worse = " — it does better" if baseline["gain"] < 0 else ""
    surely = ", though not surely" if baseline["gain"] < 0 <= baseline["high"] else ""
    return f"{baseline['name']}: {values}, gain {gain} ({low} to {high}){worse}{surely}"


def _number(value: object) -> str:
    return figure(value) if isinstance(value, float) else str(value)


def _coloured(outcome: str, reason: str) -> Text:
    return Text.assemble((outcome, colours.RUNS.get(outcome, "red")), " — ", reason)


def _first_rows(summary: RetrainSummary, width: int) -> Table:
    table = read_table(summary.scored.file.path).slice(0, ROWS_SHOWN)
    names = table.column_names
    # As many columns as keep a readable width, the answer always among them; the file has all.
    room = min(COLUMNS_SHOWN, max(2, width // COLUMN_WIDTH))
    shown = [*names[: room - 1], names[-1]] if len(names) > room else names
    more = f", {len(shown)} of {len(names)} columns" if len(shown) < len(names) else ""
    view = Table(title=f"first of {summary.scored.rows:,} scored rows{more}", title_justify="left")
    for name in shown:
        view.add_column(Text(name), no_wrap=True)
    for row in table.select(shown).to_pylist():
        view.add_row(*(Text("" if value is None else _short(str(value))) for value in row.values()))
    return view


def _short(text: str) -> str:
    return text if len(text) <= CELL_SHOWN else f"{text[: CELL_SHOWN - 1]}…"
