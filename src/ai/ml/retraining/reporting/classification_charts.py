"""Charts of a classifier's answers, drawn by scikit-learn's Displays."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay, confusion_matrix

from ai.ml.retraining.decision.predictions import Predictions
from ai.ml.retraining.reporting.metrics import percent
from ai.ml.retraining.reporting.svg import (
    DASHES,
    INK,
    MUTED,
    SERIES,
    Chart,
    draw,
    legend_above,
    legend_room,
    turn_ticks,
)

MAX_CLASSES = 8
"""Curves in one chart."""
MAX_CELLS = 12
"""Classes in a confusion matrix; of more, the rarest are shown as one."""
BINS = 10


def classification_charts(scored: Predictions, classes: list[str]) -> list[Chart]:
    """Confusion matrix, ROC, precision-recall, reliability and scores, for rows whose class is known."""
    return [
        confusion(scored, classes),
        *curves(scored, classes),
        reliability(scored, classes),
        scores_by_class(scored, classes),
    ]


def short(text: str, width: int = 18) -> str:
    """A label that fits beside an axis."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def confusion(scored: Predictions, classes: list[str]) -> Chart:
    """Counts, and shares of the true class."""
    truth, answers, names = _merge_rare_classes(scored, classes)
    counts = confusion_matrix(truth, answers, labels=np.arange(len(names)))
    shares = confusion_matrix(truth, answers, labels=np.arange(len(names)), normalize="true")

    def paint(axes: Any) -> str:
        from matplotlib.colors import LinearSegmentedColormap

        # From clear to the accent: the page's own ground shows through in both themes, and ink reads on all of it.
        tint: Any = LinearSegmentedColormap.from_list("tint", [(0.1, 0.45, 0.85, 0.0), (0.1, 0.45, 0.85, 0.6)])
        display = ConfusionMatrixDisplay(shares, display_labels=[short(name) for name in names])
        display.plot(ax=axes, cmap=tint, colorbar=False, im_kw={"vmin": 0, "vmax": 1}, include_values=True)
        for row, cells in enumerate(np.asarray(display.text_)):
            for column, cell in enumerate(cells):
                cell.set(color=INK, text=f"{counts[row, column]:,}\n{shares[row, column]:.0%}", fontsize=_size(names))
        axes.set(xlabel="answered", ylabel="true")
        axes.grid(visible=False)
        if len(names) > 4 or max(map(len, names)) > 9:
            turn_ticks(axes)
        lines = [
            f"{name}: {counts[i, i]:,} of {counts[i].sum():,} right ({percent(shares[i, i])})"
            for i, name in enumerate(names)
        ]
        return "Confusion matrix, true class by answered class. " + "; ".join(lines)

    note = "Each row is a true class: rows that were answered so, and their share of the class."
    edge = min(5.6, 3.4 + 0.25 * len(names))
    return draw("confusion", "Confusion matrix", paint, note=note, size=(5.0, edge))


def _size(names: list[str]) -> float:
    return 10 if len(names) <= 4 else 8 if len(names) <= 7 else 6


