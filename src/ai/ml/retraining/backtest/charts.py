"""The two charts of a backtest: the loss of each course, and each decision's gain beside the gain on later rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ai.ml.core.number_text import figure
from ai.ml.retraining.backtest.outcome import ALWAYS, BEST, NEVER, BacktestSummary, Course, Night
from ai.ml.retraining.reporting.svg import (
    DASHES,
    INK,
    MUTED,
    SERIES,
    Chart,
    draw,
    legend_above,
    legend_room,
    short_ticks,
    turn_ticks,
)

MARKS = "os^DvP"
MAX_LABELS = 12
_REFERENCES = {NEVER: (MUTED, ":"), ALWAYS: (MUTED, "--"), BEST: (INK, "-.")}
_WIDTH = 5.0


def served_chart(summary: BacktestSummary) -> Chart:
    """Each course's gain over never retraining, night by night, in per cent: above 0 it served better."""
    nights = [night.origin for night in summary.courses[0].nights]

    def paint(axes: Any) -> str:
        axes.axhline(0, color=MUTED, linewidth=1)
        texts: list[str] = []
        for course in summary.courses:
            saved = [_saved(before, after) for before, after in zip(summary.never.nights, course.nights, strict=True)]
            if course.name != NEVER:
                axes.plot(range(len(nights)), saved, label=course.name, **_style(summary, course))
                texts.append(f"{course.name} {figure(saved[-1], 3, signed=True)} on the last night")
        _label_nights(axes, summary, nights)
        axes.set(ylabel="per cent less loss than\nnever retraining")
        legend_above(axes)
        return f"Loss on the rows after each of {len(nights)} origins against never retraining: {'; '.join(texts)}."

    quantity = f"{summary.metric} on the rows that came after each origin"
    note = f"{quantity}, in per cent below the first model's. Above 0 is better."
    size = (_WIDTH, 3.6 + legend_room(len(summary.courses) - 1))
    return draw("served", "What was served, night after night", paint, note=note, size=size)


def foresight_chart(summary: BacktestSummary, course: Course, number: int) -> Chart | None:
    """Each decision's gain and the gain on the rows after it, with their intervals."""
    nights = [night for night in course.nights if night.came_true is not None]
    if not nights:
        return None

    def paint(axes: Any) -> str:
        texts: list[str] = []
        for turn, (label, name) in enumerate((("decided by", "gain"), ("came true", "came_true"))):
            gains = [
                (spot, getattr(night, name)) for spot, night in enumerate(nights) if getattr(night, name) is not None
            ]
            spots = np.array([spot for spot, _ in gains]) + (turn - 0.5) * 0.24
            middle = np.array([gain.estimate for _, gain in gains])
            arms = np.array([[gain.estimate - gain.low, gain.high - gain.estimate] for _, gain in gains]).T
            if gains:
                axes.errorbar(
                    spots, middle, yerr=np.maximum(arms, 0), fmt=MARKS[turn], color=SERIES[turn], capsize=3, label=label
                )
        for spot, night in enumerate(nights):
            decided = "nothing compared" if night.gain is None else figure(night.gain.estimate, 2, signed=True)
            assert night.came_true is not None
            texts.append(f"{night.outcome}, {decided}, came true {figure(night.came_true.estimate, 2, signed=True)}")
            axes.annotate(
                _short(night), (spot, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize=9, color=INK
            )
        axes.axhline(0, color=MUTED, linewidth=1)
        _label_nights(axes, summary, [night.origin for night in nights])
        axes.set(ylabel=f"gain in {summary.metric}", xlim=(-0.6, len(nights) - 0.4))
        short_ticks(axes.yaxis)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2)
        return f"Gains of the challengers under {course.name}: {'; '.join(texts)}."

    note = "P: promoted, H: held, R: rejected. Challenger over champion, above 0 is better; bars: intervals."
    key = f"foresight-{number}"
    return draw(key, f"Decided and come true: {course.name}", paint, note=note, size=(_WIDTH, 3.8))


def _short(night: Night) -> str:
    return night.outcome[:1] if night.outcome in ("PROMOTE", "HOLD", "REJECT") else "–"


def _saved(before: Night, after: Night) -> float:
    """How much lower the second loss is, in per cent."""
    return 100 * (1 - after.loss / before.loss) if before.loss else 0.0


def _style(summary: BacktestSummary, course: Course) -> dict[str, Any]:
    if course.name in _REFERENCES:
        colour, dash = _REFERENCES[course.name]
        return {"color": colour, "linestyle": dash, "linewidth": 1.3}
    turn = summary.policies.index(course)
    return {
        "color": SERIES[turn % len(SERIES)],
        "linestyle": DASHES[turn % len(DASHES)],
        "marker": MARKS[turn % len(MARKS)],
        "markersize": 5,
    }


def _label_nights(axes: Any, summary: BacktestSummary, numbers: list[int]) -> None:
    labels = {origin.origin: origin.label for origin in summary.origins}
    every = -(-len(numbers) // MAX_LABELS)
    spots = range(0, len(numbers), every)
    axes.set_xticks(list(spots), [labels[numbers[spot]] for spot in spots])
    turn_ticks(axes)
