"""What a rollback left stays left: the next rollback goes further back, and no night promotes it again."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import mixed_table
from quick_nights import night, record, settings
from store_samples import DECISION, Place, make_place, promoted, proving, verdict_on

from ai.ml.core.errors import UsageError
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.store.audit import audit
from ai.ml.retraining.store.store import Store
from ai.ml.retraining.store.veto import vetoes


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return make_place(request, tmp_path, monkeypatch)


def test_rolling_back_again_goes_further_back(place: Place, tmp_path: Path) -> None:
    store = place.store
    first, second, third = (promoted(store, tmp_path, seed) for seed in range(3))
    said = store.rollback("m", reason="x", prove=proving).rolled_back("m")
    assert f"{third[:12]} is @previous, and no night promotes it: `bundlegate rollback m --to {third[:12]}`" in said
    assert store.champion("m") == second
    store.rollback("m", reason="x", prove=proving)
    assert store.champion("m") == first
    with pytest.raises(UsageError, match=f"what rollbacks have left .{third[:12]}, {second[:12]}.: nothing to go back"):
        store.rollback("m", reason="x", prove=proving)
    assert list(vetoes(store.history("m"))) == [third, second]
    store.rollback("m", to=third[:12], reason="it was the data", prove=proving)
    assert list(vetoes(store.history("m"))) == [second, first], "that lifts the veto"
    store.promote("m", tmp_path / "bundle1", verdict_on(second), decision=DECISION)
    assert list(vetoes(store.history("m"))) == [first], "and so does a promotion"
    assert store.former("m") == third
    assert audit(store, "m") == []


def test_previous_is_still_what_was_just_left(place: Place, tmp_path: Path) -> None:
    store = place.store
    first, second = promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)
    store.rollback("m", reason="x", prove=proving)
    assert (store.champion("m"), store.digest_of("m", "previous")) == (first, second)
    store.rollback("m", to="previous", reason="x", prove=proving)
    assert store.champion("m") == second


def test_the_next_night_does_not_bring_it_back(tmp_path: Path) -> None:
    """The same data and settings make the same bundle, which would win again."""
    table, store = mixed_table(320), Store(tmp_path / "store")
    night(settings(tmp_path, table.slice(0, 300)))
    first = store.champion("m")
    config = settings(tmp_path, table, decision={"policy": "not-worse", "tolerance": "500%"})
    candidate, decision = night(config)
    assert decision.outcome == "PROMOTE"
    store.rollback("m", reason="complaints", prove=proving)
    again = steps.train_candidate(config, steps.read_data(config))
    assert again.bundle.digest == candidate.bundle.digest
    held = steps.decide(config, again)
    assert held.outcome == held.document["outcome"] == "HOLD"
    assert "was rolled back by" in held.reason
    assert (
        f": complaints; `bundlegate rollback m --to {candidate.bundle.digest[:12]}` or `bundlegate promote`"
        in held.reason
    )
    record(config, again, held)
    assert store.champion("m") == first
    words = ["promote", "m", "--candidate", candidate.bundle.digest, "--reason", "it was the data"]
    assert main([*words, "--store", str(store.root)]) == 0, "a person's word"
    assert store.champion("m") == candidate.bundle.digest
    assert steps.decide(config, again).outcome == "PROMOTE"
