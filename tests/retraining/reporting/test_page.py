"""Cards and reports: what they say, that nothing breaks out of them, and that they are the same each time."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from builders import mixed_table
from report_scenes import EVIL_COLUMN, EVIL_LABEL, EVIL_LEVEL, trained, verdict

from ai.ml.core.number_text import number
from ai.ml.core.tables.reader import write_table
from ai.ml.core.types import TaskType, TrainingConfig
from ai.ml.frameworks.pytorch.trainer.training import train
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.decision.evaluation import EvaluatedBundle
from ai.ml.retraining.decision.predictions import Predictions
from ai.ml.retraining.evidence.seal import stage_candidate
from ai.ml.retraining.reporting.card import to_card
from ai.ml.retraining.reporting.files import write_report
from ai.ml.retraining.reporting.importance import partial_dependence
from ai.ml.retraining.reporting.inputs import Material, Study, study
from ai.ml.retraining.reporting.metrics import measure_all, threshold_rows
from ai.ml.retraining.reporting.model_charts import dependence_charts
from ai.ml.retraining.reporting.page import to_html
from ai.ml.retraining.settings.retrain import ReportSettings


class Page(HTMLParser):
    """Tags, ids and addresses of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("src", "href", "xlink:href"):
                self.addresses.append(value or "")
            elif name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> tuple[Material, Study]:
    folder = tmp_path_factory.mktemp("binary")
    before = trained(folder / "champion", "classification", epochs=1)
    material = trained(folder / "challenger", "classification", random_seed=42, learning_rate=0.01)
    material = replace(material, champion=before.subject, outcome="PROMOTE", reason=f"better at {EVIL_LABEL}")
    measured = study(material)
    assert measured is not None
    return material, measured


def test_the_page_fetches_nothing_runs_nothing_and_names_each_part_once(binary: tuple[Material, Study]) -> None:
    page = Page(to_html(*binary))
    assert not {"script", "link rel=stylesheet", "iframe", "object", "img"} & set(page.tags)
    assert not page.handlers
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert len(page.ids) == len(set(page.ids))
    targets = {address[1:] for address in page.addresses if address.startswith("#")}
    assert targets <= set(page.ids)
    assert page.tags.count("h1") == 1
    words = "".join(page.words)
    for evil in (EVIL_COLUMN, EVIL_LABEL, EVIL_LEVEL):
        assert evil in words, "shown as the text that it is"


def test_the_page_has_every_chart_with_words_for_who_cannot_see_it(binary: tuple[Material, Study]) -> None:
    text = to_html(*binary)
    keys = re.findall(r'<figure id="([a-z0-9-]+)"', text)
    expected = {"confusion", "roc", "precision-recall", "reliability", "scores", "gain", "agreement", "importance"}
    assert expected | {"learning", "dependence-0"} <= set(keys)
    labels = re.findall(r'<svg[^>]*role="img" aria-label="([^"]+)"', text)
    assert len(labels) == len(keys)
    assert all(len(label) > 20 for label in labels)
    assert "base rate" in text
    assert "#0101" not in text, "a stand-in colour was left"


@pytest.mark.slow(5)
def test_the_same_material_gives_the_same_bytes(binary: tuple[Material, Study]) -> None:
    material, _ = binary
    assert to_html(material, study(material)) == to_html(*binary)
    assert to_card(material, study(material)) == to_card(*binary)


