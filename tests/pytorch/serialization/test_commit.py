"""The redo record: locks, recovery, readers, and directories that hold what a save can't replace."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import threading
import time
from pathlib import Path

import builders
import pytest
from pair_reader import open_pair
from save_scenarios import NEW, OLD, THIRD, Pair, _write, listing, read, replace, seal

from ai.ml.core.errors import BundleNotFound, BundleRefused, Busy, StorageFailed
from ai.ml.core.files import lock as directory_lock
from ai.ml.core.files.lock import LOCK_NAME, locked
from ai.ml.frameworks.pytorch.serialization import commit as redo
from ai.ml.frameworks.pytorch.serialization import load
from ai.ml.frameworks.pytorch.serialization.load import load_bundle
from ai.ml.frameworks.pytorch.serialization.reader import Loaded, load_checked
from ai.ml.frameworks.pytorch.serialization.save import encode_bundle, save_bundle


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """A directory in which NEW was committed over OLD, and no more."""
    replace(tmp_path, OLD)
    redo._commit(tmp_path, lambda temp: _write(temp, NEW), NEW.metrics)
    return tmp_path


def test_a_reader_takes_the_committed_pair_and_writes_nothing(committed: Path) -> None:
    before = listing(committed)
    assert (committed / "model_bundle.pt").read_bytes() == OLD.bundle
    assert read(committed) == NEW
    assert {name: path.read_bytes() for name, path in redo.committed_files(committed).items()} == {
        "model_bundle.pt": NEW.bundle,
        "metrics.json": NEW.metrics,
    }
    assert listing(committed) == before


def test_a_committed_pair_without_metrics_has_none(tmp_path: Path) -> None:
    replace(tmp_path, OLD)
    redo._commit(tmp_path, lambda temp: _write(temp, NEW), None)
    assert set(redo.committed_files(tmp_path)) == {"model_bundle.pt"}
    assert read(tmp_path) == NEW._replace(metrics=None)


def test_without_a_record_the_files_lie_under_their_names(tmp_path: Path) -> None:
    replace(tmp_path, OLD)
    assert redo.committed_files(tmp_path) == {}
    assert read(tmp_path) == OLD
    with pytest.raises(FileNotFoundError):
        load_bundle(tmp_path / "other.pt")


def test_there_is_no_bundle(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "gone"):
        with pytest.raises(BundleNotFound, match="no bundle at"):
            open_pair(directory)
        with pytest.raises(BundleNotFound, match="no bundle at"):
            load_bundle(directory / "model_bundle.pt")


def test_a_reader_that_is_overtaken_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (builders.tiny_bundle(seed=seed) for seed in range(2))
    save_bundle(old, tmp_path)
    content = encode_bundle(new)
    redo._commit(tmp_path, lambda temp: _write(temp, Pair(content, None)), None)
    looks: list[Path] = []

    def overtaken(path: Path, map_location: object) -> Loaded:
        looks.append(path)
        if len(looks) == 1:
            redo.finish_pending(tmp_path)
        return load_checked(path, map_location)

    monkeypatch.setattr(load, "load_checked", overtaken)
    assert encode_bundle(load_bundle(tmp_path / "model_bundle.pt")) == content
    assert [path.name == "model_bundle.pt" for path in looks] == [False, True]


def test_the_next_writer_finishes_and_sweeps(committed: Path) -> None:
    (committed / ".model_bundle.pt.1.0123456789abcdef.tmp").write_bytes(b"half")
    (committed / "mine.txt").write_bytes(b"kept")
    redo.finish_pending(committed)
    assert listing(committed) == {"model_bundle.pt": NEW.bundle, "metrics.json": NEW.metrics, "mine.txt": b"kept"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 2}, "format 2, this bundlegate knows 1"),
        ({"files": {}}, "doesn't name the pair"),
        ({"files": {"model_bundle.pt": None, "metrics.json": None}}, "doesn't name the pair"),
        (
            {"files": {"model_bundle.pt": {"temp": "../x", "size": 1, "sha256": ""}, "metrics.json": None}},
            "names a file that isn't its own",
        ),
        ({"files": {"model_bundle.pt": {"temp": 1, "size": 1, "sha256": ""}, "metrics.json": None}}, "can't be read"),
    ],
)
def test_a_record_that_cant_be_read_is_kept_and_refused(committed: Path, change: dict, sentence: str) -> None:
    path = committed / redo.RECORD_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    before = listing(committed)
    for act in (lambda: read(committed), lambda: replace(committed, THIRD), lambda: redo.committed_files(committed)):
        with pytest.raises(BundleRefused, match=sentence) as refusal:
            act()
        assert "remove this file and save again" in str(refusal.value)
    assert listing(committed) == before


def test_a_record_whose_files_were_taken_away_is_refused_not_guessed(committed: Path) -> None:
    for temp in committed.glob(".model_bundle.pt.*"):
        temp.unlink()
    for act in (lambda: read(committed), lambda: redo.committed_files(committed)):
        with pytest.raises(BundleRefused, match="names files of an unfinished save that aren't in"):
            act()
    replace(committed, THIRD)
    assert read(committed) == THIRD


def test_an_interruption_right_behind_the_commit_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(tmp_path, OLD)
    rename = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        rename(self, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace(tmp_path, NEW)
    monkeypatch.undo()
    assert read(tmp_path) == NEW
    replace(tmp_path, THIRD)
    assert listing(tmp_path) == {"model_bundle.pt": THIRD.bundle, "metrics.json": THIRD.metrics}


def test_an_interruption_before_the_commit_leaves_nothing(tmp_path: Path) -> None:
    replace(tmp_path, OLD)

    def interrupted(temp: Path) -> str:
        temp.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        redo.replace_pair(tmp_path, interrupted, None)
    assert listing(tmp_path) == {"model_bundle.pt": OLD.bundle, "metrics.json": OLD.metrics}


def test_what_described_the_older_pair_goes_with_it(tmp_path: Path) -> None:
    replace(tmp_path, OLD)
    seal(tmp_path)
    (tmp_path / "evidence" / "mine.txt").write_bytes(b"kept")
    replace(tmp_path, NEW)
    assert set(listing(tmp_path)) == {"model_bundle.pt", "metrics.json", "evidence/mine.txt"}


def test_a_foreign_manifest_goes_and_leads_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "answers.npz").write_bytes(b"kept")
    directory = tmp_path / "bundle"
    directory.mkdir()
    (directory / "evidence").symlink_to(outside)
    (directory / "manifest.json").write_text(json.dumps({"files": {"evidence/answers.npz": {}, "../outside/x": {}}}))
    replace(directory, NEW)
    assert (outside / "answers.npz").read_bytes() == b"kept"
    assert not (directory / "manifest.json").exists()


@pytest.mark.parametrize("name", ["model_bundle.pt", "metrics.json", "manifest.json"])
def test_a_directory_under_one_of_the_names_is_found_before_the_commit(tmp_path: Path, name: str) -> None:
    replace(tmp_path, OLD)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StorageFailed, match=f"{name} is a directory there; nothing was changed"):
        replace(tmp_path, NEW)
    assert sorted(tmp_path.iterdir()) == before


def test_a_linked_bundle_is_replaced_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"kept")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "model_bundle.pt").symlink_to(tmp_path / "elsewhere")
    replace(tmp_path / "bundle", NEW)
    assert (tmp_path / "elsewhere").read_bytes() == b"kept"
    assert read(tmp_path / "bundle") == NEW


def test_a_directory_that_vanishes_meanwhile(tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    directory.mkdir()

    def vanish(temp: Path) -> str:
        directory.rmdir()
        return _write(temp, NEW)

    with pytest.raises(StorageFailed, match=r"No such file or directory; nothing was changed"):
        redo.replace_pair(directory, vanish, None)


# ---- the lock --------------------------------------------------------------------------------------------------------


def test_a_second_writer_waits_and_then_gives_up(tmp_path: Path) -> None:
    refusal = pytest.raises(Busy, match=r"another process has been writing into .* for 0 s")
    with locked(tmp_path), refusal, locked(tmp_path, timeout_s=0.05):
        pass
    with locked(tmp_path, timeout_s=0.05):
        pass
    assert list(tmp_path.iterdir()) == []


def test_threads_take_turns(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(20):
            with locked(tmp_path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80
    assert max(most) == 1


def _hold(directory: str, ready: int, go: int) -> None:
    with locked(Path(directory)):
        os.write(ready, b"r")
        os.read(go, 1)


def test_the_lock_dies_with_its_owner(tmp_path: Path) -> None:
    ready_read, ready_write = os.pipe()
    go_read, _go_write = os.pipe()
    holder = multiprocessing.get_context("fork").Process(target=_hold, args=(str(tmp_path), ready_write, go_read))
    holder.start()
    os.read(ready_read, 1)
    with pytest.raises(Busy), locked(tmp_path, timeout_s=0.05):
        pass
    holder.kill()
    holder.join()
    with locked(tmp_path, timeout_s=5):
        pass


def test_a_directory_that_was_replaced_during_the_wait_is_locked_anew(tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    directory.mkdir()
    stale = os.open(directory, os.O_RDONLY)
    fcntl.flock(stale, fcntl.LOCK_EX)
    directory.rename(tmp_path / "moved")
    directory.mkdir()
    with locked(directory, timeout_s=1), pytest.raises(Busy), locked(directory, timeout_s=0.05):
        pass
    os.close(stale)


def test_where_directories_have_no_locks_a_file_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock

    def as_on_nfs(descriptor: int, operation: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        flock(descriptor, operation)

    monkeypatch.setattr(directory_lock.fcntl, "flock", as_on_nfs)
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]
        with pytest.raises(Busy), locked(tmp_path, timeout_s=0.05):
            pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / LOCK_NAME).write_bytes(b"")  # of a writer that was killed
    replace(tmp_path, NEW)
    assert listing(tmp_path) == {"model_bundle.pt": NEW.bundle, "metrics.json": NEW.metrics}
