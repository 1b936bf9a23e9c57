"""A proof that couldn't be made here and now: never a pass, and no finding about the bundle either."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from bundles import sealed
from conftest import PATIENCE_S, bundlegate
from odd_interpreters import patched, replaying, shell
from verdict_samples import passed_verdict

from ai.ml.core.bundle_dir import bundle_digest
from ai.ml.core.environment_faults import is_environment_fault
from ai.ml.core.errors import BundleRefused, ExitCode, NothingChecked, StorageFailed, Unproved
from ai.ml.retraining.gate.environments import EnvironmentSpec, JobRequest, current_environment, run_jobs
from ai.ml.retraining.gate.proof import finding_of, prove
from ai.ml.retraining.records import BundleRef, CandidateRef, FileRef, VerdictRef, problems
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.inconclusive import FILE
from ai.ml.retraining.runs.work_folder import work_dir
from ai.ml.retraining.selftest.run import selftest
from ai.ml.retraining.settings.gate import GatePolicy, GateSettings
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig
from ai.ml.retraining.store.store import Store

pytestmark = pytest.mark.usefixtures("warm_processes")

TOO_SHORT = 0.05
"""Seconds in which no process answers: Python itself takes longer to start than torch takes to be found."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("whole") / "bundle")


def interpreter(folder: Path, when_scaling: str) -> str:
    """An interpreter in which something happens in the middle of each replay, once it has begun with the bundle."""
    patch = (
        "import errno\nfrom ai.ml.frameworks.pytorch.inference.scorer import Scorer\n"
        "errors = [MemoryError('no more'), OSError(errno.ENOSPC, 'No space left on device'), ValueError('odd')]\n"
        f"def scaled(self, matrix):\n    {when_scaling}\n"
        "Scorer.scaled = scaled"
    )
    return patched(folder, patch)


# ---- whose doing it is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "fault", "said"),
    [
        ("exec sleep 60", "machine", "no answer within 0.5 s, before it had looked at the bundle"),
        ("kill -KILL $$", "machine", "was killed by SIGKILL, before"),
        ("kill -TERM $$", "machine", "was killed by SIGTERM"),
        ("sh -c 'kill -KILL $$'; exit $?", "machine", "was killed by SIGKILL"),
        ("kill -SEGV $$", "installation", "exit status -11"),
        ("echo no torch here >&2; exit 1", "installation", "exit status 1: no torch here, before"),
    ],
)
def test_a_process_that_never_began_says_nothing_of_the_bundle(
    tmp_path: Path, line: str, fault: str, said: str
) -> None:
    spec, desk = shell(tmp_path, line), tmp_path / "desk"
    (outcome,) = run_jobs(spec, [JobRequest(tmp_path, ())], desk, 0.5 if "sleep" in line else 60)
    assert (outcome.report, outcome.fault) == (None, fault)
    assert said in outcome.failure


@pytest.mark.parametrize(
    ("line", "fault"),
    [("kill -SEGV $$", "bundle"), ("kill -ABRT $$", "bundle"), ("exit 3", "bundle"), ("kill -KILL $$", "machine")],
)
def test_a_process_that_had_begun_and_fell_is_the_bundles_doing(tmp_path: Path, line: str, fault: str) -> None:
    desk = tmp_path / "desk"
    spec = shell(tmp_path, f"mkdir -p {desk}/job0; printf replay > {desk}/job0/step; {line}")
    (outcome,) = run_jobs(spec, [JobRequest(tmp_path, ())], desk, 60)
    assert outcome.fault == fault
    assert outcome.failure.endswith("in the step `replay`")


