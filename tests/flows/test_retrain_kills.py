"""SIGKILL of the flow's process at each step's start, middle and end; then the same again, to the end.

Each step begins with a champion that the candidate beats, so that every run has everything to do: drift to measure, a
decision to take, a pointer to move.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from builders import mixed_table
from conftest import PATIENCE_S, ROOT, SUPPORT
from prefect_cli import python_of

from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.console.exit_codes import INTERRUPTED
from ai.ml.retraining.store.anchor import anchor_file
from ai.ml.retraining.store.audit import audit
from ai.ml.retraining.store.store import Store

pytestmark = pytest.mark.slow

RUNS = "ai.ml.retraining.runs"
STEPS = f"{RUNS}.retrain"
SHELF = "ai.ml.retraining.store.folder"
FILES = "ai.ml.core.files.atomic"
REPORT = "ai.ml.retraining.reporting"

POINTS: dict[str, tuple[str, ...]] = {
    "read.start": ("before", STEPS, "read_data"),
    "read.writing": ("after", FILES, "write_new", ".data-"),
    "read.written": ("after", f"{RUNS}.steps.source", "write_table"),
    "read.end": ("after", STEPS, "read_data"),
    "drift.start": ("before", STEPS, "check_drift"),
    "drift.measured": ("before", f"{RUNS}.steps.drift", "write_atomic"),
    "drift.end": ("after", STEPS, "check_drift"),
    "train.start": ("before", STEPS, "train_candidate"),
    "train.an-epoch": ("after", "ai.ml.frameworks.pytorch.trainer.checkpoint:EpochCheckpoint", "save"),
    "train.building": ("before", f"{RUNS}.steps.candidate", "publish_dir"),
    "train.published": ("after", f"{RUNS}.steps.candidate", "publish_dir"),
    "train.end": ("after", STEPS, "train_candidate"),
    "prove.start": ("before", STEPS, "prove_candidate"),
    "prove.replaying": ("while", "ai.ml.retraining.gate.environments", "subprocess"),
    "prove.end": ("after", STEPS, "prove_candidate"),
    "decide.start": ("before", STEPS, "decide"),
    "decide.half-scored": ("after", f"{RUNS}.steps.decide", "score_known"),
    "decide.end": ("after", STEPS, "decide"),
    "promote.start": ("before", STEPS, "promote"),
    "promote.copied": ("before", SHELF, "publish_dir"),
    "promote.published": ("after", SHELF, "publish_dir"),
    "promote.decided": ("before", SHELF, "_put_in_place"),
    "promote.moved": ("after", SHELF, "_put_in_place"),
    "promote.end": ("after", STEPS, "promote"),
    "score.start": ("before", STEPS, "score_holdout"),
    "score.writing": ("after", FILES, "write_new", ".holdout-scored"),
    "score.end": ("after", STEPS, "score_holdout"),
    "report.start": ("before", f"{REPORT}.sources", "report_candidate"),
    "report.writing": ("after", FILES, "write_new", ".report.html"),
    "report.end": ("after", f"{REPORT}.sources", "report_candidate"),
}
"""The moment, and the function whose first call it is about, or first with a text in an argument."""
KILLED = -9
# What the kills of one step leave is met by the next kill of it; in the promotion every kill counts by itself, since
# from the ledger's line on there is nothing left to be killed in.
ROUNDS = [*dict.fromkeys(point if point.startswith("promote") else point.partition(".")[0] for point in POINTS)]
LEFTOVERS = (".tmp", ".building", ".epochs", ".copy", ".gone", ".holder", "run.json")


class Scene:
    """A store with a champion, and a table."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.store, self.log = folder, folder / "store", folder / "run.log"
        (folder / "scratch").mkdir()
        write_table(mixed_table(300, seed=3), folder / "table.csv")
        own = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "scratch")}
        self.environment = environment | own

    def run(self, point: str | None = None, *, epochs: int = 40, report: bool = False, interrupt: bool = False) -> int:
        arguments = ["--name", "m", "--store", str(self.store), "--data", str(self.folder / "table.csv")]
        arguments += ["--target", "y", "--epochs", str(epochs), "--hidden-dim", "16"]
        arguments += ["--report" if report else "--no-report"]
        return self.ask(point, arguments, "SIGINT" if interrupt else "SIGKILL")

    def ask(self, point: str | None, arguments: list[str], kill: str = "SIGKILL") -> int:
        script = [
            python_of(self.environment),
            str(SUPPORT / "flow_killer.py"),
            json.dumps(point and POINTS[point]),
        ]
        with self.log.open("wb") as log:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            environment = self.environment | {"FLOW_KILLER_SIGNAL": kill}
            done = subprocess.run([*script, *arguments], cwd=ROOT, env=environment, timeout=PATIENCE_S, **streams)
        return done.returncode

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def decisions(self) -> list[tuple[str, str]]:
        return [(entry.action, entry.digest) for entry in Store(self.store).history("m")]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, warm_environment: dict[str, str]) -> Scene:
    found = Scene(tmp_path_factory.mktemp("kills"), warm_environment)
    assert found.run(epochs=1) == 0, found.said()
    shutil.rmtree(found.store / "m" / "work")
    shutil.copytree(found.store, found.folder / "champion")
    return found


