"""The results of a backtest: decisions and later losses by origin and policy, and one answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from ai.ml.core.errors import worst_of
from ai.ml.core.number_text import counted, figure
from ai.ml.retraining.backtest.candidate import PROVED, OriginOutcome
from ai.ml.retraining.backtest.origins import OriginPlan
from ai.ml.retraining.console import colours
from ai.ml.retraining.console.progress import result_console
from ai.ml.retraining.records import FileRef, Record

NEVER, ALWAYS, BEST = "never retraining", "always promoting", "the best in hindsight"
PROMOTED = "PROMOTE"
PROMOTED_WORSE, KEPT_WORSE = "promoted a worse model", "kept a worse model"
"""Decisions that were wrong beyond doubt."""


class Gain(Record):
    """How far one model's loss is below another's on the same rows, with its interval."""

    estimate: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """`+0.012 (+0.003 to +0.021)`."""
        estimate, low, high = (figure(value, 3, signed=True) for value in (self.estimate, self.low, self.high))
        return f"{estimate} ({low} to {high})"


class Night(Record):
    """One origin under one policy."""

    origin: int
    outcome: str
    """PROMOTE, HOLD, REJECT; or the origin's own outcome where there was no challenger."""
    reason: str
    gain: Gain | None = None
    """Of the challenger over the champion on the decision's rows; None where nothing was compared."""
    came_true: Gain | None = None
    """The same on the rows that came after; None where there was no champion or no challenger."""
    learned_from: int | None = None
    """Held-out rows that didn't count, since one of the two had learned from them."""
    serves: int
    """The origin whose model answers the rows that come."""
    loss: float
    """Of that model on those rows."""

    @property
    def mistake(self) -> str | None:
        """How the decision was wrong beyond doubt, if it was."""
        if self.came_true is None:
            return None
        if self.outcome == PROMOTED and self.came_true.high < 0:
            return PROMOTED_WORSE
        if self.outcome != PROMOTED and self.came_true.low > 0:
            return KEPT_WORSE
        return None


class Course(Record):
    """All nights under one policy, or under one of the three references."""

    name: str
    kind: Literal["policy", "reference"]
    loss: float
    """Mean loss over all rows after the origins."""
    over_never: Gain
    """The gain over never retraining."""
    nights: tuple[Night, ...]

    @property
    def promotions(self) -> int:
        """The number of promotions after the first model."""
        return sum(night.outcome == PROMOTED for night in self.nights[1:])

    def mistakes(self, kind: str) -> int:
        """The number of mistakes of one kind."""
        return sum(night.mistake == kind for night in self.nights)


class BacktestSummary(Record):
    """The whole backtest in one record."""

    name: str
    source: str
    rows: int
    order: str
    metric: Literal["log_loss", "rmse"]
    """The loss that is measured on later rows, whatever metric decides."""
    confidence: float
    """The confidence of all intervals."""
    notes: tuple[str, ...]
    origins: tuple[OriginOutcome, ...]
    courses: tuple[Course, ...]
    """The policies in the order of the settings, then never, always, and the best in hindsight."""
    sentence: str
    """Whether this pipeline would have served better than never retraining."""
    exit_code: int
    """The worst of the origins' exit codes; the answer doesn't change it."""
    report: FileRef | None = None
    """HTML; None where the extra for reports isn't installed."""

    @property
    def policies(self) -> tuple[Course, ...]:
        """The courses that a policy decided."""
        return tuple(course for course in self.courses if course.kind == "policy")

    @property
    def never(self) -> Course:
        """The course that the others are compared with: the first model for ever."""
        return next(course for course in self.courses if course.name == NEVER)

    @property
    def undecided(self) -> tuple[OriginOutcome, ...]:
        """Origins without a proven challenger."""
        return tuple(origin for origin in self.origins if origin.outcome != PROVED)


def answer(name: str, metric: str, courses: Iterable[Course], rows: int, nights: int) -> str:
    """One sentence for each policy: yes, no, or undecided.

    Args:
        name: the model's.
        metric: of the loss.
        courses: all of them.
        rows: that came after an origin with a model.
        nights: such origins.
    """
    all_courses = list(courses)
    never = next(course for course in all_courses if course.name == NEVER)
    verdicts = [
        f"with {course.name}, {_verdict(course, never.loss)}" for course in all_courses if course.kind == "policy"
    ]
    over = f"{metric} served over {counted(nights, 'night')} and {counted(rows, 'row')}"
    return (
        f"{name}: would this pipeline have served better than never retraining ({over}: {figure(never.loss)})? "
        f"W{'; '.join(verdicts)[1:]}"
    )