@pytest.mark.parametrize(
    ("error", "machines"),
    [
        (MemoryError(), True),
        (OSError(28, "No space left on device"), True),
        (StorageFailed("the disk is full"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (FileNotFoundError(2, "gone"), False),
        (PermissionError(13, "not yours"), False),
        (ValueError("a wrong shape"), False),
    ],
)
def test_what_tells_of_the_machine(error: Exception, machines: bool) -> None:
    assert is_environment_fault(error) is machines
    wrapped = ValueError("the bundle can't be read")
    wrapped.__context__ = error
    assert is_environment_fault(wrapped) is machines


def test_what_a_replay_raises_for_want_of_memory_or_room_is_no_finding(whole: Path, tmp_path: Path) -> None:
    spec = EnvironmentSpec("odd", interpreter(tmp_path, "raise errors.pop(0)"))
    memory, room, bundle = run_jobs(spec, [JobRequest(whole, ("replay",))] * 3, tmp_path / "desk", 300)
    assert (memory.report, memory.fault) == (room.report, room.fault) == (None, "machine")
    assert memory.failure == "replay stopped with MemoryError: no more"
    assert "No space left on device" in room.failure
    assert (bundle.report is not None, bundle.fault) == (True, None)


# ---- the gate --------------------------------------------------------------------------------------------------------


def test_a_refusal_stands_whatever_was_starved_beside_it(whole: Path, tmp_path: Path) -> None:
    for name in ("starved", "other"):
        (tmp_path / name).mkdir()
    starved, other = replaying(tmp_path / "starved", "kill -KILL $$"), interpreter(tmp_path / "other", "return matrix")
    with pytest.raises(Unproved, match="killed by SIGKILL") as unproved:
        prove(whole, GatePolicy(pythons=(starved,)))
    assert unproved.value.exit_code == ExitCode.BUSY
    verdict = prove(whole, GatePolicy(pythons=(starved, other)))
    assert verdict.outcome == "REFUSED"
    assert [check.environment for check in verdict.failures] == [f"python:{other}"]
    (idle,) = [check for check in verdict.checks if not check.applies]
    assert "SIGKILL" in idle.message


@pytest.mark.usefixtures("cold_processes")
def test_out_of_time_is_75_for_verify_and_selftest(whole: Path) -> None:
    with pytest.raises(Unproved, match="no answer within"):
        selftest(whole, timeout_s=TOO_SHORT)
    command = [bundlegate(), "verify", str(whole), "--gate-timeout", str(TOO_SHORT), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout) == (ExitCode.BUSY, ""), done.stderr
    assert "nothing was proved in current: the replay process gave no answer within" in done.stderr
    for odd in ("0", "-1", "nan", "soon"):
        wrong = subprocess.run(
            [*command[:3], "--gate-timeout", odd], capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert wrong.returncode == ExitCode.USAGE, odd


# ---- what it leaves --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cold_processes")
def test_a_rollback_out_of_time_moves_nothing_and_quarantines_nothing(whole: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first, second = whole, sealed(tmp_path / "second", training_mode="tabresnet")
    for bundle in (first, second):
        store.promote("m", bundle, passed_verdict(bundle_digest(bundle)), decision={"reason": "better"})
    command = [bundlegate(), "rollback", "m", "--store", str(store.root), "--reason", "complaints"]
    done = subprocess.run(
        [*command, "--gate-timeout", str(TOO_SHORT)], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == ExitCode.BUSY, done.stderr
    assert store.champion("m") == bundle_digest(second)
    assert [entry.action for entry in store.history("m")] == ["promoted", "promoted"]
    assert store.backend("m").names("quarantine") == []


@pytest.mark.slow(5)
@pytest.mark.usefixtures("cold_processes")
def test_the_candidate_stays_and_the_third_run_without_a_proof_asks_for_a_person(whole: Path, tmp_path: Path) -> None:
    data = DataSettings(source="table.csv", target="y")
    starved = RetrainConfig(
        name="m", store=str(tmp_path / "store"), data=data, gate=GateSettings(timeout_seconds=TOO_SHORT)
    )
    bundle = work_dir(starved) / "candidate-0" / "bundle"
    shutil.copytree(whole, bundle)
    some = FileRef.of(bundle / "manifest.json")
    made = BundleRef(path=str(bundle), digest=bundle_digest(bundle))
    candidate = CandidateRef(bundle=made, holdout=some, history=some, metrics={}, findings=())
    for _ in range(2):
        with pytest.raises(Unproved, match="the next run on the same table only proves it"):
            steps.prove_candidate(starved, candidate)
    with pytest.raises(NothingChecked, match="no proof in 3 runs in a row, since 20"):
        steps.prove_candidate(starved, candidate)
    assert problems(candidate) == []
    assert Store(starved.store).history("m") == []
    assert not [*Path(starved.store).rglob("quarantine")]
    rested = starved.model_copy(update={"gate": GateSettings()})
    assert steps.prove_candidate(rested, candidate).outcome == "PASSED"
    assert not (work_dir(starved) / FILE).exists(), "the count begins anew"


def test_what_was_proved_is_what_is_decided_and_promoted(whole: Path, tmp_path: Path) -> None:
    """Between the steps somebody puts another verdict in the place of the one that was given, or other rows."""
    config = RetrainConfig(name="m", store=str(tmp_path / "store"), data=DataSettings(source="table.csv", target="y"))
    rows = tmp_path / "holdout.parquet"
    rows.write_bytes((whole / "evidence" / "probes.parquet").read_bytes())
    made = BundleRef(path=str(whole), digest=bundle_digest(whole))
    candidate = CandidateRef(bundle=made, holdout=FileRef.of(rows), history=FileRef.of(rows), metrics={}, findings=())
    file = tmp_path / "verdict.json"
    file.write_bytes(passed_verdict(made.digest).to_json())
    verdict = VerdictRef(digest=made.digest, outcome="PASSED", reason="", file=FileRef.of(file))
    decision = steps.decide(config, candidate)
    assert decision.outcome == "PROMOTE"
    file.write_bytes(passed_verdict(made.digest).to_json() + b" ")
    with pytest.raises(BundleRefused, match="isn't the verdict of this run"):
        steps.promote(config, candidate, verdict, decision)
    rows.write_bytes(rows.read_bytes() + b" ")
    with pytest.raises(BundleRefused, match="isn't there as it was made"):
        steps.decide(config, candidate)
    assert Store(config.store).history("m") == []


def test_a_directory_that_is_exchanged_while_it_is_proved_is_refused(whole: Path, tmp_path: Path) -> None:
    (outcome,) = run_jobs(current_environment(), [JobRequest(whole, ("structure",))], tmp_path / "desk", 300)
    assert finding_of("current", outcome, bundle_digest(whole)).report is not None
    finding = finding_of("current", outcome, "0" * 64)
    assert (finding.report, finding.inconclusive) == (None, False)
    assert f"found bundle {bundle_digest(whole)[:12]}" in finding.trouble