@pytest.fixture(scope="module")
def uninterrupted(scene: Scene) -> list[tuple[str, str]]:
    """The decisions of a run that nobody killed."""
    start_over(scene, keep_work=False)
    assert scene.run() == 0, scene.said()
    decisions = scene.decisions()
    assert [action for action, _ in decisions] == ["promoted", "promoted"]
    return decisions


def start_over(scene: Scene, *, keep_work: bool) -> None:
    """The first champion is live again; what was read and trained stays or goes."""
    work, kept = scene.store / "m" / "work", scene.folder / "kept"
    if keep_work and work.exists():
        work.rename(kept)
    shutil.rmtree(scene.store)
    shutil.copytree(scene.folder / "champion", scene.store)
    # An older copy of the store is meant, so this machine forgets the newer one.
    remembered = anchor_file(str(scene.store / "m")).path
    assert remembered is not None
    remembered.unlink(missing_ok=True)
    if kept.exists():
        kept.rename(work)


def leftovers(scene: Scene) -> list[str]:
    found = [str(path) for path in scene.store.rglob("*") if path.name.endswith(LEFTOVERS)]
    return found + [str(path) for path in (scene.folder / "scratch").glob("bundlegate-*")]


@pytest.mark.parametrize("killed", ROUNDS)
def test_killed_anywhere_in_a_step_it_ends_as_if_nothing_had_happened(
    scene: Scene, uninterrupted: list[tuple[str, str]], killed: str
) -> None:
    step = killed.partition(".")[0]
    start_over(scene, keep_work=step not in ("read", "train"))
    for point in (point for point in POINTS if point.startswith(killed)):
        assert scene.run(point, report=step == "report") == KILLED, f"{point}: {scene.said()}"
        assert "trained   " not in scene.said() or step in ("read", "drift", "train"), f"{point}: trained again"
        work = scene.store / "m" / "work"
        assert (work / "run.json").is_file()
        assert point not in ("train.published", "train.end") or list(work.glob("*.epochs")), (
            "it is trained from epoch 0"
        )
    assert scene.ask(None, ["--resume", "m", "--store", str(scene.store)]) == 0, scene.said()
    check_end(scene, uninterrupted, step)


def check_end(scene: Scene, uninterrupted: list[tuple[str, str]], step: str) -> None:
    said = scene.said()
    assert scene.decisions() == uninterrupted
    assert Store(scene.store).champion("m") == uninterrupted[-1][1]
    assert audit(Store(scene.store), "m") == []
    assert leftovers(scene) == []
    assert ("read      300 rows" in said) == (step == "read"), said
    assert ("trained   " in said) == (step in ("read", "train")), said
    for done in ("drift     ", "proved    PASSED", "decided   PROMOTE", "champion  m: ", "scored    64"):
        assert done in said, f"{done!r} isn't in {said}"
    page = scene.store / "m" / "reports" / uninterrupted[-1][1] / "report.html"
    assert page.is_file() == ("reported  " in said) == (step == "report")


INTERRUPTS = {
    "prove.end": "nothing was promoted",
    "promote.copied": "the promotion was under way; bundlegate show m says what is live",
    "promote.moved": "the promotion was under way; bundlegate show m says what is live",
    "promote.end": "m: {digest} is the champion",
    "score.end": "m: {digest} is the champion",
}


@pytest.mark.parametrize("point", INTERRUPTS)
def test_ctrl_c_says_what_became_of_the_promotion(
    scene: Scene, uninterrupted: list[tuple[str, str]], point: str
) -> None:
    start_over(scene, keep_work=True)
    assert scene.run(point, interrupt=True) == INTERRUPTED, scene.said()
    said = scene.said().splitlines()
    digest = uninterrupted[-1][1]
    assert f"interrupted: {INTERRUPTS[point].format(digest=digest[:12])}" in said
    is_live = Store(scene.store).champion("m") == digest
    assert is_live == (point not in ("prove.end", "promote.copied"))


def test_deleted_results_cost_time_and_nothing_else(scene: Scene, uninterrupted: list[tuple[str, str]]) -> None:
    assert scene.decisions() == uninterrupted
    shutil.rmtree(Path(scene.environment["PREFECT_HOME"]) / "storage")
    assert scene.run() == 0, scene.said()
    for done in ("read      300 rows", "trained   ", "proved    PASSED", "is the champion already"):
        assert done in scene.said()
    assert scene.decisions() == uninterrupted
    assert leftovers(scene) == []


def test_checkpoints_that_were_changed_are_done_again_and_said(
    scene: Scene, uninterrupted: list[tuple[str, str]]
) -> None:
    assert scene.decisions() == uninterrupted
    (candidate,) = (scene.store / "m" / "work").glob("candidate-*")
    (data,) = (scene.store / "m" / "work").glob("data-*.parquet")
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    (candidate / "holdout.parquet").rename(candidate / "moved.parquet")
    (candidate / "history.json").unlink()
    assert scene.run() == 0, scene.said()
    said = scene.said()
    assert f"read-data is done again: {data} has changed" in said
    gone = [f"{candidate / name} is gone" for name in ("holdout.parquet", "history.json")]
    assert f"train-candidate is done again: {'; '.join(gone)}" in said
    for done in ("read      300 rows", "trained   ", "proved    PASSED", "is the champion already"):
        assert done in said
    assert scene.decisions() == uninterrupted
