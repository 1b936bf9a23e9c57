"""Charts that any model has: learning curve, importance, partial dependence, challenger against champion."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.inspection import PartialDependenceDisplay
from sklearn.utils import Bunch

from ai.ml.core.number_text import number
from ai.ml.retraining.decision.predictions import Predictions
from ai.ml.retraining.reporting.classification_charts import short
from ai.ml.retraining.reporting.importance import DependenceCurve, Importance
from ai.ml.retraining.reporting.metrics import Measure
from ai.ml.retraining.reporting.regression_charts import points_note, some_rows
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

MAX_BARS = 15
MAX_CLASSES = 4
MARKS = "o^sDvP*X"


def learning_curve(history: Sequence[Mapping[str, Any]]) -> Chart:
    """Loss per epoch, with the epoch whose weights were kept."""
    epochs = [int(report["epoch"]) for report in history]
    lines = {"training": "train_loss", "validation": "validation_loss"}

    def paint(axes: Any) -> str:
        for turn, (label, key) in enumerate(lines.items()):
            losses = [report.get(key) for report in history]
            if all(loss is not None for loss in losses):
                axes.plot(
                    epochs,
                    losses,
                    color=SERIES[turn],
                    linestyle=DASHES[turn],
                    label=label,
                    marker="." * (len(epochs) == 1),
                )
        watched = "validation_loss" if history[0].get("validation_loss") is not None else "train_loss"
        best = min(history, key=lambda report: report[watched])
        if watched == "validation_loss":
            axes.axvline(int(best["epoch"]), color=MUTED, linestyle=":", linewidth=1.2, label="kept")
        values = [report[watched] for report in history]
        if min(values) > 0 and max(values) / min(values) > 30:
            axes.set_yscale("log")
        axes.set(xlabel="epoch", ylabel="loss")
        axes.xaxis.get_major_locator().set_params(integer=True)
        legend_above(axes)
        return (
            f"Learning curve over {len(epochs)} epochs: training loss from {number(history[0]['train_loss'])} to "
            f"{number(history[-1]['train_loss'])}; least {watched.replace('_', ' ')} {number(best[watched])} in epoch "
            f"{best['epoch']}."
        )

    return draw("learning", "Learning curve", paint, note="Dotted: the epoch whose weights were kept.")


def importance_chart(importances: Sequence[Importance], metric: str, rows: int) -> Chart:
    """A box per column, as scikit-learn's example draws it."""
    top = list(importances[:MAX_BARS])[::-1]

    def paint(axes: Any) -> str:
        positions = np.arange(len(top))
        axes.barh(positions, [item.mean for item in top], color=SERIES[0], alpha=0.75, height=0.65)
        for position, item in zip(positions, top, strict=True):
            axes.plot(item.drops, np.full(len(item.drops), position), "|", color=INK, markersize=7)
        axes.set_yticks(positions, [short(item.column, 20) for item in top])
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.set(xlabel=f"{metric} gets worse by")
        short_ticks(axes.xaxis)
        axes.grid(visible=False, axis="y")
        texts = [f"{item.column} {number(item.mean)} ± {number(item.spread)}" for item in top[::-1]]
        return "Permutation importance: " + "; ".join(texts)

    more = f" The first {MAX_BARS} of {len(importances)} columns." if len(importances) > MAX_BARS else ""
    meaning = f"How much worse the answers get when a column's cells are shuffled ({rows:,} rows)"
    note = f"{meaning}; ticks: each of five shuffles.{more}"
    return draw("importance", "What the answers hang on", paint, note=note, size=(5.0, 1.1 + 0.3 * len(top)))


def dependence_charts(curves: Sequence[DependenceCurve], classes: list[str]) -> list[Chart]:
    """The mean answer over each column's values, all on one scale, so that a flat one looks flat."""
    if not curves:
        return []
    # Of two classes the second is enough; of more, those with the largest change.
    changes = np.max([np.ptp(curve.averages, axis=1) for curve in curves], axis=0)
    chosen = [1] if len(classes) == 2 else sorted(np.argsort(-changes, kind="stable")[:MAX_CLASSES].tolist())
    values = np.concatenate([curve.averages[chosen].ravel() for curve in curves])
    margin = 0.08 * float(np.ptp(values)) or 0.05
    limits = (float(values.min()) - margin, float(values.max()) + margin)
    return [
        _dependence(curve, classes, chosen, limits, number_of_chart) for number_of_chart, curve in enumerate(curves)
    ]


def _dependence(
    curve: DependenceCurve, classes: list[str], chosen: list[int], limits: tuple[float, float], number_of_chart: int
) -> Chart:
    names = [classes[index] if classes else "prediction" for index in chosen]
    binary = f"probability of {short(names[0])}"
    ylabel = binary if len(classes) == 2 else "mean probability" if classes else "mean prediction"

    def paint(axes: Any) -> str:
        for turn, (index, name) in enumerate(zip(chosen, names, strict=True)):
            draw_one = _points if curve.kind == "category" else _line
            draw_one(axes, curve, index, turn, limits)
            axes.lines[-1].set_label(short(name))
        if curve.kind == "number":
            axes.locator_params(axis="x", nbins=6)
        elif curve.kind == "date":
            _date_ticks(axes)
        axes.set(xlabel=short(curve.column, 40), ylabel=ylabel, ylim=limits)
        short_ticks(axes.yaxis)
        if curve.kind == "number":
            short_ticks(axes.xaxis)
        if (legend := axes.get_legend()) is not None:
            legend.remove()
        if len(chosen) > 1:
            legend_above(axes)
        texts = [
            f"{name} from {number(curve.averages[index].min())} to {number(curve.averages[index].max())}"
            for index, name in zip(chosen, names, strict=True)
        ]
        return f"Partial dependence on {curve.column}: " + "; ".join(texts)

    return draw(
        f"dependence-{number_of_chart}", short(curve.column, 40), paint, note=_dependence_note(curve), size=(5.0, 3.2)
    )


