"""Charts as inline SVG that follow the page's theme: drawn once in stand-in colours, which the page's CSS then fills.

Nothing volatile is drawn (fixed id salt, no date), so the same figures give the same bytes. Text stays text, for
screen readers, search and scaling.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from io import StringIO
from typing import Any

from ai.ml.core.errors import UsageError

# Placeholder colours that no chart uses otherwise; the page gives each a colour per theme.
INK, MUTED, GRID = "#010101", "#010102", "#010103"
SERIES = tuple(f"#0101a{digit}" for digit in "12345678")
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    **{c: f"--series-{i}" for i, c in enumerate(SERIES, start=1)},
}
LIGHT = {
    INK: "#1b2430",
    MUTED: "#5b6675",
    GRID: "#d9dee5",
    **dict(
        zip(
            SERIES,
            ("#0b62b8", "#b3450b", "#0f766e", "#8a3ea8", "#8a6500", "#b0306a", "#3f6b12", "#566273"),
            strict=True,
        )
    ),
}
"""The light theme's colours, for a chart on its own; `page.css` has the same."""
DASHES = ("-", "--", "-.", ":")
"""Line styles, so that colour isn't the only difference between series."""

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.8,
    "axes.titlesize": 11,
    "patch.linewidth": 0.6,
}


@dataclass(frozen=True)
class Chart:
    """A drawn figure."""

    key: str
    title: str
    svg: str
    """Inline SVG in the page's CSS variables."""
    alt_text: str
    """The alt text for screen readers."""
    note: str = ""
    """Caption."""

    def standalone(self) -> str:
        """A whole SVG file in the light theme."""
        svg = self.svg
        for colour, variable in VARIABLES.items():
            svg = svg.replace(f"var({variable})", LIGHT[colour])
        return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="background:#fff" ', 1)


def require_matplotlib() -> None:
    """Check that matplotlib is installed, before anything is computed.

    Raises:
        UsageError: the extra `report` isn't installed.
    """
    if find_spec("matplotlib") is None:
        raise UsageError("a report needs the extra `report`: pip install 'bundlegate[report]'")


def draw(
    key: str,
    title: str,
    paint: Callable[[Any], str],
    *,
    note: str = "",
    size: tuple[float, float] = (5.0, 3.5),
    panels: tuple[int, int] = (1, 1),
    **layout: Any,
) -> Chart:
    """Draw a chart.

    Args:
        key: unique in the page; ids begin with it.
        title: heading.
        paint: gets the axes (an array for more than one panel), draws, and returns the alt text.
        note: caption.
        size: inches; 5 wide reads well on a phone.
        panels: rows and columns.
        layout: for `Figure.subplots`.
    """
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure

    settings: Any = {**_SETTINGS, "svg.hashsalt": key, "axes.prop_cycle": cycler(color=SERIES)}

    with mpl.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        alt_text = paint(figure.subplots(*panels, **layout))
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return Chart(key, title, _inline(text.getvalue(), key, alt_text), alt_text, note)


def legend_above(axes: Any, **style: Any) -> None:
    """Above the axes, in as many columns as fit: inside them it could cover data."""
    _, names = axes.get_legend_handles_labels()
    crowded = len(names) > 4
    room, handle = (64, 5) if crowded else (52, 6)
    columns = max(1, min(len(names), int(room / (max(map(len, names), default=0) + handle))))
    small = {"fontsize": 9, "columnspacing": 1.2} if crowded else {}
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, **small, **style)


def legend_room(names: int) -> float:
    """Inches that a chart grows by for a legend of so many names above it, the first few not counted."""
    return 0.11 * max(0, names - 3)


def short_ticks(axis: Any) -> None:
    """`600k` rather than `600000` or a power of ten in a corner; small figures stay as they are."""
    from matplotlib.ticker import EngFormatter

    if max(map(abs, axis.get_view_interval())) >= 10_000:
        axis.set_major_formatter(EngFormatter(sep=""))


def turn_ticks(axes: Any) -> None:
    """Slanting labels below the axis, each ending at its tick."""
    for label in axes.get_xticklabels():
        label.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")


def _inline(document: str, key: str, alt_text: str) -> str:
    """The `<svg>` alone: ids of its own, the page's colours and fonts, its alt text inside."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    # The style element would apply to the whole page; `page.css` has it for charts.
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]+", "font-family: system-ui, sans-serif", svg)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{key}-", svg)
    svg = re.sub(r"font: ([^;\"]*?)px [^;\"]+", r"font: \1px system-ui, sans-serif", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    box = re.search(r'viewBox="([^"]+)"', svg)
    head = f'<svg viewBox="{box[1] if box else "0 0 360 252"}" role="img" aria-label="{escape(alt_text)}"'
    head += ' xmlns:xlink="http://www.w3.org/1999/xlink">'
    return re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1).strip()
