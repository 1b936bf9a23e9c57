"""A self-test's report for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ai.ml.retraining.selftest.run import SelftestReport


def show_selftest(report: SelftestReport, console: Console) -> None:
    """Print every defect with what became of it, then the outcome."""
    table = Table("defect", "made by", "fate", "refused by", "what was said")
    for result in report.results:
        idle = result.fate in ("no change", "not applicable")
        style = "bold red" if result.wrong else "dim" if idle else "green"
        table.add_row(
            result.name,
            result.family,
            f"[{style}]{result.fate}[/{style}]",
            ", ".join(result.checks),
            escape(result.message[:160]),
        )
    console.print(table)
    console.print(report.sentence)