def _dependence_note(curve: DependenceCurve) -> str:
    if curve.kind == "date":
        return "Days that occurred; the model sees year, month and weekday of each, so the curve has corners."
    if curve.kind == "category" and curve.levels > len(curve.grid):
        return f"The {len(curve.grid)} most frequent of {curve.levels:,} categories."
    return ""


def _date_ticks(axes: Any) -> None:
    """Days since 1970 are matplotlib's own dates."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))


def _line(axes: Any, curve: DependenceCurve, index: int, turn: int, limits: tuple[float, float]) -> None:
    display = PartialDependenceDisplay(
        [Bunch(average=curve.averages, grid_values=[np.asarray(curve.grid)])],
        features=[(0,)],
        feature_names=[curve.column],
        target_idx=index,
        deciles={0: np.asarray(curve.deciles)},
    )
    with warnings.catch_warnings():
        # A further class is drawn into the same axes with the same limits, which matplotlib remarks on.
        warnings.simplefilter("ignore", UserWarning)
        display.plot(ax=[axes], line_kw={"color": SERIES[turn], "linestyle": DASHES[turn]}, pdp_lim={1: limits})
    for marks in axes.collections:
        # The deciles of the training values, black otherwise: unseen on a dark page.
        marks.set_color(MUTED)


def _points(axes: Any, curve: DependenceCurve, index: int, turn: int, limits: tuple[float, float]) -> None:
    """Points for levels: scikit-learn's Display draws bars, which mislead when they don't begin at 0."""
    positions = np.arange(len(curve.grid))
    axes.plot(positions, curve.averages[index], MARKS[turn], color=SERIES[turn], markersize=8)
    axes.set_xticks(positions, [short(str(value), 12) or "(missing)" for value in curve.grid])
    axes.set(xlim=(-0.5, len(positions) - 0.5), ylim=limits)
    if len(positions) > 4:
        turn_ticks(axes)


def gain_chart(measures: Sequence[Measure]) -> Chart | None:
    """Gain over the champion per metric, with intervals, each in units of the champion's own value."""
    pairs = [(item, item.gain, item.other) for item in measures if item.gain is not None and item.other is not None]
    if not pairs:
        return None

    def paint(axes: Any) -> str:
        texts: list[str] = []
        for position, (item, gain, other) in enumerate(reversed(pairs)):
            unit = abs(other.estimate) / 100 or 1.0
            low, middle, high = (value / unit for value in (gain.low, gain.estimate, gain.high))
            axes.errorbar(
                middle,
                position,
                xerr=[[middle - low], [high - middle]],
                fmt="o",
                color=SERIES[0],
                capsize=4,
                linewidth=1.8,
            )
            texts.insert(0, f"{item.label} {middle:+.1f} % ({low:+.1f} to {high:+.1f})")
        axes.set_yticks(range(len(pairs)), [item.label for item, _, _ in reversed(pairs)])
        axes.axvline(0, color=INK, linewidth=1)
        axes.set(xlabel="gain over the champion, % of its value", ylim=(-0.6, len(pairs) - 0.4))
        axes.grid(visible=False, axis="y")
        return "Gain over the champion: " + "; ".join(texts)

    note = "Right of the line this model is better. An interval that crosses it shows no significant gain."
    return draw("gain", "Gain over the champion", paint, note=note, size=(5.0, 1.3 + 0.45 * len(pairs)))


def agreement_chart(scored: Predictions, other: Predictions, classes: list[str]) -> Chart:
    """Scores of the two models for the same rows."""
    rows = some_rows(len(scored.truth))
    if scored.task == "regression":
        mine, theirs, quantity = scored.answers, other.answers, "prediction"
    elif len(classes) == 2:
        mine, theirs, quantity = scored.answers[:, 1], other.answers[:, 1], f"probability of {short(classes[1])}"
    else:
        everyone = np.arange(len(scored.truth))
        mine, theirs = scored.answers[everyone, scored.truth], other.answers[everyone, other.truth]
        quantity = "probability of the true class"

    def paint(axes: Any) -> str:
        groups = [1] if scored.task == "regression" else list(range(len(classes)))
        for turn, index in enumerate(groups[: len(SERIES)]):
            mine_rows = rows if scored.task == "regression" else rows[scored.truth[rows] == index]
            label = None if scored.task == "regression" else short(classes[index])
            style = {"color": SERIES[turn], "alpha": 0.6, "s": 16, "linewidths": 0, "marker": MARKS[turn]}
            axes.scatter(theirs[mine_rows], mine[mine_rows], label=label, **style)
        low, high = min(mine.min(), theirs.min()), max(mine.max(), theirs.max())
        axes.plot([low, high], [low, high], color=INK, linewidth=1)
        axes.set(xlabel="champion", ylabel="this model")
        short_ticks(axes.xaxis)
        short_ticks(axes.yaxis)
        if scored.task != "regression":
            legend_above(axes, markerscale=1.6)
        apart = float(np.mean(np.abs(mine - theirs)))
        return f"{quantity} of this model against the champion's, row by row; mean distance {number(apart)}."

    note = f"The {quantity}, row by row; on the line both say the same." + points_note(len(scored.truth))
    return draw("agreement", "Scores of both models", paint, note=note, size=(5.0, 4.0 + legend_room(len(classes))))
