"""A backtest as one self-contained HTML file: no requests, no scripts, both themes."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.util import find_spec

from ai.ml.core.files.atomic import write_atomic
from ai.ml.core.number_text import figure
from ai.ml.retraining.backtest.origins import backtest_dir
from ai.ml.retraining.backtest.outcome import NEVER, BacktestSummary, Course, course_rows
from ai.ml.retraining.console.progress import logger, working
from ai.ml.retraining.records import FileRef
from ai.ml.retraining.reporting import html as markup
from ai.ml.retraining.reporting.html import Section
from ai.ml.retraining.settings.backtest import BacktestConfig

PAGE = "report.html"
FOOTER = (
    "Made by Bundlegate from the backtest's own trainings; nothing in this page was fetched and nothing in it runs. "
    "The past is one course of events: what held for it need not hold for the nights to come."
)


def with_report(config: BacktestConfig, summary: BacktestSummary) -> BacktestSummary:
    """The summary with its page, drawn into the backtest's folder; an error is logged and changes nothing.

    Args:
        config: of the backtest; `report.enabled` turns the page on.
        summary: all but the page.
    """
    if not config.report.enabled:
        return summary
    if find_spec("matplotlib") is None:
        logger.warning("no report: it needs the extra `report`: pip install 'bundlegate[report]'")
        return summary
    try:
        with working("drawing the report"):
            path = backtest_dir(config) / PAGE
            write_atomic(path, to_html(summary).encode())
    except Exception as error:
        logger.warning("no report: %s: %s; nothing else depends on it", type(error).__name__, error)
        return summary
    logger.info("reported  %s", path.as_uri())
    return summary.model_copy(update={"report": FileRef.of(path)})


def to_html(summary: BacktestSummary) -> str:
    """The whole page; the same summary gives the same bytes."""
    from ai.ml.retraining.reporting.page import document

    parts = [_answer(summary), *_decisions(summary), _origins(summary)]
    return document(f"{summary.name} · backtest", _header(summary), parts, FOOTER)


def _header(summary: BacktestSummary) -> str:
    from ai.ml.retraining.reporting.page import banner

    subtitle = f"Backtest on {summary.rows:,} rows of {summary.source}, {summary.order}, {len(summary.origins)} origins"
    head = f"<header><h1>{escape(summary.name)}</h1><p>{escape(subtitle)}</p>"
    return head + banner(*_tone(summary), summary.sentence.partition("? ")[2]) + "</header>"


def _tone(summary: BacktestSummary) -> tuple[str, str]:
    """Tone and heading of the banner, by the best of the policies."""
    if any(course.over_never.low > 0 for course in summary.policies):
        return "good", "Retraining would have served better"
    if all(course.over_never.high < 0 for course in summary.policies):
        return "bad", "Retraining would have served worse"
    return "warn", "No surely better than never retraining"


def _answer(summary: BacktestSummary) -> Section:
    from ai.ml.retraining.backtest.charts import served_chart

    rows = course_rows(summary)
    cells = [[figure(value) if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    caption = f"{summary.metric} served over all rows that came, with intervals at {summary.confidence:.0%}"
    explanation = (
        "Each policy decided on the same challengers, each with a champion of its own; what it then served was "
        "measured on the rows that came until the next origin, which no model had seen."
    )
    tiles = [(course.name, figure(course.loss), _beside(course, summary.never.loss)) for course in summary.courses]
    return Section(
        "answer",
        "Would it have served better?",
        (
            markup.tiles(tiles),
            markup.figures([served_chart(summary)]),
            markup.table(caption, list(rows[0]), cells),
            markup.paragraph(explanation, "muted"),
            markup.bullets(summary.notes) if summary.notes else "",
        ),
    )


def _beside(course: Course, never: float) -> str:
    if course.name == NEVER or not never:
        return "the first model"
    return f"{course.loss / never - 1:+.1%} against never retraining"


def _decisions(summary: BacktestSummary) -> Iterator[Section]:
    from ai.ml.retraining.backtest.charts import foresight_chart

    labels = {origin.origin: origin.label for origin in summary.origins}
    head = ("origin", "decision", "gain it saw", "gain that came true", "serves", "loss on the rows after it", "why")
    for number, course in enumerate(summary.policies, start=1):
        rows = [
            (
                labels[night.origin],
                night.outcome + (f": {night.mistake}" if night.mistake else ""),
                "–" if night.gain is None else night.gain.text,
                "–" if night.came_true is None else night.came_true.text,
                labels[night.serves],
                figure(night.loss),
                night.reason,
            )
            for night in course.nights
        ]
        table = markup.table(f"Every decision of {course.name}", head, rows, "words")
        yield Section(
            f"policy-{number}",
            f"Policy {course.name}",
            (markup.figures([foresight_chart(summary, course, number)]), table),
        )


def _origins(summary: BacktestSummary) -> Section:
    head = ("origin", "rows", "rows after it", "outcome", "bundle", "said")
    rows = [
        (
            origin.label,
            f"{origin.rows:,}",
            f"{origin.later_rows:,}",
            origin.outcome,
            (origin.digest or "–")[:12],
            origin.reason,
        )
        for origin in summary.origins
    ]
    return Section("origins", "What was trained and proved", (markup.table("Every origin", head, rows, "words"),))