def _verdict(course: Course, never: float) -> str:
    gain = course.over_never
    share = f"{abs(gain.estimate) / never:.1%}" if never else figure(abs(gain.estimate))
    less = "less" if gain.estimate > 0 else "more"
    estimate, low, high = (figure(value, 3, signed=True) for value in (gain.estimate, gain.low, gain.high))
    figures = f"{figure(course.loss)}, {share} {less} (gain {estimate}, {low} to {high})"
    if not course.promotions:
        return f"no: {figure(course.loss)} as well, since it never promoted another model than the first"
    if gain.low > 0:
        return f"yes: {figures}"
    return f"no: {figures}" if gain.high < 0 else f"that can't be told: {figures}"


def summarize(plan: OriginPlan, name: str, origins: list[OriginOutcome], **facts: Any) -> BacktestSummary:
    """The outcomes and courses in one record."""
    code = worst_of(origin.exit_code for origin in origins)
    from_plan = {"source": plan.source, "rows": plan.rows, "order": plan.order}
    return BacktestSummary.model_validate({"name": name, **from_plan, "origins": origins, "exit_code": code, **facts})


def course_rows(summary: BacktestSummary) -> list[dict[str, Any]]:
    """A row for each course, as plain values."""
    never = summary.never.loss
    return [
        {
            "course": course.name,
            summary.metric: float(figure(course.loss, 6).replace(",", "")),
            "against never retraining": f"{course.loss / never - 1:+.1%}" if never else "–",
            "gain over never retraining": "–" if course.name == NEVER else course.over_never.text,
            "promotions": str(course.promotions),
        }
        | {
            mistake: str(course.mistakes(mistake)) if course.kind == "policy" else "–"
            for mistake in (PROMOTED_WORSE, KEPT_WORSE)
        }
        for course in summary.courses
    ]


def show_backtest(summary: BacktestSummary) -> None:
    """Print origins, courses and the answer to stdout."""
    console = result_console()
    console.print()
    title = f"{summary.name}: {summary.rows:,} rows of {summary.source}, {summary.order}"
    nights = Table(title=Text(title), title_justify="left")
    for name in ("origin", "rows", "rows after it", "outcome", *(course.name for course in summary.policies)):
        nights.add_column(name, overflow="fold", justify="right" if "rows" in name else "left")
    for index, origin in enumerate(summary.origins):
        cells = (Text(origin.label), f"{origin.rows:,}", f"{origin.later_rows:,}")
        outcome = Text(origin.outcome, "green" if origin.outcome == PROVED else colours.RUNS.get(origin.outcome, "red"))
        nights.add_row(*cells, outcome, *(_decided(course, index, summary) for course in summary.policies))
    console.print(nights)
    table = Table(title="served over all rows that came", title_justify="left")
    rows = course_rows(summary)
    for name in rows[0]:
        table.add_column(name, overflow="fold", justify="left" if name == "course" else "right")
    for row in rows:
        table.add_row(*(Text(figure(value) if isinstance(value, float) else str(value)) for value in row.values()))
    console.print(table)
    for origin in summary.undecided:
        console.print(Text(f"{origin.label}: {origin.outcome} — {origin.reason}"), soft_wrap=True)
    for note in summary.notes:
        console.print(Text(note), soft_wrap=True)
    if summary.report is not None:
        console.print(Text(f"report    {summary.report.path}"), soft_wrap=True)
    console.print(Text(summary.sentence), soft_wrap=True)


def _decided(course: Course, index: int, summary: BacktestSummary) -> Text:
    """`PROMOTE, truly +0.012`; a dash before there was any model."""
    number = summary.origins[index].origin
    night = next((night for night in course.nights if night.origin == number), None)
    if night is None:
        return Text("–")
    truth = "" if night.came_true is None else f", came true {figure(night.came_true.estimate, 2, signed=True)}"
    return Text(f"{night.outcome}{truth}", colours.DECISIONS.get(night.outcome, "red"))
