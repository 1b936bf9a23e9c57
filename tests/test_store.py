"""The store: promotion needs a verdict, happens once, survives kills, and every decision can be read and audited."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import tiny_bundle

from ai.ml.core.errors import BundleNotFound, BundleRefused, Busy, GateRefused, StoreRefused, UsageError
from ai.ml.core.manifest import write_manifest
from ai.ml.frameworks.pytorch.serialization import save_bundle
from ai.ml.retraining.ledger import Ledger
from ai.ml.retraining.store import Store
from ai.ml.retraining.verdict import CheckResult, Environment, Verdict

DECISION = {"reason": "better"}


def sealed(folder: Path, seed: int = 0) -> tuple[Path, str]:
    """A bundle directory with a manifest, and its digest."""
    save_bundle(tiny_bundle(seed=seed), folder)
    digest = write_manifest(folder, model={}, scoring={}, contract=None, evidence=None, lineage={"seed": seed})
    return folder, digest


def verdict_on(digest: str, *, passed: bool = True) -> Verdict:
    names = ("integrity", "replay", "invariance", "fixpoint")
    checks = tuple(CheckResult(name, "current", passed, {"rows": 5}, f"{name} was checked") for name in names)
    return Verdict(1, digest, {}, (Environment("current"),), checks)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", lock_timeout_s=5)


def promoted(store: Store, folder: Path, seed: int) -> str:
    bundle, digest = sealed(folder / f"bundle{seed}", seed)
    store.promote("m", bundle, verdict_on(digest), decision=DECISION)
    return digest


def test_aliases_follow_the_promotions(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="nothing was promoted"):
        store.resolve("m@champion")
    first, second = promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)
    assert store.resolve("m@champion").name == second
    assert store.resolve("m@previous").name == first
    assert store.resolve(f"m@{first[:8]}").name == first
    with pytest.raises(UsageError, match="at least 6 characters"):
        store.resolve("m@abc")


def test_promotion_takes_a_passing_verdict_on_this_very_bundle(store: Store, tmp_path: Path) -> None:
    bundle, digest = sealed(tmp_path / "b")
    with pytest.raises(GateRefused, match="REFUSED"):
        store.promote("m", bundle, verdict_on(digest, passed=False), decision=DECISION)
    with pytest.raises(GateRefused, match="NOTHING_CHECKED"):
        store.promote("m", bundle, Verdict(1, digest, {}, (), ()), decision=DECISION)
    with pytest.raises(GateRefused, match="the verdict is about"):
        store.promote("m", bundle, verdict_on("0" * 64), decision=DECISION)
    file = bundle / "model_bundle.pt"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BundleRefused, match="changed since its verdict"):
        store.promote("m", bundle, verdict_on(digest), decision=DECISION)
    assert store.champion("m") is None
    assert store.history("m") == []


def test_promoting_twice_is_one_decision_and_one_version(store: Store, tmp_path: Path) -> None:
    bundle, digest = sealed(tmp_path / "b")
    first = store.promote("m", bundle, verdict_on(digest), decision=DECISION)
    second = store.promote("m", bundle, verdict_on(digest), decision=DECISION)
    assert (first.already, second.already) == (False, True)
    assert len(store.history("m")) == 1
    assert [path.name for path in store.versions("m").iterdir()] == [digest]


def test_a_decision_against_another_champion_is_busy_and_says_who_won(store: Store, tmp_path: Path) -> None:
    first = promoted(store, tmp_path, 1)
    promoted(store, tmp_path, 2)
    bundle, digest = sealed(tmp_path / "late", 3)
    with pytest.raises(Busy, match="decide again"):
        store.promote("m", bundle, verdict_on(digest), decision=DECISION, expected_champion=first)


def test_a_refused_bundle_is_kept_apart_with_its_verdict(store: Store, tmp_path: Path) -> None:
    bundle, digest = sealed(tmp_path / "b")
    place = store.quarantine("m", bundle, verdict_on(digest, passed=False))
    store.quarantine("m", bundle, verdict_on(digest, passed=False))
    assert json.loads((place / "verdict.json").read_bytes())["outcome"] == "REFUSED"
    assert [entry.body["action"] for entry in store.history("m")] == ["refused"]
    assert store.champion("m") is None


def test_rollback_proves_first(store: Store, tmp_path: Path) -> None:
    first, second = promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)
    with pytest.raises(GateRefused):
        store.rollback("m", reason="x", prove=lambda path: verdict_on(path.name, passed=False))
    assert store.champion("m") == second
    store.rollback("m", reason="x", prove=lambda path: verdict_on(path.name))
    assert store.champion("m") == first
    with pytest.raises(UsageError, match="is the champion already"):
        store.rollback("m", to=first, reason="x", prove=lambda path: verdict_on(path.name))
    assert store.audit("m") == []


def test_a_record_can_not_move_the_champion(store: Store) -> None:
    with pytest.raises(StoreRefused, match="use promote or rollback"):
        store.record("m", "promoted", "0" * 64)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "-x", "x" * 65, "é"])
def test_names_that_are_no_names(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="model name"):
        store.champion(name)


def test_killed_between_ledger_and_pointer_the_next_writer_goes_on(store: Store, tmp_path: Path) -> None:
    first = promoted(store, tmp_path, 1)
    pointer = (store.folder("m") / "champion").read_bytes()
    second = promoted(store, tmp_path, 2)
    (store.folder("m") / "champion").write_bytes(pointer)
    assert store.champion("m") == first, "a reader sees the old champion"
    assert any("older than the ledger" in problem for problem in store.audit("m"))
    store.record("m", "held", "0" * 64)
    assert store.champion("m") == second
    assert store.audit("m") == []


def test_a_torn_last_line_is_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({"action": "held"})
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"action": "promo')
    assert len(ledger.entries()) == 1
    assert any("behind its last whole line" in problem for problem in ledger.problems())
    ledger.append({"action": "rejected"})
    assert ledger.problems() == []
    assert [entry.body["action"] for entry in ledger.entries()] == ["held", "rejected"]


def test_a_line_lost_to_a_power_cut_reads_as_zeros_and_is_cut_off(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({"action": "held"})
    with ledger.path.open("ab") as stream:
        stream.write(bytes(40) + b"}\n")
    ledger.append({"action": "rejected"})
    assert [entry.body["action"] for entry in ledger.entries()] == ["held", "rejected"]
    assert ledger.problems() == []


@pytest.mark.parametrize("damaged_line", [0, 1, 2])
def test_a_damaged_line_stops_every_writer_and_loses_no_other(store: Store, tmp_path: Path, damaged_line: int) -> None:
    digests = [promoted(store, tmp_path, seed) for seed in range(3)]
    path = store.folder("m") / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[damaged_line] = b"~" + lines[damaged_line][1:]
    path.write_bytes(damaged := b"".join(lines))
    bundle, digest = sealed(tmp_path / "another", 9)
    for write in (
        lambda: store.promote("m", bundle, verdict_on(digest), decision=DECISION),
        lambda: store.promote("m", tmp_path / "bundle2", verdict_on(digests[2]), decision=DECISION),
        lambda: store.record("m", "held", digest),
        lambda: store.prune("m", 1),
    ):
        with pytest.raises(StoreRefused, match=f"line {damaged_line + 1} is damaged, {2 - damaged_line} lines"):
            write()
    assert path.read_bytes() == damaged
    assert store.champion("m") == digests[2]
    assert any("behind its last whole line" in problem for problem in store.audit("m"))
    shown = subprocess.run(
        [str(Path(sys.executable).with_name("bundlegate")), "show", "m", "--store", str(store.root)],
        capture_output=True,
        text=True,
    )
    assert (shown.returncode, shown.stdout) == (6, ""), shown.stderr
    assert f"no line of the ledger made {digests[2][:12]} the champion" in shown.stderr
    told = subprocess.run(
        [str(Path(sys.executable).with_name("bundlegate")), "history", "m", "--json", "--store", str(store.root)],
        capture_output=True,
        text=True,
    )
    assert told.returncode == 6, told.stderr
    assert len(json.loads(told.stdout or "[]")) == damaged_line
    lines[damaged_line] = b"{" + lines[damaged_line][1:]
    path.write_bytes(b"".join(lines))
    assert store.audit("m") == []


FULL_DISK = """
import resource, sys
from pathlib import Path
from ai.ml.core.errors import StorageFailed
from ai.ml.retraining.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
size = ledger.path.stat().st_size if ledger.path.exists() else 0
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, size + 30))
try:
    ledger.append({"action": "promoted", "digest": "0" * 64})
