"""The model card: Markdown with a YAML head as model hubs read it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ai.ml.core.splits.rule import SplitRule
from ai.ml.retraining.reporting.inputs import Material, Study
from ai.ml.retraining.reporting.metrics import interval_text
from ai.ml.retraining.reporting.provenance import in_python, lineage_facts, refused, usage_commands
from ai.ml.retraining.reporting.sections import (
    BASELINE_HEAD,
    BASELINES,
    baseline_rows,
    contract_cells,
    measure_cells,
    status_of,
    worst_drift,
)

MAX_COLUMNS = 60
HUB_METRICS = {"auc": "roc_auc"}
"""Names under which hubs know a metric."""


def to_card(material: Material, study: Study | None) -> str:
    """`card.md`; the same material gives the same bytes."""
    parts = [
        _head(material, study),
        f"# {_plain(material.name)}",
        _purpose(material),
        _data(material, study),
        _metrics(material, study),
        _gate(material),
        _contract(material),
        _lineage(material),
    ]
    return "\n\n".join(parts) + "\n"


def _head(material: Material, study: Study | None) -> str:
    """The YAML front matter; texts are JSON strings, which are valid YAML."""
    subject = material.subject
    task = f"tabular-{subject.task}"
    lines = ["---", "library_name: bundlegate", f"pipeline_tag: {task}", "tags:"]
    lines += [f"- {tag}" for tag in ("bundlegate", "pytorch", "tabular", task)]
    if study is not None:
        lines += [
            "model-index:",
            f"- name: {json.dumps(material.name)}",
            "  results:",
            "  - task:",
            f"      type: {task}",
        ]
        lines += [
            "    dataset:",
            f"      name: {json.dumps(material.rows_from)}",
            "      type: tabular",
            "    metrics:",
        ]
        for item in study.measures:
            value = item.value.estimate
            if value == value:
                hub_name = HUB_METRICS.get(item.name, item.name.replace(" ", "_"))
                lines += [
                    f"    - type: {hub_name}",
                    f"      name: {json.dumps(item.label)}",
                    f"      value: {value:.6g}",
                ]
    return "\n".join([*lines, "---"])


def _purpose(material: Material) -> str:
    subject, settings = material.subject, material.settings
    model = subject.manifest.model
    target = subject.contract.target_column
    classes = f" Classes: {', '.join(_plain(name) for name in subject.classes)}." if subject.classes else ""
    mode = (subject.manifest.lineage.get("training") or {}).get("training_mode") or model.get(
        "training_mode", "network"
    )
    intended_use = _plain(settings.intended_use or "") or (
        f"Scoring rows like those it was trained on, for {_plain(target)}. Its owner hasn't said more; the setting "
        "`report.intended_use` takes it."
    )
    not_for = _plain(settings.out_of_scope or "") or (
        "Rows that don't meet the input contract below, populations that the training table didn't hold, and decisions "
        "on people without someone who answers for them."
    )
    count = len(subject.contract.columns)
    lines = [
        f"A {subject.task} model ({_plain(str(mode))}) for {_plain(target)} from {count} raw columns.{classes}",
        "",
        f"- **For:** {intended_use}",
        f"- **Not for:** {not_for}",
        f"- **Owner:** {_plain(settings.owner or '') or 'not named (setting `report.owner`)'}",
    ]
    if material.outcome:
        lines.append(f"- **Decision:** {material.outcome}: {_plain(material.reason)}")
    return "\n".join(lines)


def _data(material: Material, study: Study | None) -> str:
    training = material.subject.manifest.lineage.get("training") or {}
    lines = ["## Data and split", "", f"- A table of {material.subject.contract.rows:,} rows"]
    if "test_size" in training:
        lines[-1] += (
            f"; {training['test_size']:.0%} of it held out{_split_sentence(material.subject.manifest.lineage)}, "
            f"{training.get('validation_size', 0):.0%} of the training rows watched for early stopping "
            f"(seed {training.get('random_seed')})"
        )
    lines.append(f"- Measured on {material.rows.num_rows:,} rows: {_plain(material.rows_from)}")
    if study is not None:
        if study.sampled:
            lines.append(f"- {study.sampled}")
        lines.append(f"- Drift of these rows from the training rows: {_plain(worst_drift(study.drift))}")
    lines += [f"- {_plain(finding)}" for finding in material.findings]
    return "\n".join(lines)


def _split_sentence(lineage: dict[str, Any]) -> str:
    """How the rows were chosen; empty for bundles of versions that didn't record it."""
    return "" if "split" not in lineage else f" ({_plain(SplitRule.from_json(lineage['split']).description)})"


def _metrics(material: Material, study: Study | None) -> str:
    if study is None:
        return "## Metrics\n\nNone: the gate refused the saved file, whose answers aren't the trained model's."
    beside = study.other is not None
    head = ["metric", "this model"] + (["champion, same rows", "gain"] if beside else [])
    lines = ["## Metrics", "", "With 95 % bootstrap intervals.", ""]
    lines += _table(head, [measure_cells(item, beside) for item in study.measures])
    if study.incomparable_reason:
        lines += ["", f"The champion couldn't be compared: {_plain(study.incomparable_reason)}"]
    if material.baselines:
        lines += ["", f"### {BASELINES}", "", *_table(BASELINE_HEAD, baseline_rows(material))]
    if study.slices:
        rows = [[item.column, item.level, f"{item.rows:,}", interval_text(item.value)] for item in study.slices]
        lines += ["", "### Groups", "", *_table(["column", "group", "rows", "accuracy or RMSE"], rows)]
    if study.importance:
        rows = [[item.column, f"{item.mean:.4g}", f"{item.spread:.2g}"] for item in study.importance[:10]]
        lines += ["", "### What the answers hang on", "", *_table(["column", "loss when shuffled", "spread"], rows)]
    return "\n".join(lines)


def _gate(material: Material) -> str:
    if material.verdict is None:
        return "## Gate\n\nNo verdict was kept for this bundle."
    verdict = material.verdict
    rows = [[check.name, check.environment, status_of(check), check.message] for check in verdict.checks]
    lines = ["## Gate", "", f"**{verdict.outcome}**: {_plain(verdict.reason)}", ""]
    lines += _table(["check", "environment", "result", "what it saw"], rows)
    return "\n".join([*lines, "", f"Verdict `{verdict.sha256}`."])


def _contract(material: Material) -> str:
    columns = material.subject.contract.columns
    rows = [contract_cells(column) for column in columns[:MAX_COLUMNS]]
    lines = ["## Input contract", "", *_table(["column", "kind", "missing at training", "values"], rows)]
    if len(columns) > MAX_COLUMNS:
        lines += ["", f"And {len(columns) - MAX_COLUMNS} more: `bundlegate inspect` shows all."]
    return "\n".join(lines)


def _lineage(material: Material) -> str:
    facts = [[name, value] for name, value in lineage_facts(material)]
    use = usage_commands(material)
    lines = ["## Lineage", "", *_table(["what", "value"], facts)]
    lines += ["", "## Load, verify, roll back", "", "```bash", use, "```"]
    if not refused(material):
        lines += ["", "```python", in_python(material), "```"]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows]


def _plain(text: str) -> str:
    """Text of the data as text: on one line, no tag, no link, no table bar, no emphasis."""
    text = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|*\[\]#`])", r"\\\1", text)
