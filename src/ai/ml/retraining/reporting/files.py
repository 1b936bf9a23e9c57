"""Making a report and keeping it: files beside the candidate, and with the version outside its digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ai.ml.core.files.atomic import dump_json, sweep_temps, write_atomic
from ai.ml.core.tables.locations import is_url
from ai.ml.retraining.reporting.svg import require_matplotlib
from ai.ml.retraining.store.location import work_folder
from ai.ml.retraining.store.store import Store

if TYPE_CHECKING:
    # It imports torch, which finding a report's path doesn't need.
    from ai.ml.retraining.reporting.inputs import Material

CARD, PAGE, HISTORY, PREVIEW = "card.md", "report.html", "history.json", "preview.svg"
REMARKS = "remarks.json"
"""What a later report of the same version can't read elsewhere: the owner's texts and the training's findings."""


@dataclass(frozen=True)
class Written:
    """The files of a report that was written."""

    card: Path
    page: Path
    note: str | None = None
    """What a reader should know of the rows before any figure."""


def all_reports(store: Store, name: str) -> Path:
    """The folder of a model's reports: beside the versions where the store is a folder; of a bucket, in the model's
    work folder on this machine.
    """
    return (work_folder(store.root, name) if is_url(store.root) else store.folder(name)) / "reports"


def report_folder(store: Store, name: str, digest: str) -> Path:
    """The folder of a version's report; it isn't part of the bundle, whose digest stays."""
    return all_reports(store, name) / digest


def write_report(material: Material, *folders: Path) -> Written:
    """Measure, draw, and write card, page, one chart and the history into each folder; returns the first one's.

    Raises:
        UsageError: the extra `report` isn't installed.
        DataRefused: the rows don't meet the model's contract, or have no truth.
        StorageFailed: the disk refused.
    """
    require_matplotlib()
    from ai.ml.retraining.reporting.card import to_card
    from ai.ml.retraining.reporting.inputs import study
    from ai.ml.retraining.reporting.page import to_html
    from ai.ml.retraining.reporting.sections import preview

    measured = study(material)
    documents = {CARD: to_card(material, measured).encode(), PAGE: to_html(material, measured).encode()}
    if (chart := None if measured is None else preview(measured, material.subject)) is not None:
        documents[PREVIEW] = chart.standalone().encode()
    if material.history:
        documents[HISTORY] = dump_json(list(material.history))
        documents[REMARKS] = dump_json(material.remarks())
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_temps(folder)
        for name, content in documents.items():
            write_atomic(folder / name, content)
    return Written(folders[0] / CARD, folders[0] / PAGE)