except StorageFailed as failure:
    print(failure)
"""


@pytest.mark.parametrize("lines", [0, 2])
def test_a_disk_that_takes_half_a_line_leaves_the_ledger_as_it_was(tmp_path: Path, lines: int) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for _ in range(lines):
        ledger.append({"action": "held"})
    before = ledger.path.read_bytes() if lines else None
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(ledger.path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the decision isn't recorded and has no effect" in done.stdout
    assert (ledger.path.read_bytes() if ledger.path.exists() else None) == before
    ledger.append({"action": "rejected"})
    assert len(ledger.entries()) == lines + 1


def test_a_pointer_moved_by_hand_is_said_by_whoever_needs_its_line(store: Store, tmp_path: Path) -> None:
    promoted(store, tmp_path, 1)
    bundle, digest = sealed(tmp_path / "unproved", 7)
    pointer = store.folder("m") / "champion"
    pointer.write_text(json.dumps({**json.loads(pointer.read_bytes()), "digest": digest}))
    with pytest.raises(StoreRefused, match="no line of the ledger made"):
        store.promote("m", bundle, verdict_on(digest), decision=DECISION)
    assert any("moved by hand" in problem for problem in store.audit("m"))


def test_an_edited_removed_or_added_line_shows(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for index in range(4):
        ledger.append({"action": "held", "index": index})
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    for damaged in (
        [lines[0].replace(b"held", b"gone"), *lines[1:]],
        [lines[0], *lines[2:]],
        [lines[0], lines[0], *lines[1:]],
        [lines[1], lines[0], *lines[2:]],
    ):
        ledger.path.write_bytes(b"".join(damaged))
        assert ledger.problems()


def test_a_damaged_pointer_is_said(store: Store, tmp_path: Path) -> None:
    promoted(store, tmp_path, 1)
    (store.folder("m") / "champion").write_text("{}")
    with pytest.raises(StoreRefused, match="bundlegate audit m"):
        store.resolve("m@champion")


PROMOTER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_store import verdict_on
from ai.ml.core.manifest import bundle_digest
from ai.ml.retraining.store import Store
root, bundle = Path(sys.argv[1]), Path(sys.argv[2])
store = Store(root)
digest = bundle_digest(bundle)
print("ready", flush=True)
for _ in range(int(sys.argv[3])):
    sys.stdin.readline()
    store.promote("m", bundle, verdict_on(digest), decision={{"reason": "race"}})
    print("done", flush=True)
"""


