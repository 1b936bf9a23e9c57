"""What a person reads at the end of a retraining run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ai.ml.core.tables import read_table
from ai.ml.retraining.checkpoints import RetrainSummary

ROWS_SHOWN = 5
COLUMNS_SHOWN = 7
COLOURS = {"PASSED": "green", "PROMOTED": "green", "HELD": "yellow"}


def show_summary(summary: RetrainSummary) -> None:
    """Print verdict, metrics, decision, champion and the first scored rows to stdout."""
    console = Console()
    console.print()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("verdict", _coloured(summary.verdict.outcome, summary.verdict.reason))
    facts.add_row("metrics", metrics_line(summary.candidate.metrics))
    for baseline in summary.candidate.baselines:
        facts.add_row("baseline", baseline_line(baseline))
    if summary.drift is not None:
        facts.add_row("drift", Text(summary.drift.sentence))
    facts.add_row("decision", _coloured(summary.promotion.outcome, summary.decision.reason))
    facts.add_row("champion", summary.promotion.path or "none")
    facts.add_row("scored", summary.scored.file.path)
    if summary.report is not None:
        # Bare, on a line of its own: folded into a column nobody could click or copy it.
        facts.add_row("report", "opens in any browser, from disk:")
    console.print(facts)
    if summary.report is not None:
        console.print(Path(summary.report.page.path).as_uri(), soft_wrap=True)
    console.print()
    console.print(_first_rows(summary))


def metrics_line(metrics: dict[str, object]) -> str:
    """`accuracy 0.9420, loss 0.1433 (training 0.0211)`."""
    value, test_loss, train_loss = (_number(metrics[key]) for key in ("test_metric_value", "test_loss", "train_loss"))
    return f"{metrics['test_metric_name']} {value}, loss {test_loss} on unseen rows ({train_loss} on the training rows)"


def baseline_line(baseline: dict[str, Any]) -> str:
    """`gradient boosting: log_loss 0.43, candidate 0.42, gain +0.01 (-0.002 to +0.03)`."""
    gain = f"{baseline['gain']:+.3g} ({baseline['low']:+.3g} to {baseline['high']:+.3g})"
    values = f"{baseline['metric']} {baseline['value']:.4g}, candidate {baseline['candidate']:.4g}"
    return f"{baseline['name']}: {values}, gain {gain}" + (" — the candidate loses" if baseline["gain"] < 0 else "")


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _coloured(outcome: str, reason: str) -> Text:
    return Text.assemble((outcome, COLOURS.get(outcome, "red")), " — ", reason)


def _first_rows(summary: RetrainSummary) -> Table:
    table = read_table(summary.scored.file.path).slice(0, ROWS_SHOWN)
    names = table.column_names
    shown = [*names[: COLUMNS_SHOWN - 1], names[-1]] if len(names) > COLUMNS_SHOWN else names
    view = Table(title=f"first of {summary.scored.rows} scored rows", title_justify="left")
    for name in shown:
        view.add_column(name)
    for row in table.select(shown).to_pylist():
        view.add_row(*("" if value is None else str(value) for value in row.values()))
    return view
