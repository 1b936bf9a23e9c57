"""Cards and reports: what they say, that nothing breaks out of them, and that they are the same each time."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_scenes import EVIL_COLUMN, EVIL_LABEL, EVIL_LEVEL, trained, verdict

from ai.ml.core.types import TaskType
from ai.ml.retraining.cli import main
from ai.ml.retraining.config import ReportSettings
from ai.ml.retraining.decision import Scored
from ai.ml.retraining.reporting.card import to_card
from ai.ml.retraining.reporting.material import Material, Study, study
from ai.ml.retraining.reporting.measures import measure_all, threshold_rows
from ai.ml.retraining.reporting.page import to_html
from ai.ml.retraining.reporting.writing import write_report


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
    assert "| linear model | rmse 2 | 1 | 1 (0.5 to 1.5) |" in body
    assert "<script" not in body
    assert "<img" not in body
    for line in body.splitlines():
        if line.startswith("| city | category"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5


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
    assert "the gate refused the saved file" in to_card(material, None)


def test_a_large_holdout_is_sampled_and_that_is_said(binary: tuple[Material, Study]) -> None:
    material = replace(binary[0], settings=ReportSettings(max_rows=100, curves=1), rows=_many(binary[0], 3))
    measured = study(material)
    assert measured is not None
    assert measured.table.num_rows == 100
    assert f"Measured on 100 rows drawn at random from {material.rows.num_rows:,}." in to_html(material, measured)


def _many(material: Material, times: int):  # type: ignore[no-untyped-def]
    import pyarrow as pa

    return pa.concat_tables([material.rows] * times)


def test_metrics_and_thresholds_are_those_of_the_answers() -> None:
    truth = np.array([0, 0, 1, 1])
    answers = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]])
    found = {
        item.name: item.value.estimate for item in measure_all(Scored("a", "classification", truth, answers), None)
    }
    assert found["accuracy"] == 0.5
    assert found["auc"] == 0.75
    assert found["log loss"] == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.2]).mean())
    head, rows = threshold_rows(Scored("a", "classification", truth, answers), ["no", "yes"])
    at_half = dict(zip(head, next(row for row in rows if row[0] == "0.5"), strict=True))
    assert at_half["precision"] == at_half["recall"] == at_half["specificity"] == "50.0\N{NO-BREAK SPACE}%"


def test_the_command_reports_on_the_rows_of_the_evidence(
    binary: tuple[Material, Study], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = binary[0].subject.bundle_dir
    assert main(["report", str(bundle), "--output", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert Path(told["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "the holdout rows that its evidence keeps" in Path(told["card"]).read_text(encoding="utf-8")
    assert main(["report", str(bundle), "--data", str(tmp_path / "none.csv")]) == 4


def test_a_report_that_fails_is_said_and_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai.ml.retraining.checkpoints import BundleRef, CandidateRef, FileRef, VerdictRef
    from ai.ml.retraining.config import RetrainConfig
    from ai.ml.retraining.log import logger
    from tasks.reporting import report

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