@pytest.mark.slow
def test_two_promoters_at_once_make_one_linear_history(tmp_path: Path) -> None:
    rounds = 50
    script = tmp_path / "promoter.py"
    script.write_text(PROMOTER.format(tests=str(Path(__file__).parent)))
    root = tmp_path / "store"
    racers = []
    for seed in (1, 2):
        bundle, _ = sealed(tmp_path / f"b{seed}", seed)
        command = [sys.executable, str(script), str(root), str(bundle), str(rounds)]
        racers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for _ in range(rounds):
        for racer in racers:
            racer.stdin.write("\n")
            racer.stdin.flush()
        for racer in racers:
            assert racer.stdout.readline() == "done\n"
    for racer in racers:
        racer.stdin.close()
        assert racer.wait(30) == 0
        racer.stdout.close()
    store = Store(root)
    entries = store.history("m")
    assert store.audit("m") == []
    assert len(entries) > 10, "the two never took turns"
    for before, after in itertools.pairwise(entries):
        assert after.body["champion_before"] == before.body["digest"], "a decision was lost"


@pytest.mark.slow
def test_killed_at_random_moments_readers_never_fail_and_the_next_run_recovers(tmp_path: Path) -> None:
    script = tmp_path / "promoter.py"
    script.write_text(PROMOTER.format(tests=str(Path(__file__).parent)))
    root = tmp_path / "store"
    store = Store(root)
    bundles = [sealed(tmp_path / f"b{seed}", seed) for seed in range(2)]
    store.promote("m", bundles[0][0], verdict_on(bundles[0][1]), decision=DECISION)
    known = {digest for _, digest in bundles}
    for attempt in range(25):
        command = [sys.executable, str(script), str(root), str(bundles[attempt % 2][0]), "1000"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n" * 500)
        process.stdin.flush()
        deadline = time.monotonic() + 0.004 * (attempt % 7)
        while time.monotonic() < deadline:
            assert store.resolve("m@champion").name in known
        os.kill(process.pid, signal.SIGKILL)
        process.stdin.close()
        process.stdout.close()
        process.wait()
        assert store.resolve("m@champion").name in known
    store.record("m", "held", "0" * 64)
    assert store.audit("m") == []
    assert not list(store.versions("m").glob(".*"))
