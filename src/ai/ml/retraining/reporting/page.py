"""The report as one self-contained HTML file: no requests, no scripts, both themes, any width."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from ai.ml.retraining.reporting.html import Section
from ai.ml.retraining.reporting.inputs import Material, Study
from ai.ml.retraining.reporting.sections import sections

# A second defence behind escaping: no script runs and nothing is loaded.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
TONES = {"PROMOTE": "good", "HOLD": "warn", "REJECT": "bad"}
FOOTER = "Made by Bundlegate from the bundle and its evidence; nothing in this page was fetched and nothing in it runs."
BANNERS = {
    "PROMOTE": "Promoted",
    "HOLD": "Held",
    "REJECT": "Rejected",
}


def to_html(material: Material, study: Study | None) -> str:
    """The whole page; the same material gives the same bytes."""
    title = f"{material.name} · {material.subject.digest[:12]}"
    return document(title, _header(material), sections(material, study), FOOTER)


def document(title: str, header: str, parts: Sequence[Section], footer: str) -> str:
    """A page of sections under one style.

    Args:
        title: of the window; plain text.
        header: HTML.
        parts: with the links to them above.
        footer: plain text.
    """
    links = "".join(f'<li><a href="#{part.key}">{escape(part.title)}</a></li>' for part in parts)
    style = files("ai.ml.retraining.reporting").joinpath("page.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title><style>{style}</style></head><body>",
            '<a class="skip" href="#main">Skip to the content</a>',
            header,
            f'<nav aria-label="Contents"><ul>{links}</ul></nav><main id="main">',
            *(_section(part) for part in parts),
            f"</main><footer><p>{escape(footer)}</p></footer></body></html>\n",
        ]
    )


def banner(tone: str, outcome: str, reason: str) -> str:
    """The box of a header: tone (`good`, `warn` or `bad`), outcome and reason."""
    return f'<div class="banner {tone}"><strong>{escape(outcome)}</strong><span>{escape(reason)}</span></div>'


def _header(material: Material) -> str:
    subject = material.subject
    rows, columns = subject.contract.rows, len(subject.contract.columns)
    task = f"{subject.task.capitalize()} of {subject.contract.target_column!r}"
    subtitle = f"{task}, from a table of {rows:,} rows and {columns:,} columns"
    tone, outcome, reason = _banner(material)
    return (
        f"<header><h1>{escape(material.name)}</h1><p>{escape(subtitle)}</p>"
        f"<p>Bundle <code>{subject.digest}</code></p>"
        f"{banner(tone, outcome, reason)}</header>"
    )


def _banner(material: Material) -> tuple[str, str, str]:
    if material.verdict is not None and material.verdict.outcome != "PASSED":
        outcome = "Refused by the gate" if material.verdict.outcome == "REFUSED" else "Nothing was proved"
        return "bad", outcome, material.verdict.reason
    if material.outcome in BANNERS:
        stays = material.outcome == "HOLD" and (material.champion or (material.decision or {}).get("champion_digest"))
        outcome = BANNERS[material.outcome] + (": the champion stays" if stays else "")
        return TONES[material.outcome], outcome, material.reason
    if material.verdict is not None:
        return "good", "Proved", material.verdict.reason
    return "warn", "Not proved", "no verdict was kept for this bundle: run `bundlegate verify`"


def _section(part: Section) -> str:
    content = "\n".join(piece for piece in part.parts if piece)
    heading = f'<h2 id="h-{part.key}">{escape(part.title)}</h2>'
    return f'<section id="{part.key}" aria-labelledby="h-{part.key}">{heading}{content}</section>'
