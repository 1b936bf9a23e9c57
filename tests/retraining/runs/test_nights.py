"""What a night says of the ones before: the age of the champion, the rows that decided, and runs that only ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import mixed_table
from quick_nights import night, record, settings
from store_samples import verdict_on

from ai.ml.core.errors import GateRefused, UsageError
from ai.ml.retraining.commands.store import live_facts
from ai.ml.retraining.pipeline.single import require_no_person
from ai.ml.retraining.records import FileRef, VerdictRef
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.store.store import Store

TABLE = mixed_table(350)
"""It grows from night to night."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion of 300 rows."""
    folder = tmp_path_factory.mktemp("nights")
    _, first = night(settings(folder, TABLE.slice(0, 300)))
    assert first.outcome == "PROMOTE"
    return folder


def test_an_old_champion_gives_way_to_what_is_not_worse(folder: Path) -> None:
    table = TABLE.slice(0, 320)
    young, old = (
        settings(folder, table, decision={"max_age": age, "tolerance": "500%"}) for age in ("1d", "0.0001min")
    )
    candidate = steps.train_candidate(young, steps.read_data(young))
    held, promoted = steps.decide(young, candidate), steps.decide(old, candidate)
    assert (held.document["rule"], promoted.document["rule"]) == ("better", "not-worse")
    assert "max_age" not in held.reason
    assert promoted.outcome == "PROMOTE"
    assert "the champion is 0 days old, so with max_age 0.0001min what isn't worse is enough" in promoted.reason
    assert promoted.document["reason"] == promoted.reason


def test_a_dry_run_says_what_would_be_and_leaves_the_store_as_it_is(folder: Path) -> None:
    config = settings(folder, TABLE.slice(0, 330), dry_run=True, approval={"approve": "human"})
    require_no_person(config)
    store = Store(folder / "store")
    champion, lines = store.champion("m"), len(store.history("m"))
    candidate = steps.train_candidate(config, steps.read_data(config))
    decision = steps.decide(config, candidate)
    verdict = verdict_on(candidate.bundle.digest)
    kept = folder / "verdict.json"
    kept.write_bytes(verdict.to_json())
    proof = VerdictRef(digest=verdict.digest, outcome="PASSED", reason="", file=FileRef.of(kept))
    for outcome, ends, said in (
        ("PROMOTE", "PROMOTED", f"{candidate.bundle.digest[:12]} would become the champion"),
        ("HOLD", "HELD", f"the champion {str(champion)[:12]} would stay"),
    ):
        done = steps.promote(config, candidate, proof, decision.model_copy(update={"outcome": outcome}))
        assert done.outcome == ends
        assert said in done.sentence
        assert done.sentence.endswith("(a dry run: no version, ledger line or report was written)")
    with pytest.raises(GateRefused, match="this is a dry run: the bundle stays at "):
        steps.quarantine(config, candidate, proof)
    assert Path(candidate.bundle.path).is_dir()
    assert (store.champion("m"), len(store.history("m"))) == (champion, lines)
    asked = config.model_copy(update={"dry_run": False})
    with pytest.raises(UsageError, match="--approve human asks a person through a Prefect server"):
        require_no_person(asked)


def test_it_is_said_how_often_the_same_rows_decided(folder: Path) -> None:
    store = Store(folder / "store")
    for rows, before in ((340, 0), (350, 1)):
        config = settings(folder, TABLE.slice(0, rows))
        candidate = steps.train_candidate(config, steps.read_data(config))
        decision = steps.decide(config, candidate)
        assert decision.document["decided_before"] == before
        said = "mostly the same rows decided 1 time before"
        assert (said in decision.reason) == (before == 1)
        outcome = "PROMOTE" if before else "HOLD"
        record(config, candidate, decision.model_copy(update={"outcome": outcome}))
    facts = live_facts(store, "m")
    assert facts["decided_before"] == 1
    assert facts["decided by"] == f"{decision.document['rows']} rows; {said}"
