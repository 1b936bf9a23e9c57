"""The HTML elements of a report. Every text is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from ai.ml.retraining.reporting.svg import Chart


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    key: str
    title: str
    parts: tuple[str, ...]
    """HTML."""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{_kind(kind)}>{escape(text)}</p>"


def code(text: str) -> str:
    """A block of commands."""
    return f"<pre tabindex=0><code>{escape(text)}</code></pre>"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table whose first column names the row; scrolls sideways on a narrow screen."""
    lines = [f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex=0><table{_kind(kind)}>']
    lines.append(f"<caption><span>{escape(caption)}</span></caption><thead><tr>")
    lines += [f'<th scope="col">{escape(text)}</th>' for text in head]
    lines.append("</tr></thead><tbody>")
    for first, *cells in rows:
        # A name breaks at its underscores, before it breaks anywhere.
        lines.append(f'<tr><th scope="row">{escape(first).replace("_", "_<wbr>")}</th>')
        lines += [f"<td{_tone(text)}>{escape(text)}</td>" for text in cells]
        lines.append("</tr>")
    lines.append("</tbody></table></div>")
    return "".join(lines)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A description list of names and values."""
    return "<dl>" + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs) + "</dl>"


def tiles(items: Iterable[tuple[str, str, str]]) -> str:
    """Tiles with a large figure: name, value, further text."""
    cells = [
        f'<li><span class="name">{escape(name)}</span><strong>{escape(value)}</strong><span>{escape(more)}</span></li>'
        for name, value, more in items
    ]
    return f'<ul class="tiles">{"".join(cells)}</ul>'


def bullets(texts: Iterable[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def figures(charts: Iterable[Chart | None]) -> str:
    """Charts side by side where there is room."""
    drawn = [chart for chart in charts if chart is not None]
    cells = [
        f'<figure id="{escape(chart.key)}"><h3>{escape(chart.title)}</h3>{chart.svg}'
        f"<figcaption>{escape(chart.note)}</figcaption></figure>"
        for chart in drawn
    ]
    return f'<div class="figures">{"".join(cells)}</div>' if cells else ""


def folded(summary: str, content: str) -> str:
    """Content that opens on demand."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _kind(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""


def _tone(text: str) -> str:
    tones = {"passed": "good", "stable": "good", "refused": "bad", "major": "bad", "moderate": "warn"}
    return f' class="tone {tones[text]}"' if text in tones else ""
