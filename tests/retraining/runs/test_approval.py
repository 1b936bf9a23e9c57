"""What waits for a person's word, without a server: kept apart, bound to digest and champion, looked at again."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from builders import sealed_tiny
from prefect.settings import PREFECT_API_URL, temporary_settings
from store_samples import promoted, verdict_on

from ai.ml.core.errors import BundleNotFound, BundleRefused, Busy, ExitCode, UsageError
from ai.ml.core.files.atomic import write_atomic
from ai.ml.retraining.commands.store import history
from ai.ml.retraining.records import Approval, BundleRef, CandidateRef, DataRef, DecisionRecord, FileRef, VerdictRef
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs import work_folder
from ai.ml.retraining.runs.approval import (
    ApprovalRequest,
    Proposal,
    create_request,
    declined,
    load_request,
    mark_answered,
    needs_person,
    verify_request,
)
from ai.ml.retraining.runs.work_folder import work_dir
from ai.ml.retraining.settings.retrain import ApprovalSettings, DataSettings, RetrainConfig
from ai.ml.retraining.store.store import Store
from flows.retrain import retrain
from tasks.approval.ask import ApprovalForm, RetrainingRun, _answer

YES = Approval(approved=True, approver="Ann", reason="seen the report")
NO = Approval(approved=False, approver="Bob", reason="not before the holidays")


@pytest.fixture
def config(tmp_path: Path) -> RetrainConfig:
    data = DataSettings(source=str(tmp_path / "table.csv"), target="y")
    settings = ApprovalSettings(approve="human")
    return RetrainConfig(name="m", store=str(tmp_path / "store"), data=data, approval=settings)


def drafted(config: RetrainConfig, seed: int = 0, champion: str | None = None) -> Proposal:
    """A candidate in the work folder as a run leaves it, with a passing verdict."""
    work = work_dir(config)
    bundle, digest = sealed_tiny(work / f"candidate-{seed}" / "bundle", seed)
    file = bundle.parent / "holdout.parquet"
    for name in ("holdout.parquet", "history.json"):
        (bundle.parent / name).write_bytes(b"rows")
    write_atomic(work / f"verdict-{seed}.json", verdict_on(digest).to_json())
    reference = FileRef.of(file)
    return Proposal(
        data=DataRef(file=reference, source="table.csv", rows=1, columns=("y",), fingerprint="f"),
        drift=None,
        candidate=CandidateRef(
            bundle=BundleRef(path=str(bundle), digest=digest),
            holdout=reference,
            history=FileRef.of(bundle.parent / "history.json"),
            metrics={"accuracy": 1.0},
            findings=(),
        ),
        verdict=VerdictRef(
            digest=digest, outcome="PASSED", reason="all", file=FileRef.of(work / f"verdict-{seed}.json")
        ),
        decision=DecisionRecord(
            outcome="PROMOTE", reason="better", champion=champion, document={"outcome": "PROMOTE", "reason": "better"}
        ),
    )


def filed(config: RetrainConfig, run: str = "run", **made: object) -> ApprovalRequest:
    return create_request(config, run, drafted(config, **made), 3600)  # pyright: ignore[reportArgumentType]


def test_it_outlives_the_runs_that_prune_candidates(config: RetrainConfig) -> None:
    request = filed(config)
    shutil.rmtree(work_dir(config) / "candidate-0")
    (work_dir(config) / "verdict-0.json").unlink()
    again = load_request(config, "run", {request.key})
    assert again == request
    assert Path(again.draft.candidate.bundle.path).is_dir()


def test_what_waits_is_never_pruned_and_what_is_over_goes(config: RetrainConfig) -> None:
    waiting = filed(config, "waiting")
    for run in range(6):
        filed(config, f"answered{run}")
        mark_answered(config, f"answered{run}", YES)
    late = create_request(config, "late", drafted(config), -1)
    assert late.expired
    filed(config, "last")
    kept = {folder.name for folder in work_dir(config).glob("awaiting-*")}
    assert {"awaiting-waiting", "awaiting-last"} <= kept
    assert len(kept) == 2 + work_folder.KEEP_RUNS
    assert load_request(config, "waiting", {waiting.key}) == waiting


@pytest.mark.parametrize("file", ["bundle/model_bundle.pt", "bundle/manifest.json", "verdict.json", "holdout.parquet"])
@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_changed_or_lost_bytes_are_refused(config: RetrainConfig, file: str, harm: str) -> None:
    request = filed(config)
    path = work_dir(config) / "awaiting-run" / file
    if harm == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleRefused, match="nothing is promoted") as raised:
        load_request(config, "run", {request.key})
    assert raised.value.exit_code == ExitCode.INTEGRITY


def test_a_request_that_is_gone_or_forged_is_refused(config: RetrainConfig) -> None:
    request = filed(config)
    with pytest.raises(BundleNotFound, match="is gone from"):
        load_request(config, "another", {request.key})
    with pytest.raises(BundleRefused, match="isn't what this run asked"):
        load_request(config, "run", {request.key[:-1]})

    other = filed(config, "other", seed=1)
    file = work_dir(config) / "awaiting-run" / "request.json"
    # Another candidate under the key that the approval was given for.
    file.write_text(other.model_copy(update={"key": request.key}).model_dump_json())
    with pytest.raises(BundleRefused, match="isn't what this run asked"):
        load_request(config, "run", {request.key})
    file.write_text("{")
    with pytest.raises(BundleRefused, match="can't be read"):
        load_request(config, "run", {request.key})


def test_another_champion_since_makes_it_outdated(config: RetrainConfig, tmp_path: Path) -> None:
    request = filed(config)
    verify_request(config, request)
    digest = promoted(Store(config.store), tmp_path, seed=9)
    with pytest.raises(Busy, match=rf"is outdated: the champion was none then and is {digest[:12]} now") as raised:
        load_request(config, "run", {request.key})
    assert raised.value.exit_code == ExitCode.BUSY


def test_two_questions_never_share_a_key(config: RetrainConfig) -> None:
    assert filed(config, "one").key != filed(config, "two").key


def test_a_person_is_asked_only_where_the_champion_would_be_replaced(config: RetrainConfig) -> None:
    draft = drafted(config)
    assert needs_person(config, draft)
    held = draft.model_copy(update={"decision": draft.decision.model_copy(update={"outcome": "HOLD"})})
    assert not needs_person(config, held)
    already = drafted(config, champion=draft.candidate.bundle.digest)
    assert not needs_person(config, already)
    assert not needs_person(config.model_copy(update={"approval": ApprovalSettings()}), draft)


def test_the_ledger_keeps_who_said_what(config: RetrainConfig, capsys: pytest.CaptureFixture[str]) -> None:
    draft = filed(config).draft
    refused = declined(draft.decision, NO)
    held = steps.promote(config, draft.candidate, draft.verdict, refused, approval=NO, flow_run_id="run")
    assert (held.outcome, Store(config.store).champion("m")) == ("HELD", None)
    done = steps.promote(config, draft.candidate, draft.verdict, draft.decision, approval=YES, flow_run_id="run")
    assert done.outcome == "PROMOTED"
    entries = Store(config.store).history("m")
    assert [entry.body["note"]["approval"] for entry in entries] == [NO.model_dump(), YES.model_dump()]
    assert entries[0].body["decision"]["would_be"] == "better"
    assert history(Namespace(store=config.store, name="m", json=False)) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "declined by Bob" in told
    assert history(Namespace(store=config.store, name="m", json=True)) == 0
    assert json.loads(capsys.readouterr().out)[1]["note"]["approval"]["approver"] == "Ann"


def test_without_a_server_that_people_reach_nothing_begins(config: RetrainConfig) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(UsageError, match="PREFECT_API_URL"):
        retrain.fn(config)
    assert not Path(config.store).exists()


def test_outside_a_run_nothing_gets_by_unasked(config: RetrainConfig) -> None:
    draft = drafted(config)
    with pytest.raises(UsageError, match="nothing is promoted"):
        RetrainingRun(config).ask(draft)
    free = config.model_copy(update={"approval": ApprovalSettings()})
    assert RetrainingRun(free).ask(draft) == (draft, None)


def test_what_an_approver_types_cant_steer_a_terminal(config: RetrainConfig) -> None:
    typed = ApprovalForm(approve=True, approver="Ann\x1b[2J\nroot", reason="fine\t\x07 indeed")
    given = _answer(lambda: typed)
    assert (given.approver, given.reason) == ("Ann [2J root", "fine indeed")


def test_the_time_to_answer_is_written_with_the_request(config: RetrainConfig) -> None:
    request = filed(config)
    left = datetime.fromisoformat(request.until) - datetime.now(UTC)
    assert timedelta(minutes=50) < left <= timedelta(hours=1)
