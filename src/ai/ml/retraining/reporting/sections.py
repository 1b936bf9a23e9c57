"""The sections of a report, in reading order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ai.ml.core.contract import ColumnContract
from ai.ml.core.contract.drift import ColumnDrift, DriftReport
from ai.ml.core.number_text import number
from ai.ml.retraining.decision.bootstrap import Interval
from ai.ml.retraining.decision.evaluation import EvaluatedBundle, with_known_classes
from ai.ml.retraining.decision.predictions import Predictions
from ai.ml.retraining.gate.verdict import CheckResult
from ai.ml.retraining.reporting import html as markup
from ai.ml.retraining.reporting.classification_charts import classification_charts, confusion
from ai.ml.retraining.reporting.html import Section
from ai.ml.retraining.reporting.inputs import Material, Study
from ai.ml.retraining.reporting.metrics import (
    Measure,
    interval_text,
    percent,
    range_text,
    residual_quantiles,
    threshold_rows,
)
from ai.ml.retraining.reporting.model_charts import (
    agreement_chart,
    dependence_charts,
    gain_chart,
    importance_chart,
    learning_curve,
)
from ai.ml.retraining.reporting.provenance import lineage_facts, usage_commands
from ai.ml.retraining.reporting.regression_charts import predicted_actual, regression_charts
from ai.ml.retraining.reporting.svg import Chart

TILES = 4
FIRST_DRIFTED = 12
BASELINES = "Simpler models on the same split"
BASELINE_HEAD = ("model", "it has", "this model", "gain, above 0 is better")


def sections(material: Material, study: Study | None) -> list[Section]:
    """The page's sections that aren't empty."""
    parts = [_summary(material, study)]
    if study is not None:
        parts += [_answers(material, study), _champion(material, study), _slices(study), _influence(material, study)]
    parts += [_gate(material), _training(material)]
    if study is not None:
        parts.append(_drift(study))
    parts += [_contract(material), _origin(material)]
    return [section for section in parts if any(section.parts)]


def _summary(material: Material, study: Study | None) -> Section:
    if study is None:
        refusal = "The gate refused the saved file, so it wasn't scored: its answers aren't the trained model's."
        return Section("summary", "Summary", (markup.paragraph(refusal),))
    tiles = [
        (item.label, number(item.value.estimate), range_text(item.value.low, item.value.high))
        for item in study.measures[:TILES]
    ]
    head = ["metric", "this model"] + (["champion", "gain, above 0 is better"] if study.other is not None else [])
    caption = f"Metrics with 95 % bootstrap intervals, on {study.table.num_rows:,} rows: {material.rows_from}"
    rows = [measure_cells(item, study.other is not None) for item in study.measures]
    return Section(
        "summary",
        "Summary",
        (
            markup.tiles(tiles),
            markup.table(caption, head, rows),
            markup.paragraph(study.sampled, "muted") if study.sampled else "",
            markup.table(BASELINES, BASELINE_HEAD, baseline_rows(material)) if material.baselines else "",
            "<h3>What the training remarked on</h3>" + markup.bullets(material.findings) if material.findings else "",
        ),
    )


def measure_cells(item: Measure, beside: bool) -> list[str]:
    """A metric's row of the table."""
    cells = [item.label, interval_text(item.value)]
    if beside:
        cells += [
            "–" if item.other is None else interval_text(item.other),
            "–" if item.gain is None else interval_text(item.gain),
        ]
    return cells


def baseline_rows(material: Material) -> list[list[str]]:
    """Simpler models on the same split, and what this one gains over each."""
    return [
        [
            str(item["name"]),
            f"{str(item['metric']).replace('_', ' ')} {number(item['value'])}",
            number(item["candidate"]),
            interval_text(Interval(item["gain"], item["low"], item["high"])),
        ]
        for item in material.baselines
    ]


def _answers(material: Material, study: Study) -> Section:
    subject = material.subject
    scored = with_known_classes(study.scored)
    if not len(scored.truth):
        return Section("answers", "Answers", ())
    if subject.task == "regression":
        charts = regression_charts(scored, subject.contract.target_column)
        head, rows = ["share of rows below", "residual", "size of the residual"], residual_quantiles(scored)
        table = markup.table("Quantiles of the residuals (actual − predicted)", head, rows)
    else:
        charts = classification_charts(scored, subject.classes)
        head, rows = threshold_rows(scored, subject.classes)
        binary = len(subject.classes) == 2
        caption = (
            f"What a threshold on the probability of {subject.classes[1]!r} gives"
            if binary
            else "What is left when only confident answers count"
        )
        table = markup.table(caption, head, rows)
    unknown = len(study.scored.truth) - len(scored.truth)
    note = markup.paragraph(f"{unknown:,} rows have a class that the model doesn't know.", "muted") if unknown else ""
    return Section("answers", "Answers", (note, markup.figures(charts), table))


def preview(study: Study, subject: EvaluatedBundle) -> Chart | None:
    """The chart that stands for the report where only one is shown."""
    scored = with_known_classes(study.scored)
    if not len(scored.truth):
        return None
    if subject.task == "regression":
        return predicted_actual(scored, subject.contract.target_column)
    return confusion(scored, subject.classes)