def _merge_rare_classes(scored: Predictions, classes: list[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """True and answered classes, all but the most frequent as one `other` where there are too many."""
    truth, answers = scored.truth, scored.answers.argmax(axis=1)
    if len(classes) <= MAX_CELLS:
        return truth, answers, classes
    counts = np.bincount(truth, minlength=len(classes))
    frequent = np.sort(np.argsort(-counts, kind="stable")[: MAX_CELLS - 1])
    merged = np.full(len(classes), MAX_CELLS - 1)
    merged[frequent] = np.arange(MAX_CELLS - 1)
    return merged[truth], merged[answers], [*(classes[index] for index in frequent), "(other)"]


def curves(scored: Predictions, classes: list[str]) -> list[Chart]:
    """ROC and precision-recall: of the second class, or each class against the rest."""
    chosen = [1] if len(classes) == 2 else list(range(len(classes)))
    counts = np.bincount(scored.truth, minlength=len(classes))
    chosen = [index for index in chosen if 0 < counts[index] < len(scored.truth)]
    chosen = sorted(sorted(chosen, key=lambda index: -counts[index])[:MAX_CLASSES])
    if not chosen:
        return []
    versus = "" if len(classes) == 2 else " Each class against all others."
    if len(chosen) < len(classes) and len(classes) > 2:
        versus += f" Shown: {len(chosen)} of {len(classes)} classes."

    def roc(axes: Any) -> str:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", label="guessing")
        displays = _draw_each(axes, RocCurveDisplay, scored, classes, chosen)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="auto")
        axes.legend(loc="lower right") if len(classes) == 2 else legend_above(axes)
        areas = [f"{classes[index]} {display.roc_auc:.3f}" for index, display in zip(chosen, displays, strict=True)]
        return "ROC curve. Area under the curve: " + "; ".join(areas)

    def precision_recall(axes: Any) -> str:
        texts: list[str] = []
        for turn, display in enumerate(_draw_each(axes, PrecisionRecallDisplay, scored, classes, chosen)):
            base, name = counts[chosen[turn]] / len(scored.truth), classes[chosen[turn]]
            axes.axhline(base, color=SERIES[turn], linestyle=":", linewidth=1)
            texts.append(f"{name} average precision {display.average_precision:.3f}, base rate {percent(base)}")
        axes.set(xlabel="recall", ylabel="precision", aspect="auto", ylim=(-0.02, 1.05))
        axes.legend(loc="lower left") if len(classes) == 2 else legend_above(axes)
        return "Precision-recall curve. " + "; ".join(texts)

    note = "Dotted: the share of the class among all rows, which guessing reaches."
    size = (5.0, 3.5 + legend_room(len(chosen)))
    return [
        draw("roc", "ROC curve", roc, note="The diagonal is guessing." + versus, size=size),
        draw("precision-recall", "Precision and recall", precision_recall, note=note + versus, size=size),
    ]


def _draw_each(axes: Any, display: Any, scored: Predictions, classes: list[str], chosen: list[int]) -> list[Any]:
    """One curve per class; styled afterwards, because how to style them was renamed between scikit-learn's versions."""
    displays: list[Any] = []
    for turn, index in enumerate(chosen):
        first = len(axes.lines)
        truth, score = scored.truth == index, scored.answers[:, index]
        displays.append(
            display.from_predictions(truth, score, ax=axes, name=short(classes[index], 18 if len(chosen) == 1 else 14))
        )
        axes.lines[first].set(**_line(turn))
    return displays


def _line(turn: int) -> dict[str, Any]:
    return {"color": SERIES[turn % len(SERIES)], "linestyle": DASHES[turn % len(DASHES)]}


def reliability(scored: Predictions, classes: list[str]) -> Chart:
    """Reliability diagram, with the histogram of the probabilities below it."""
    binary = len(classes) == 2
    score = scored.answers[:, 1] if binary else scored.answers.max(axis=1)
    hits = scored.truth == 1 if binary else scored.answers.argmax(axis=1) == scored.truth
    label = f"probability of {short(classes[1])}" if binary else "probability of the answer"

    def paint(axes: Any) -> str:
        shown = CalibrationDisplay.from_predictions(
            hits, score, n_bins=BINS, ax=axes[0], name="model", color=SERIES[0], ref_line=True, pos_label=True
        )
        axes[0].lines[0].set(color=MUTED)
        axes[0].set(xlabel="", ylabel="share that came true", ylim=(-0.03, 1.05))
        axes[0].legend(loc="upper left")
        axes[1].hist(score, bins=BINS, range=(0, 1), color=SERIES[0], alpha=0.7, edgecolor=SERIES[0])
        axes[1].set(xlabel=label, ylabel="rows")
        pairs = [
            f"{predicted:.2f} came true in {observed:.2f}"
            for predicted, observed in zip(shown.prob_pred, shown.prob_true, strict=True)
        ]
        return f"Reliability diagram of the {label}: " + "; ".join(pairs)

    note = "On the diagonal a probability of 0.8 comes true in 80 % of the rows. Below: how often each was predicted."
    layout = {"sharex": True, "height_ratios": (3, 1)}
    return draw("reliability", "Reliability", paint, note=note, size=(5.0, 4.4), panels=(2, 1), **layout)


def scores_by_class(scored: Predictions, classes: list[str]) -> Chart:
    """Histogram of the score, a step line per true class."""
    binary = len(classes) == 2
    score = scored.answers[:, 1] if binary else scored.answers[np.arange(len(scored.truth)), scored.truth]
    label = f"probability of {short(classes[1])}" if binary else "probability of the true class"
    counts = np.bincount(scored.truth, minlength=len(classes))
    chosen = sorted(np.argsort(-counts, kind="stable")[:MAX_CLASSES].tolist())

    def paint(axes: Any) -> str:
        texts: list[str] = []
        for turn, index in enumerate(chosen):
            rows = scored.truth == index
            if not rows.any():
                continue
            axes.hist(
                score[rows],
                bins=20,
                range=(0, 1),
                histtype="step",
                linewidth=1.8,
                label=f"{short(classes[index])} ({counts[index]:,})",
                **_line(turn),
            )
            texts.append(f"{classes[index]} median {np.median(score[rows]):.3f}")
        axes.set(xlabel=label, ylabel="rows")
        legend_above(axes)
        return f"Histogram of the {label} by true class: " + "; ".join(texts)

    note = "The less the lines overlap, the better the classes are separated."
    size = (5.0, 3.5 + legend_room(len(chosen)))
    return draw("scores", "Scores by true class", paint, note=note, size=size)
