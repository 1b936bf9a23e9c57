"""A champion out of service: nothing is live, nothing is lost, and only a person's word brings one back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import sealed_tiny
from store_samples import promoted, proving, verdict_on

from ai.ml.core.errors import BundleNotFound, Busy
from ai.ml.core.tables.reader import write_table
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.records import DecisionRecord
from ai.ml.retraining.runs.steps.decide import _hold_retired
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.audit import audit
from ai.ml.retraining.store.store import Store


def test_nothing_is_live_then_and_predict_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as pa

    store = Store(tmp_path / "store")
    digest = promoted(store, tmp_path, 1)
    place = ["--store", str(store.root)]
    assert main(["retire", "m", "--reason", "a complaint", "--dry-run", *place]) == 0
    assert f"m: {digest[:12]} would be retired" in capsys.readouterr().out
    assert store.champion("m") == digest
    assert main(["retire", "m", "--reason", "a complaint", *place]) == 0
    assert f"m: {digest[:12]} is retired, m@champion names nothing until" in capsys.readouterr().out
    assert store.champion("m") is None
    assert [(entry.action, entry.digest) for entry in store.history("m")] == [
        ("promoted", digest),
        ("retired", digest),
    ]
    assert store.history("m")[-1].body["reason"] == "a complaint"
    assert audit(store, "m") == []

    write_table(pa.table({"x": [1.0]}), tmp_path / "rows.csv")
    assert main(["predict", "m@champion", str(tmp_path / "rows.csv"), str(tmp_path / "out.csv"), *place]) == 2
    said = capsys.readouterr().err
    assert f"m@champion: {digest[:12]} was retired at " in said
    assert "`bundlegate rollback m` brings it back" in said
    assert main(["show", "m", *place]) == 2
    assert "was retired at" in capsys.readouterr().err
    assert main(["list", "--json", *place]) == 0
    model = json.loads(capsys.readouterr().out)["models"][0]
    assert (model["live"], model["problem"]) == (None, None)
    assert main(["history", "m", *place]) == 0
    assert "retired" in capsys.readouterr().out
    assert main(["retire", "m", "--reason", "again", *place]) == 2
    assert store.resolve("m@previous").name == digest, "it is there for who names it"


def test_a_rollback_or_a_promotion_by_a_person_brings_one_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    first, second = promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)
    store.retire("m", reason="a complaint")
    store.prune("m", keep=1, grace_s=0)
    place = ["--store", str(store.root)]
    assert main(["rollback", "m", "--reason", "it was none", "--dry-run", *place]) == 0
    would = f"would: m: {second[:12]} becomes the champion again, if it passes the gate here"
    assert capsys.readouterr().out.strip() == would
    back = store.rollback("m", reason="it was none", prove=proving)
    assert (back.digest, back.previous, store.champion("m")) == (second, None, second)
    store.retire("m", reason="it was one after all")
    bundle, third = sealed_tiny(tmp_path / "third", 3)
    made = store.promote("m", bundle, verdict_on(third), decision={"reason": "by a person"}, expected_champion=None)
    assert (store.champion("m"), made.previous) == (third, second)
    assert store.digest_of("m", "previous") == second
    assert audit(store, "m") == []
    with pytest.raises(BundleNotFound):
        store.resolve(f"m@{first}")


def test_who_decided_against_a_champion_that_was_retired_meanwhile_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    champion = promoted(store, tmp_path, 1)
    bundle, digest = sealed_tiny(tmp_path / "two", 2)
    store.retire("m", reason="a complaint")
    with pytest.raises(Busy, match="retired the champion at"):
        store.promote("m", bundle, verdict_on(digest), decision={}, expected_champion=champion)


def test_the_next_night_is_held(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    champion = promoted(store, tmp_path, 1)
    given = {"name": "m", "store": str(store.root), "data": {"source": "t.csv", "target": "y"}}
    config = RetrainConfig.model_validate(given)
    first = DecisionRecord(outcome="PROMOTE", reason="the first bundle of this model", champion=None, document={})
    assert _hold_retired(config, first) == first
    store.retire("m", reason="a complaint")
    held = _hold_retired(config, first)
    assert held.outcome == held.document["outcome"] == "HOLD"
    assert held.reason.startswith(f"{champion[:12]} was retired by ")
    assert ": a complaint; `bundlegate promote` or `bundlegate rollback`" in held.reason


def test_a_pruning_can_be_asked_for_without_being_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "store")
    digests = [promoted(store, tmp_path, seed) for seed in range(4)]
    asked = ["prune", "m", "--keep", "1", "--grace", "0", "--store", str(store.root)]
    assert main([*asked, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert len(store.history("m")) == 4
    would = {line.removeprefix("would remove ") for line in said.splitlines()[:-1]}
    assert main(asked) == 0
    done = {line.removeprefix("removed ") for line in capsys.readouterr().out.splitlines()[:-1]}
    assert would == done
    assert {Path(path).name for path in done} == set(digests[:2])
