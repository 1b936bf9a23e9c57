"""Charts of a regression's answers, drawn by scikit-learn's Displays."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import PredictionErrorDisplay

from ai.ml.core.number_text import number
from ai.ml.retraining.decision.predictions import Predictions
from ai.ml.retraining.reporting.svg import INK, MUTED, SERIES, Chart, draw, legend_above, short_ticks

MAX_POINTS = 600
BANDS = 8


def regression_charts(scored: Predictions, target: str) -> list[Chart]:
    """Predicted against actual, residuals against predicted with their quantiles, histogram of the residuals."""
    return [predicted_actual(scored, target), residuals_predicted(scored, target), residual_histogram(scored, target)]


def some_rows(rows: int) -> np.ndarray:
    """At most `MAX_POINTS` row numbers in order, the same ones each time."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:MAX_POINTS])


def points_note(rows: int) -> str:
    """Says it where points were left out."""
    return f" Shown: {MAX_POINTS:,} of {rows:,} rows, drawn at random." if rows > MAX_POINTS else ""


def _display(scored: Predictions, kind: str, axes: Any) -> None:
    rows = some_rows(len(scored.truth))
    PredictionErrorDisplay(y_true=scored.truth[rows], y_pred=scored.answers[rows]).plot(
        ax=axes,
        kind=kind,
        scatter_kwargs={"color": SERIES[0], "alpha": 0.5, "s": 12, "linewidths": 0},
        line_kwargs={"color": INK, "linewidth": 1},
    )


def predicted_actual(scored: Predictions, target: str) -> Chart:
    """Scatter with the diagonal."""

    def paint(axes: Any) -> str:
        from matplotlib.ticker import AutoLocator, ScalarFormatter

        _display(scored, "actual_vs_predicted", axes)
        axes.set(xlabel="predicted", ylabel="actual", aspect="auto", title="")
        for axis in (axes.xaxis, axes.yaxis):
            # The Display puts its ticks at odd values.
            axis.set_major_locator(AutoLocator())
            axis.set_major_formatter(ScalarFormatter())
            short_ticks(axis)
        correlation = float(np.corrcoef(scored.truth, scored.answers)[0, 1]) if np.ptp(scored.answers) > 0 else 0.0
        return f"Actual against predicted {target}; correlation {correlation:.3f} over {len(scored.truth):,} rows."

    note = "On the line the prediction is right." + points_note(len(scored.truth))
    return draw("actual", "Predicted against actual", paint, note=note, size=(5.0, 4.0))


def residuals_predicted(scored: Predictions, target: str) -> Chart:
    """Scatter with the 5 %, 50 % and 95 % quantiles of eight equal groups."""
    residuals = scored.truth - scored.answers
    groups = [group for group in np.array_split(np.argsort(scored.answers, kind="stable"), BANDS) if len(group) >= 5]
    middles = [float(np.median(scored.answers[group])) for group in groups]
    bands = np.array([np.quantile(residuals[group], (0.05, 0.5, 0.95)) for group in groups]).reshape(-1, 3)

    def paint(axes: Any) -> str:
        _display(scored, "residual_vs_predicted", axes)
        for column, (label, dashes) in enumerate((("5 %", ":"), ("median", "-"), ("95 %", "--"))):
            axes.plot(middles, bands[:, column], color=SERIES[1], linestyle=dashes, marker=".", label=label)
        axes.set(xlabel="predicted", ylabel="actual − predicted", title="")
        short_ticks(axes.xaxis)
        short_ticks(axes.yaxis)
        legend_above(axes)
        pairs = [
            f"at {number(at)} from {number(low)} to {number(high)}"
            for at, (low, _, high) in zip(middles, bands, strict=True)
        ]
        return f"Residuals of {target} against predicted; 90 % of them lie " + "; ".join(pairs)

    note = "Lines: quantiles of the residuals in eight groups of equal size." + points_note(len(scored.truth))
    return draw("residuals", "Residuals against predicted", paint, note=note, size=(5.0, 4.0))


def residual_histogram(scored: Predictions, target: str) -> Chart:
    """How the errors are spread."""
    residuals = scored.truth - scored.answers

    def paint(axes: Any) -> str:
        axes.hist(residuals, bins=30, color=SERIES[0], alpha=0.7, edgecolor=SERIES[0])
        axes.axvline(0, color=INK, linewidth=1)
        axes.axvline(float(np.median(residuals)), color=MUTED, linestyle="--", linewidth=1.2, label="median")
        axes.set(xlabel="actual − predicted", ylabel="rows")
        short_ticks(axes.xaxis)
        legend_above(axes)
        return f"Histogram of the residuals of {target}: median {number(float(np.median(residuals)))}."

    return draw("residual-histogram", "Residuals", paint, note="Left of the line the prediction was too high.")