def _champion(material: Material, study: Study) -> Section:
    if study.incomparable_reason is not None:
        text = f"The champion couldn't be compared on these rows: {study.incomparable_reason}."
        return Section("champion", "Against the champion", (markup.paragraph(text),))
    if material.champion is None or study.other is None:
        return Section("champion", "Against the champion", ())
    text = f"The champion {material.champion.digest[:12]} answered the same rows; {_learned_from(material)}."
    charts = [
        gain_chart(study.measures),
        agreement_chart(*_rows_of_known_classes(study.scored, study.other), material.subject.classes),
    ]
    return Section("champion", "Against the champion", (markup.paragraph(text), markup.figures(charts)))


def _learned_from(material: Material) -> str:
    """How many of the rows one of the two learned from, as the decision counted them."""
    overlap = (material.decision or {}).get("overlap")
    if not overlap or overlap["unknown"]:
        return "it may have been trained on some of them, which can only favour it"
    if not overlap["learned_from"]:
        return "neither of the two was trained on any of those that were held out"
    return (
        f"{overlap['learned_from']:,} of the {overlap['held_out']:,} held-out ones were learned from: the decision "
        "leaves them out, the figures here don't"
    )


def _rows_of_known_classes(scored: Predictions, other: Predictions) -> tuple[Predictions, Predictions]:
    """The rows whose class this model knows; the champion knows them all, or it wouldn't be compared."""
    has_known_class = scored.truth >= 0 if scored.task == "classification" else np.ones(len(scored.truth), dtype=bool)
    parts = [
        replace(each, truth=each.truth[has_known_class], answers=each.answers[has_known_class])
        for each in (scored, other)
    ]
    return parts[0], parts[1]


def _slices(study: Study) -> Section:
    if not study.slices:
        return Section("slices", "Groups", ())
    metric = "RMSE" if study.scored.task == "regression" else "accuracy"
    head = ["group", "rows", metric] + (["champion"] if study.other is not None else [])
    rows = [
        [f"{item.column} = {item.level}", f"{item.rows:,}", interval_text(item.value)]
        + ([] if study.other is None else ["–" if item.other is None else number(item.other)])
        for item in study.slices
    ]
    return Section(
        "slices",
        "Groups",
        (markup.table(f"{metric[0].upper()}{metric[1:]} per group, with 95 % intervals", head, rows),),
    )


def _influence(material: Material, study: Study) -> Section:
    metric = "RMSE" if study.scored.task == "regression" else "log loss"
    charts = [importance_chart(study.importance, metric, study.importance_rows)] if study.importance else []
    curves = dependence_charts(study.curves, material.subject.classes)
    explanation = (
        "The mean answer when every row's cell is set to one value after the other. Where columns hang together, some "
        "of these rows don't exist in life."
    )
    head = ["column", f"{metric} gets worse by", "spread"]
    rows = [[item.column, number(item.mean), number(item.spread)] for item in study.importance]
    parts = (
        markup.figures(charts),
        markup.folded("All columns as a table", markup.table("Permutation importance", head, rows)) if rows else "",
        "<h3>Partial dependence</h3>" + markup.paragraph(explanation, "muted") if curves else "",
        markup.figures(curves),
        markup.paragraph(_without_curve(study.uncurved), "muted") if study.uncurved else "",
    )
    return Section("influence", "Influence", parts)


def _without_curve(columns: list[str]) -> str:
    verb = "has" if len(columns) == 1 else "have"
    return f"{', '.join(columns)} {verb} no curve: the training table held less than two values of it."


def _gate(material: Material) -> Section:
    verdict = material.verdict
    if verdict is None:
        return Section("gate", "Gate", (markup.paragraph("No verdict was kept for this bundle."),))
    explanation = (
        "Each check compares the saved file with what the trained model answered before anything was read back. "
        f"{verdict.reason}."
    )
    # Most verdicts have one environment, and a column of equal cells takes a third of a phone's width.
    several = len({check.environment for check in verdict.checks}) > 1
    rows = [
        [check.name, *([check.environment] if several else []), status_of(check), check.message]
        for check in verdict.checks
    ]
    environment_column = ["environment"] if several else []
    parts = [
        markup.paragraph(explanation),
        markup.table("Checks", ["check", *environment_column, "result", "what it saw"], rows, "words"),
    ]
    for check in verdict.failures:
        if check.difference is not None:
            cells = [(str(key), str(value)) for key, value in check.difference.items()]
            parts.append(f"<h3>First difference of {check.name}</h3>" + markup.facts(cells))
    figures = [
        [check.name, *([check.environment] if several else []), key.replace("_", " "), _figure(value)]
        for check in verdict.checks
        for key, value in check.figures.items()
    ]
    head = ["check", *environment_column, "figure", "value"]
    parts.append(markup.folded("What each check measured", markup.table("Figures", head, figures, "words")))
    environment_rows = [
        [each.name, ", ".join(f"{key} {value}" for key, value in sorted({**each.versions, **each.settings}.items()))]
        for each in verdict.environments
    ]
    if environment_rows:
        parts.append(
            markup.folded(
                "Where it was proved",
                markup.table("Environments", ["environment", "what it is"], environment_rows, "words"),
            )
        )
    parts.append(markup.facts([("verdict", verdict.sha256), ("outcome", verdict.outcome)]))
    return Section("gate", "Gate", tuple(parts))


