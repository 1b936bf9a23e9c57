"""What a batch didn't make stays, whatever lies where it writes, and whatever a record there says."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from batch_scenes import tree
from builders import bare_bundle
from small_batch import part, score

from ai.ml.core.errors import StorageFailed, UsageError
from ai.ml.core.tables.reader import read_table
from ai.ml.retraining.batch.job import BatchSettings, open_job, run_job
from ai.ml.retraining.batch.outputs.file import FileOutput
from ai.ml.retraining.batch.pinned import pin_bundle, prove_pinned
from ai.ml.retraining.batch.score_part import ScoredPart


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_bundle(tmp_path_factory.mktemp("bundles"), seed=1)


@pytest.mark.parametrize("record", [None, "{}"])
def test_a_folder_of_the_name_that_the_parts_wait_under_stays(bundle: Path, here: Path, record: str | None) -> None:
    part("in.csv")
    Path(".o.csv.parts/deep").mkdir(parents=True)
    Path(".o.csv.parts/deep/mine.txt").write_text("irreplaceable")
    if record is not None:
        Path(".o.csv.parts/_progress").mkdir()
        Path(".o.csv.parts/_progress/job.json").write_text(record)
    before = tree(here)
    with pytest.raises(UsageError, match="no record of a batch"):
        score(bundle, "in.csv", "o.csv", overwrite=True)
    assert tree(here) == before


def test_overwriting_a_job_replaces_none_of_its_neighbours(bundle: Path, here: Path) -> None:
    part("in/a.csv")
    score(bundle, "in/", "out/")
    Path("out/b.csv").write_text("irreplaceable")
    part("in/b.csv")
    before = tree(here)
    with pytest.raises(UsageError, match=r"out/b\.csv is there already, and the batch .* didn't make it"):
        score(bundle, "in/", "out/", overwrite=True)
    assert tree(here) == before
    Path("out/b.csv").unlink()
    assert score(bundle, "in/", "out/", overwrite=True).rows == 8


def test_what_cant_be_removed_is_said(bundle: Path, here: Path) -> None:
    part("in.csv")
    score(bundle, "in.csv", "out/")
    Path("out/in.csv").unlink()
    Path("out/in.csv/mine").mkdir(parents=True)
    with pytest.raises(StorageFailed, match=r"removing \S+/out/in\.csv failed"):
        score(bundle, "in.csv", "out/", overwrite=True, keep=["num_a"])
    Path("o.csv.manifest.json").mkdir()
    with pytest.raises(UsageError, match=r"o\.csv\.manifest\.json is no manifest of a batch"):
        score(bundle, "in.csv", "o.csv")


def test_a_mark_of_success_that_cant_be_removed_is_said(
    bundle: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part("in.csv")
    score(bundle, "in.csv", "out/")
    before = tree(here)
    unlink = Path.unlink

    def denied(self: Path, missing_ok: bool = False) -> None:
        if self.name == "_SUCCESS":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", denied)
    with pytest.raises(StorageFailed, match=r"removing \S+/out/_SUCCESS failed: Permission denied"):
        score(bundle, "in.csv", "out/", overwrite=True, keep=["age"])
    assert tree(here) == before


@pytest.mark.parametrize("output", ["out/", "o.csv"])
def test_an_output_that_cant_be_read_is_said(
    bundle: Path, here: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    part("in.csv")
    score(bundle, "in.csv", output)
    answers = {"out/": here / "out" / "in.csv", "o.csv": here / "o.csv"}[output]
    before = tree(here)
    opened = Path.open

    def denied(self: Path, *arguments: Any, **named: Any) -> Any:
        if self == answers:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return opened(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", denied)
        with pytest.raises(StorageFailed, match=rf"reading {answers} failed: Permission denied"):
            score(bundle, "in.csv", output)
    assert tree(here) == before


def test_a_run_killed_while_it_removes_the_joined_parts_goes_on(
    bundle: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part("in/a.csv")
    part("in/b.csv")

    class Killed(BaseException):
        pass

    def half(folder: Path, ignore_errors: bool = False) -> None:
        if folder.name == ".o.csv.parts":
            # In the order of a directory's entries that is worst: the record of the job first.
            (folder / "_progress" / "job.json").unlink()
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", half)
        patch.setattr(FileOutput, "clean_up_if_empty", lambda self: None)
        with pytest.raises(Killed):
            score(bundle, "in/", "o.csv")
    assert read_table("o.csv").num_rows == 8
    assert score(bundle, "in/", "o.csv").kept == 2
    assert not Path(FileOutput("o.csv").location.root).exists()


@pytest.mark.parametrize("output", ["out/", "o.csv", "sqlite:///x.db"])
def test_a_worker_whose_job_was_replaced_publishes_nothing(
    bundle: Path, other_bundle: Path, here: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster, where a worker may outlive the run that it works for."""
    part("in.csv")
    table = "scored" if "://" in output else None
    late = open_job(pin_bundle(bundle), "in.csv", output, BatchSettings(), table=table)
    late.task.destination.begin(late.record, overwrite=False)
    job = open_job(pin_bundle(other_bundle), "in.csv", output, BatchSettings(overwrite=True), table=table)
    rows: Callable[..., Iterator[pa.Table]] = ScoredPart.tables

    def after_another_job(self: ScoredPart) -> Iterator[pa.Table]:
        with monkeypatch.context() as patch:
            patch.setattr(ScoredPart, "tables", rows)
            run_job(job)
        yield from rows(self)

    scored = ScoredPart(prove_pinned(late.task.pin), late.parts[0], late.task.settings)
    monkeypatch.setattr(ScoredPart, "tables", after_another_job)
    with pytest.raises(UsageError, match="has taken"):
        late.task.destination.write(scored)
    monkeypatch.undo()
    monkeypatch.chdir(here)
    before = tree(here)
    again = open_job(pin_bundle(other_bundle), "in.csv", output, BatchSettings(), table=table)
    assert run_job(again).kept == 1
    assert tree(here) == before
    names = {path.name for path in here.iterdir()}
    assert names <= {"in.csv", "out", "o.csv", "o.csv.manifest.json", "x.db"}