def test_the_card_has_a_head_that_hubs_read_and_all_its_parts(binary: tuple[Material, Study]) -> None:
    material, measured = binary
    card = to_card(material, measured)
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert "pipeline_tag: tabular-classification" in head
    # Every text in the head is a JSON string.
    assert json.loads(re.search(r"- name: (.+)", head)[1]) == "churn"  # type: ignore[index]
    titles = re.findall(r"^## (.+)$", body, flags=re.MULTILINE)
    assert titles == ["Data and split", "Metrics", "Gate", "Input contract", "Lineage", "Load, verify, roll back"]
    assert "champion, same rows" in body
    assert "| linear model | rmse 2 | 1 | 1 (0.500 to 1.50) |" in body
    assert "<script" not in body
    assert "<img" not in body
    for line in body.splitlines():
        if line.startswith("| city | category"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5


def test_the_cards_head_is_yaml_as_hubs_know_it(binary: tuple[Material, Study]) -> None:
    head = yaml.safe_load(to_card(*binary).split("---\n")[1])
    assert set(head) == {"library_name", "pipeline_tag", "tags", "model-index"}
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert (model["name"], result["task"]["type"]) == ("churn", "tabular-classification")
    assert set(result["dataset"]) == {"name", "type"}
    assert {"log_loss", "accuracy", "roc_auc"} <= {metric["type"] for metric in result["metrics"]}
    assert all(isinstance(metric["value"], float) and metric["name"] for metric in result["metrics"])


def test_the_cards_commands_say_where_the_bundle_is(binary: tuple[Material, Study]) -> None:
    material, measured = binary
    live = replace(material, address="churn@0123456789ab", store="my store", decision={"champion_digest": "f" * 64})
    card = to_card(live, measured)
    for command in (
        "bundlegate verify churn@0123456789ab --store 'my store'",
        "bundlegate rollback churn --reason 'why' --store 'my store'",
        "Store('my store').resolve('churn@0123456789ab')",
    ):
        assert command in card
    held = to_card(replace(live, outcome="HOLD", address="/models/a b"), measured)
    assert "bundlegate verify '/models/a b'\n" in held, "it is no version of the store"
    assert "bundlegate rollback" not in held
    assert "--store" not in to_card(replace(live, store=".bundlegate/store"), measured)


def test_the_cards_python_runs_where_the_bundle_is(
    binary: tuple[Material, Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    material, measured = binary
    python = re.search(r"```python\n(.+?)```", to_card(replace(material, address=""), measured), flags=re.DOTALL)
    assert python is not None
    write_table(material.rows, tmp_path / "rows.csv")
    monkeypatch.chdir(tmp_path)
    exec(python[1], {})
    assert EVIL_LABEL in capsys.readouterr().out


def test_a_held_candidate_without_a_champion_keeps_none(binary: tuple[Material, Study]) -> None:
    material = replace(binary[0], outcome="HOLD", champion=None, decision=None)
    assert "<strong>Held</strong>" in to_html(material, None)
    kept = replace(material, decision={"champion_digest": "f" * 64})
    assert "<strong>Held: the champion stays</strong>" in to_html(kept, None)


def test_a_later_report_keeps_its_owners_words(binary: tuple[Material, Study]) -> None:
    first = replace(binary[0], settings=ReportSettings(owner="Jane", intended_use="calls"), slice_column="plan")
    remarks = json.loads(json.dumps(first.remarks()))
    later = replace(binary[0], settings=ReportSettings(owner="Joe"), findings=(), baselines=())
    again = later.recalled(remarks, same_rows=True)
    assert (again.settings.owner, again.settings.intended_use) == ("Joe", "calls")
    assert (again.slice_column, again.findings) == ("plan", list(first.findings))
    assert list(again.baselines) == list(first.baselines)
    assert not later.recalled(remarks, same_rows=False).baselines, "they were measured on other rows"


def test_tables_and_pictures_can_be_read_aloud(binary: tuple[Material, Study]) -> None:
    text = to_html(*binary)
    assert '<html lang="en">' in text
    heads = re.findall(r"<th\b[^>]*>", text)
    assert heads
    assert all('scope="col"' in head or 'scope="row"' in head for head in heads)
    assert text.count("<table") == text.count("<caption>")
    assert not re.search(r"\d\.\d{9}", re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)), "digits nobody reads"


def test_a_date_has_its_curve_and_a_column_of_one_value_is_named(tmp_path: Path) -> None:
    table = mixed_table(240, seed=3).append_column("same", pa.array([1.0] * 240))
    result = train(table, TrainingConfig("y", epochs=1, hidden_dim=4, test_size=0.4, date_columns=("signup",)))
    (tmp_path / "bundle").mkdir()
    stage_candidate(tmp_path / "bundle", result, table.take(pa.array(result.holdout_rows)), lineage={})
    subject = EvaluatedBundle(tmp_path / "bundle")
    (date,), rest = partial_dependence(subject, table, ["signup", "same"])
    assert (date.kind, rest) == ("date", ["same"])
    column = next(column for column in subject.contract.columns if column.name == "signup")
    assert column.minimum is not None
    assert column.maximum is not None
    assert column.minimum <= date.grid[0] < date.grid[-1] <= column.maximum
    assert date.averages.shape == (2, len(date.grid))
    (chart,) = dependence_charts([date], subject.classes)
    assert re.search(r">20\d\d", chart.svg), "years below the axis"


def test_figures_are_short_and_keep_their_zeros() -> None:
    shown = [number(value) for value in (0.76, 0.8, 15.0, 140.0, 0.0, -0.002, 12.34, 64188.2, 1e-7, float("nan"))]
    assert shown == ["0.760", "0.800", "15", "140", "0", "-0.00200", "12.3", "64,188", "1.00e-07", "–"]


@pytest.mark.parametrize(("task", "classes"), [("regression", 2), ("classification", 3)])
def test_other_tasks_have_their_charts(tmp_path: Path, task: TaskType, classes: int) -> None:
    material = trained(tmp_path / "bundle", task, classes=classes, epochs=2)
    written = write_report(material, tmp_path / "report", tmp_path / "again")
    text = written.page.read_text(encoding="utf-8")
    wanted = ("actual", "residuals", "residual-histogram") if task == "regression" else ("confusion", "roc", "scores")
    assert all(f'<figure id="{key}">' in text for key in wanted)
    assert (tmp_path / "again" / "report.html").read_bytes() == written.page.read_bytes()
    preview = (tmp_path / "report" / "preview.svg").read_text(encoding="utf-8")
    assert "var(--" not in preview
    assert preview.startswith("<svg xmlns=")


def test_a_refused_candidate_is_not_scored_and_its_first_difference_is_shown(binary: tuple[Material, Study]) -> None:
    material = replace(binary[0], verdict=verdict(binary[0].subject.digest, passed=False), outcome="", decision=None)
    assert study(material) is None
    text = to_html(material, None)
    assert "Refused by the gate" in text
    assert "First difference of replay" in text
    assert '<figure id="confusion"' not in text
    card = to_card(material, None)
    assert "the gate refused the saved file" in card
    assert "bundlegate predict" not in card, "nobody scores with it"
    assert "predict_rows" not in card


def test_a_large_holdout_is_sampled_and_that_is_said(binary: tuple[Material, Study]) -> None:
    material = replace(binary[0], settings=ReportSettings(max_rows=100, curves=1), rows=_many(binary[0], 3))
    measured = study(material)
    assert measured is not None
    assert measured.table.num_rows == 100
    assert f"Measured on 100 rows drawn at random from {material.rows.num_rows:,}." in to_html(material, measured)


def _many(material: Material, times: int):  # type: ignore[no-untyped-def]
    return pa.concat_tables([material.rows] * times)


def test_metrics_and_thresholds_are_those_of_the_answers() -> None:
    truth = np.array([0, 0, 1, 1])
    answers = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]])
    found = {
        item.name: item.value.estimate for item in measure_all(Predictions("a", "classification", truth, answers), None)
    }
    assert found["accuracy"] == 0.5
    assert found["auc"] == 0.75
    assert found["log loss"] == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.2]).mean())
    head, rows = threshold_rows(Predictions("a", "classification", truth, answers), ["no", "yes"])
    at_half = dict(zip(head, next(row for row in rows if row[0] == "0.5"), strict=True))
    assert at_half["precision"] == at_half["recall"] == at_half["specificity"] == "50.0\N{NO-BREAK SPACE}%"