def status_of(check: CheckResult) -> str:
    """`passed`, `refused` or `not applicable`."""
    return "not applicable" if not check.applies else "passed" if check.passed else "refused"


def _figure(value: Any) -> str:
    """A figure or setting as text: without brackets, floats to six digits."""
    match value:
        case None | [] | ():
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case dict():
            text = ", ".join(f"{key} {_figure(item)}" for key, item in value.items())
        case list() | tuple():
            text = ", ".join(map(_figure, value))
        case _:
            text = str(value)
    return text if len(text) <= 300 else f"{text[:299]}…"


def _training(material: Material) -> Section:
    settings = material.subject.manifest.lineage.get("training") or {}
    rows = [[str(key), _figure(value)] for key, value in sorted(settings.items()) if value not in ([], None)]
    chart = markup.figures([learning_curve(material.history)]) if material.history else ""
    table = (
        markup.folded("Settings", markup.table("Settings of the training", ["setting", "value"], rows)) if rows else ""
    )
    return Section("training", "Training", (chart, table, _search(material)))


def _search(material: Material) -> str:
    """What a search tried, the best first."""
    if not material.trials:
        return ""
    names = list(material.trials[0]["settings"])
    worth = sorted(material.trials, key=lambda trial: (trial["loss"] is None, trial["loss"], trial["number"]))
    rows = [
        ["diverged" if trial["loss"] is None else number(trial["loss"]), str(trial["number"]), str(trial["epochs"])]
        + [f"{trial['settings'][name]:g}" for name in names]
        for trial in worth
    ]
    caption = f"Trials of the search, {len(rows)}, by the loss of the validation rows"
    return markup.folded("Search", markup.table(caption, ["validation loss", "trial", "epochs", *names], rows))


def _drift(study: Study) -> Section:
    if study.drift is None:
        return Section("drift", "Drift", ())
    theirs = {item.column: item for item in study.champion_drift.columns} if study.champion_drift else {}
    head = ["column", "PSI", "KS", "missing", "missing at training", "severity"]
    head += ["PSI against the champion's training"] if theirs else []
    rows = [_drift_cells(item, theirs) for item in study.drift.columns]
    explanation = "PSI below 0.1 is stable, from 0.25 on major. KS is the greatest distance of the two distributions."
    first = markup.table("These rows against the training rows", head, rows[:FIRST_DRIFTED])
    rest = rows[FIRST_DRIFTED:]
    more = markup.folded(f"{len(rest)} more columns", markup.table("Further columns", head, rest)) if rest else ""
    return Section("drift", "Drift", (markup.paragraph(explanation, "muted"), first, more))


def _drift_cells(item: ColumnDrift, theirs: dict[str, ColumnDrift]) -> list[str]:
    ks = "–" if item.ks is None else f"{item.ks:.2f}"
    cells = [item.column, f"{item.psi:.3f}", ks, percent(item.missing_share), percent(item.missing_share_at_training)]
    cells.append(item.severity)
    if theirs:
        cells.append(f"{theirs[item.column].psi:.3f}" if item.column in theirs else "–")
    return cells


def worst_drift(report: DriftReport | None) -> str:
    """A sentence on the column with the largest drift."""
    if report is None or not report.columns:
        return "not measured"
    worst = report.columns[0]
    return f"{report.severity}; most in {worst.column!r} (PSI {worst.psi:.3f})"


def contract_cells(column: ColumnContract) -> list[str]:
    """A column's row of the contract's table."""
    if column.kind == "category":
        levels = column.levels or {}
        values = ", ".join(list(levels)[:8]) + (f" and {len(levels) - 8} more" if len(levels) > 8 else "")
    elif column.minimum is None or column.maximum is None:
        values = "no values"
    elif column.kind == "date":
        import datetime

        first, last = (
            datetime.date(1970, 1, 1) + datetime.timedelta(days=day) for day in (column.minimum, column.maximum)
        )
        values = f"{first} to {last}"
    else:
        values = f"{number(column.minimum)} to {number(column.maximum)}"
    return [column.name, column.kind, percent(column.missing_share), values]


def _contract(material: Material) -> Section:
    rows = [contract_cells(column) for column in material.subject.contract.columns]
    explanation = (
        "Scoring refuses a table that lacks one of these columns or whose columns changed kind, and counts unseen "
        "categories, missing cells and values out of range."
    )
    table = markup.table("Columns at training", ["column", "kind", "missing", "values"], rows, "words")
    return Section("contract", "Input contract", (markup.paragraph(explanation, "muted"), table))


def _origin(material: Material) -> Section:
    return Section(
        "origin",
        "Origin and use",
        (markup.facts(lineage_facts(material)), markup.code(usage_commands(material))),
    )
