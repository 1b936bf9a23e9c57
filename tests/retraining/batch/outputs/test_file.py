"""Batch answers in a file or a folder: what is there already, what is the input itself, disks that refuse."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from batch_scenes import tree
from builders import bare_bundle
from small_batch import part, score

from ai.ml.core.errors import Busy, DataRefused, StorageFailed, UsageError
from ai.ml.core.files.atomic import write_atomic
from ai.ml.retraining.batch import scoring_job
from ai.ml.retraining.batch.job import (
    BatchSettings,
    choose_destination,
    open_job,
)
from ai.ml.retraining.batch.outputs import file as file_output
from ai.ml.retraining.batch.outputs import folder as folder_output
from ai.ml.retraining.batch.outputs.file import FileOutput
from ai.ml.retraining.batch.outputs.folder import FolderLocation
from ai.ml.retraining.batch.outputs.job_record import JobRecord
from ai.ml.retraining.batch.outputs.resumable import ResumableOutput
from ai.ml.retraining.batch.pinned import pin_bundle
from ai.ml.retraining.commands import cli


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_bundle(tmp_path_factory.mktemp("bundles"))


def test_a_file_that_this_job_didnt_make_stays_unless_told_otherwise(bundle: Path, here: Path) -> None:
    part("in.csv")
    Path("mine.csv").write_text("irreplaceable")
    with pytest.raises(UsageError, match=r"mine\.csv is there already, and no batch made it"):
        score(bundle, "in.csv", "mine.csv")
    assert Path("mine.csv").read_text() == "irreplaceable"
    assert {path.name for path in here.iterdir()} == {"in.csv", "mine.csv"}
    score(bundle, "in.csv", "mine.csv", overwrite=True)
    before = tree(here)
    with pytest.raises(UsageError, match=r"other settings \(proba\)"):
        score(bundle, "in.csv", "mine.csv", proba=True)
    with pytest.raises(UsageError, match=r"another input: in\.csv is gone and new\.csv is new"):
        score(bundle, str(part("new.csv")), "mine.csv")
    Path("new.csv").unlink()
    assert tree(here) == before
    Path("mine.csv").write_bytes(Path("mine.csv").read_bytes() + b'"mine"\n')
    with pytest.raises(UsageError, match="isn't what its manifest says"):
        score(bundle, "in.csv", "mine.csv")


@pytest.mark.parametrize("name", ["one.csv", "one.parquet", "ONE.CSV"])
def test_a_finished_file_is_proven_by_its_manifest_and_not_scored_again(bundle: Path, here: Path, name: str) -> None:
    part("d/a.csv")
    part("d/b.csv")
    score(bundle, "d", name)
    before, changed = tree(here), Path(name).stat().st_mtime_ns
    told = json.loads(Path(f"{name}.manifest.json").read_bytes())["file"]
    content = Path(name).read_bytes()
    assert told == {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    assert score(bundle, "d", name).kept == 2
    assert (tree(here), Path(name).stat().st_mtime_ns) == (before, changed)
    part("d/b.csv", pa.array(range(4, 8)))
    with pytest.raises(UsageError, match=r"the input of b\.\w+ has changed"):
        score(bundle, "d", name)
    assert Path(name).read_bytes() == content


@pytest.mark.parametrize("n_parts", [1, 2])
def test_a_run_that_died_before_the_manifest_goes_on(
    bundle: Path, here: Path, monkeypatch: pytest.MonkeyPatch, n_parts: int
) -> None:
    for index in range(n_parts):
        part(f"d/{index}.csv")
    score(bundle, "d", "expected.csv")

    def die(path: Path, data: bytes) -> None:
        if path.name == "o.csv.manifest.json":
            raise KeyboardInterrupt
        write_atomic(path, data)

    with monkeypatch.context() as dying:
        dying.setattr(file_output, "write_atomic", die)
        with pytest.raises(KeyboardInterrupt):
            score(bundle, "d", "o.csv")
    assert Path("o.csv").exists()
    assert score(bundle, "d", "o.csv").kept == n_parts
    assert Path("o.csv").read_bytes() == Path("expected.csv").read_bytes()
    names = ("expected.csv", "expected.csv.manifest.json", "o.csv", "o.csv.manifest.json")
    assert {path.name for path in here.iterdir()} == {"d", *names}


def test_a_disk_that_fills_up_at_the_first_receipt_leaves_an_output_to_go_on_with(
    bundle: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part("d/a.csv")

    def full(path: Path, data: bytes) -> None:
        if "receipts" in path.parts:
            raise StorageFailed("No space left on device")
        write_atomic(path, data)

    with monkeypatch.context() as starved:
        starved.setattr(folder_output, "write_atomic", full)
        with pytest.raises(StorageFailed, match="No space"):
            score(bundle, "d", "out")
    assert {"a.csv", "_progress/job.json"} == {*tree(here / "out")}
    assert score(bundle, "d", "out").rows == 4
    assert {"a.csv", "_manifest.json", "_SUCCESS"} == {*tree(here / "out")}


def test_a_place_that_cant_be_made_is_told_with_its_reason(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("")
    for place in ("file", "file/below"):
        refused = pytest.raises(UsageError, match=r"/file is a file, not a folder")
        with refused, FolderLocation(str(here / place)).lock():
            pass

    def read_only(path: Path, **_options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(StorageFailed, match="Read-only file system"), FolderLocation(str(here / "out")).lock():
        pass


def test_a_second_run_is_told_that_one_is_at_work(here: Path) -> None:
    output = FileOutput("o.csv")
    with output.lock(), pytest.raises(Busy, match=r"another process is writing into \S+; try again"), output.lock():
        pass


def test_the_next_run_keeps_what_it_began_when_the_last_one_tidies(
    bundle: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part("in.csv")
    next_run = FileOutput("o.csv")
    finish: Callable[..., None] = FileOutput.finish

    def finish_and_begin(self: FileOutput, *done: object) -> None:
        finish(self, *done)
        with next_run.lock():
            parts = ResumableOutput(next_run.location)
            parts.begin(JobRecord(bundle="b" * 64, settings={}, parts=("in.csv",)), overwrite=False)

    monkeypatch.setattr(FileOutput, "finish", finish_and_begin)
    score(bundle, "in.csv", "o.csv")
    assert (here / ".o.csv.parts" / "_progress" / "job.json").exists()


def test_a_worker_that_stands_elsewhere_writes_to_the_same_place(here: Path) -> None:
    sent = pickle.dumps(choose_destination("o.csv"))
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    received = pickle.loads(sent)
    assert received.location.root == str(here / ".o.csv.parts")


def test_names_that_are_no_text_are_refused_and_long_ones_are_written(bundle: Path, here: Path) -> None:
    long = "a" * 251 + ".csv"
    part(f"d/{long}")
    assert score(bundle, "d", "out").rows == 4
    assert {*tree(here / "out")} == {long, "_manifest.json", "_SUCCESS"}
    assert score(bundle, "d", "out").kept == 1
    (here / "d" / long).rename(os.fsdecode(b"d/p\xff.csv"))
    for source in ("d", os.fsdecode(b"d/p\xff.csv")):
        with pytest.raises(DataRefused, match=r"p\\xff\.csv has a name that isn't UTF-8"):
            open_job(pin_bundle(bundle), source, "out2", BatchSettings())


def test_a_slash_makes_a_folder_of_any_name(here: Path) -> None:
    assert choose_destination("scored.v2/") == ResumableOutput(FolderLocation(str(here / "scored.v2")))
    with pytest.raises(UsageError, match=r"a file's name must end in .* and a folder's in a slash"):
        choose_destination("scored.v2")


def test_ctrl_c_says_what_became_of_the_parts(
    bundle: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring_job, "score", interrupt)
    assert cli.main(["predict", str(bundle), str(part("in.csv")), "out"]) == 130
    assert (
        capsys.readouterr().err == "interrupted: parts that were scored stay; run again, and only the others are done\n"
    )
