"""Folders of the user's for what is kept outside of stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai.ml.core.errors import StorageFailed
from ai.ml.core.files.user_folders import StateFile, cache_folder, state_file, state_folder


@pytest.mark.parametrize(
    ("folder", "own", "usual", "below_home"),
    [
        (cache_folder, "BUNDLEGATE_CACHE", "XDG_CACHE_HOME", ".cache"),
        (state_folder, "BUNDLEGATE_STATE", "XDG_STATE_HOME", ".local/state"),
    ],
)
def test_an_own_variable_goes_before_the_usual_one_and_that_before_the_home(
    folder: object, own: str, usual: str, below_home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(own, raising=False)
    monkeypatch.delenv(usual, raising=False)
    assert folder() == tmp_path / "home" / below_home / "bundlegate"
    monkeypatch.setenv(usual, str(tmp_path / "usual"))
    assert folder() == tmp_path / "usual" / "bundlegate"
    monkeypatch.setenv(own, str(tmp_path / "own"))
    assert folder() == tmp_path / "own"


def test_what_is_kept_is_there_until_it_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNDLEGATE_STATE", str(tmp_path / "state"))
    file = state_file("ledgers", "m.json")
    assert file.path == tmp_path / "state" / "ledgers" / "m.json"
    file.keep(b"one")
    file.keep(b"two")
    assert file.path.read_bytes() == b"two"
    file.remove()
    assert not file.path.exists()
    file.remove()


def test_without_a_folder_nothing_is_kept_and_nobody_is_stopped(tmp_path: Path) -> None:
    nowhere = StateFile(None)
    nowhere.keep(b"one")
    nowhere.remove()
    (tmp_path / "file").touch()
    taken = StateFile(tmp_path / "file" / "m.json")
    taken.keep(b"one")
    with pytest.raises(StorageFailed, match="removing"):
        taken.remove()
