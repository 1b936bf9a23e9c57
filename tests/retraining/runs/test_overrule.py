"""A person's word over a HOLD: only over a HOLD, only on what was proved, and the ledger says which."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders import sealed_tiny
from store_samples import promoted, verdict_on

from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.store.location import work_folder
from ai.ml.retraining.store.store import Store


def held(store: Store, seed: int, action: str = "held") -> tuple[Path, str]:
    """A candidate in the work folder, and the ledger's word on it."""
    bundle, digest = sealed_tiny(work_folder(store.root, "m") / f"candidate-{seed:016x}" / "bundle", seed)
    decision = {"outcome": "HOLD", "reason": "no significant gain", "challenger": {"log_loss": 0.4}}
    decision |= {"champion_digest": "f" * 64, "sketch": ["0123abcd"]}
    store.record("m", action, verdict_on(digest), note={"data": "d.csv"}, decision=decision)
    return bundle, digest


def test_a_held_candidate_becomes_the_champion_and_the_ledger_says_over_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    champion = promoted(store, tmp_path, 1)
    _, digest = held(store, 2)
    asked = ["promote", "m", "--store", str(store.root), "--reason", "the new tariff", "--candidate"]

    assert main([*asked, digest[:12], "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        f"would: m: {digest[:12]} becomes the champion in place of {champion[:12]}, over the HOLD of"
    )
    assert "line 2 (compared with ffffffffffff, which isn't the champion now): no significant gain" in said
    assert (store.champion("m"), len(store.history("m"))) == (champion, 2), "nothing was written"

    assert main([*asked, digest[:12]]) == 0
    assert store.champion("m") == digest
    body = store.history("m")[-1].body
    assert body["decision"]["reason"] == "a HOLD was overruled: the new tariff"
    assert body["decision"]["would_be"] == "no significant gain"
    assert body["decision"]["challenger"] == {"log_loss": 0.4}, "what was measured stays"
    assert "sketch" not in body["decision"], "its rows have decided once"
    assert body["note"] == {"data": "d.csv", "overruled": {"line": 2, "reason": "the new tariff"}}
    assert body["champion_before"] == champion
    assert main([*asked, digest[:12]]) == 2, "it isn't held any more"


def test_nothing_but_a_hold_can_be_overruled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "store")
    champion = promoted(store, tmp_path, 1)
    _, rejected = held(store, 2, "rejected")
    refused, digest = sealed_tiny(tmp_path / "refused", 3)
    store.quarantine("m", refused, verdict_on(digest, passed=False))
    changed, edited = held(store, 4)
    (changed / "evidence" / "rows.txt").write_text("other rows")
    gone, lost = held(store, 5)
    shutil.rmtree(gone.parent)
    asked = ["promote", "m", "--store", str(store.root), "--reason", "why", "--candidate"]
    for candidate, code, sentence in (
        (champion, 2, "it was promoted"),
        (rejected, 2, "it is below a limit of the decision"),
        (digest, 2, "the gate refused it, and nobody overrules that"),
        (edited, 6, "has changed since its verdict"),
        (lost, 2, "is no longer in"),
        ("0" * 12, 2, "no decision on a bundle 000000000000"),
        ("abc", 2, "at least 6 characters of a digest are needed"),
    ):
        assert main([*asked, candidate]) == code, candidate
        assert sentence in capsys.readouterr().err
    assert store.champion("m") == champion
