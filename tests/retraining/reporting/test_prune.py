"""Reports go with the versions that they describe; what is still there, or under way, keeps its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import sealed_tiny
from store_samples import DECISION, promoted, verdict_on

from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.reporting.files import all_reports, report_folder
from ai.ml.retraining.reporting.prune import prune_reports
from ai.ml.retraining.store.store import Store


def reported(store: Store, digest: str) -> str:
    """As a run leaves it."""
    folder = report_folder(store, "m", digest)
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("x")
    return digest


def left(store: Store) -> set[str]:
    return {folder.name for folder in all_reports(store, "m").iterdir()}


def held(store: Store, folder: Path, seed: int) -> str:
    _, digest = sealed_tiny(folder / f"held{seed}", seed)
    store.record("m", "held", verdict_on(digest), decision=DECISION)
    return reported(store, digest)


def test_a_pruned_versions_report_goes_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "store")
    versions = [reported(store, promoted(store, tmp_path, seed)) for seed in range(4)]
    assert prune_reports(store, "m", 1) == [], "all of them are in the store"
    arguments = ["prune", "m", "--keep", "1", "--grace", "0", "--store", str(store.root)]
    assert main(arguments) == 0
    assert left(store) == set(versions[2:]), "the champion's and the one's before"
    told = capsys.readouterr().out
    assert all(str(report_folder(store, "m", digest)) in told for digest in versions[:2])
    assert "m: 4 removed" in told
    assert main(arguments) == 0
    assert "m: 0 removed" in capsys.readouterr().out


def test_of_candidates_that_were_held_the_latest_reports_stay(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    live = reported(store, promoted(store, tmp_path, 0))
    candidates = [held(store, tmp_path, seed) for seed in range(1, 5)]
    bundle, refused = sealed_tiny(tmp_path / "refused", 9)
    store.quarantine("m", bundle, verdict_on(refused, passed=False))
    reported(store, refused)
    under_way = reported(store, "f" * 64)
    own = all_reports(store, "m") / "notes"
    own.mkdir()
    gone = prune_reports(store, "m", 2)
    assert [folder.name for folder in gone] == [candidates[1], candidates[0]]
    assert left(store) == {live, *candidates[2:], refused, under_way, "notes"}


def test_what_was_pruned_and_held_again_is_a_candidate_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = promoted(store, tmp_path, 0)
    for seed in (1, 2):
        promoted(store, tmp_path, seed)
    store.prune("m", 1, grace_s=0)
    store.record("m", "held", verdict_on(first), decision=DECISION)
    reported(store, first)
    assert prune_reports(store, "m", 1) == []
    assert left(store) == {first}


def test_no_reports_are_no_trouble(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    promoted(store, tmp_path, 0)
    assert prune_reports(store, "m", 1) == []