def test_the_command_reports_on_the_rows_of_the_evidence(
    binary: tuple[Material, Study], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = binary[0].subject.path
    assert main(["report", str(bundle), "--output", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert Path(told["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "the holdout rows that its evidence keeps" in Path(told["card"]).read_text(encoding="utf-8")
    assert main(["report", str(bundle), "--data", str(tmp_path / "none.csv")]) == 4


def test_rows_whose_labels_are_spelled_otherwise_are_refused_or_named(
    binary: tuple[Material, Study], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject, rows = binary[0].subject, binary[0].rows.slice(0, 40)
    command = ["report", str(subject.path), "--output", str(tmp_path / "out"), "--data", str(tmp_path / "rows.csv")]
    target = subject.contract.target_column
    labels, place = rows[target].to_pylist(), rows.column_names.index(target)
    for upper in (40, 7):
        spelled = [label.upper() if row < upper else label for row, label in enumerate(labels)]
        write_table(rows.set_column(place, target, pa.array(spelled)), tmp_path / "rows.csv")
        assert main(command) == (4 if upper == 40 else 0)
        said = capsys.readouterr()
        assert f"{upper} of 40 rows have a class of {target!r} that the model doesn't know: " in said.out + said.err
        assert f"{labels[0].upper()!r} looks like {labels[0]!r}" in said.out + said.err
    assert "7 of 40 rows have a class" in (tmp_path / "out" / "card.md").read_text(encoding="utf-8")


def test_a_report_that_fails_is_said_and_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai.ml.retraining.console.progress import logger
    from ai.ml.retraining.records import BundleRef, CandidateRef, FileRef, VerdictRef
    from ai.ml.retraining.settings.retrain import RetrainConfig
    from tasks.artifacts import report

    # Prefect takes the logger's messages for itself when it is imported, so they are taken before that.
    said: list[str] = []
    monkeypatch.setattr(logger, "warning", lambda text, *values: said.append(text % values))
    gone = FileRef(path=str(tmp_path / "gone"), size=0, sha256="0" * 64)
    bundle = BundleRef(path=str(tmp_path / "bundle"), digest="0" * 64)
    candidate = CandidateRef(bundle=bundle, holdout=gone, history=gone, metrics={}, findings=())
    told = VerdictRef(digest="0" * 64, outcome="PASSED", reason="", file=gone)
    data = {"source": "a.csv", "target": "y"}
    config = RetrainConfig.model_validate({"name": "m", "store": str(tmp_path / "store"), "data": data})
    assert report.fn(config, candidate, told) is None
    assert len(said) == 1
    assert "nothing else depends on it" in said[0]
