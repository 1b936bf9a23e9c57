"""The store in a folder: its names, its ledger file and its lock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from builders import sealed_tiny
from conftest import bundlegate
from store_samples import DECISION, promoted, proving, verdict_on

from ai.ml.core.errors import Busy, StoreRefused, UsageError
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.store.audit import audit
from ai.ml.retraining.store.ledger import Ledger, next_entry
from ai.ml.retraining.store.store import Store

pytestmark = pytest.mark.usefixtures("warm_processes")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", lock_timeout_s=5)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "-x", "x" * 65, "é"])
def test_names_that_are_no_names(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="model name"):
        store.champion(name)


def append(ledger: Ledger, body: dict[str, str]) -> None:
    """One line, as the store writes it."""
    snapshot = ledger.read()
    ledger.write(snapshot, next_entry(snapshot.entries, body)[1])


def test_a_torn_last_line_is_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    append(ledger, {"action": "held"})
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"action": "promo')
    assert len(ledger.read().entries) == 1
    assert any("behind its last whole line" in problem for problem in ledger.read().problems())
    append(ledger, {"action": "rejected"})
    assert ledger.read().problems() == []
    assert [entry.body["action"] for entry in ledger.read().entries] == ["held", "rejected"]


def test_a_line_lost_to_a_power_cut_reads_as_zeros_and_is_cut_off(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    append(ledger, {"action": "held"})
    with ledger.path.open("ab") as stream:
        stream.write(bytes(40) + b"}\n")
    append(ledger, {"action": "rejected"})
    assert [entry.body["action"] for entry in ledger.read().entries] == ["held", "rejected"]
    assert ledger.read().problems() == []


@pytest.mark.parametrize("damaged_line", [0, 1, 2])
def test_a_damaged_line_stops_every_writer_and_loses_no_other(store: Store, tmp_path: Path, damaged_line: int) -> None:
    digests = [promoted(store, tmp_path, seed) for seed in range(3)]
    path = store.folder("m") / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[damaged_line] = b"~" + lines[damaged_line][1:]
    path.write_bytes(damaged := b"".join(lines))
    bundle, digest = sealed_tiny(tmp_path / "another", 9)
    for write in (
        lambda: store.promote("m", bundle, verdict_on(digest), decision=DECISION),
        lambda: store.promote("m", tmp_path / "bundle2", verdict_on(digests[2]), decision=DECISION),
        lambda: store.record("m", "held", verdict_on(digest)),
        lambda: store.prune("m", 1),
    ):
        with pytest.raises(StoreRefused, match=f"line {damaged_line + 1} is damaged, {2 - damaged_line} lines"):
            write()
    assert path.read_bytes() == damaged
    with pytest.raises(StoreRefused, match=f"line {damaged_line + 1} is damaged"):
        store.champion("m")
    assert any("behind its last whole line" in problem for problem in audit(store, "m"))
    for command in (["show", "m"], ["history", "m", "--json"]):
        told = subprocess.run(
            [bundlegate(), *command, "--store", str(store.root)],
            capture_output=True,
            text=True,
        )
        assert (told.returncode, told.stdout) == (6, ""), told.stderr
        assert f"line {damaged_line + 1} is damaged, {2 - damaged_line} lines are behind it" in told.stderr
    lines[damaged_line] = b"{" + lines[damaged_line][1:]
    path.write_bytes(b"".join(lines))
    assert audit(store, "m") == []
    assert store.champion("m") == digests[2]


FULL_DISK = """
import resource, sys
from pathlib import Path
from ai.ml.core.errors import StorageFailed
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.store.ledger import Ledger, next_entry
ledger = Ledger(Path(sys.argv[1]))
size = ledger.path.stat().st_size if ledger.path.exists() else 0
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, size + 30))
try:
    snapshot = ledger.read()
    ledger.write(snapshot, next_entry(snapshot.entries, {"action": "promoted", "digest": "0" * 64})[1])
except StorageFailed as failure:
    print(failure)
"""


@pytest.mark.parametrize("lines", [0, 2])
def test_a_disk_that_takes_half_a_line_leaves_the_ledger_as_it_was(tmp_path: Path, lines: int) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for _ in range(lines):
        append(ledger, {"action": "held"})
    before = ledger.path.read_bytes() if lines else None
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(ledger.path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the decision isn't recorded and has no effect" in done.stdout
    assert (ledger.path.read_bytes() if ledger.path.exists() else None) == before
    append(ledger, {"action": "rejected"})
    assert len(ledger.read().entries) == lines + 1


HOLDER = """
import sys, time
from pathlib import Path
from ai.ml.retraining.store.store import Store
with Store(Path(sys.argv[1])).backend("m").writing():
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.usefixtures("cold_processes")
def test_a_waiting_writer_is_told_whose_lock_it_is_and_a_dead_owners_lock_is_taken_over(tmp_path: Path) -> None:
    bundle, digest = sealed_tiny(tmp_path / "b", 1)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(Busy, match=rf"m: process {holder.pid} of \S+@\S+ has held the store's lock for 0.2 s"):
            Store(tmp_path / "store", lock_timeout_s=0.2).promote("m", bundle, verdict_on(digest), decision=DECISION)
        assert Store(tmp_path / "store").champion("m") is None, "a reader waits for nobody"
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    store = Store(tmp_path / "store", lock_timeout_s=0.2)
    store.promote("m", bundle, verdict_on(digest), decision=DECISION)
    assert store.champion("m") == digest


def test_what_killed_writers_left_is_swept(store: Store, tmp_path: Path) -> None:
    digest = promoted(store, tmp_path, 1)
    folder = store.folder("m")
    (folder / "versions" / f".{digest}.12ab.copy" / "evidence").mkdir(parents=True)
    (folder / "quarantine" / f".{digest}.12ab.gone").mkdir(parents=True)
    (folder / ".champion.999999999.0123456789abcdef.tmp").write_bytes(b"")
    promoted(store, tmp_path, 2)
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"]


def test_a_reader_with_the_pointer_in_hand_finds_the_new_champion_after_a_prune(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(store, tmp_path, 1)
    look = Store.digest_of

    def slowly(self: Store, name: str, alias: str) -> str:
        digest = look(self, name, alias)
        monkeypatch.setattr(Store, "digest_of", look)
        for seed in (2, 3, 4):
            promoted(store, tmp_path, seed)
        store.prune("m", 1, grace_s=0)
        return digest

    monkeypatch.setattr(Store, "digest_of", slowly)
    assert store.resolve("m@champion").name == store.champion("m")


def test_a_reason_that_looks_like_markup_is_shown_as_it_is(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)
    store.rollback("m", reason="[/red] [bold]", prove=proving)
    for command in ("history", "show"):
        assert main([command, "m", "--store", str(store.root)]) == 0
        assert "[/red] [bold]" in capsys.readouterr().out


def test_control_characters_in_a_reason_are_shown_and_not_obeyed(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)
    store.rollback("m", reason="\x1b[2Jall is well\x07\r", prove=proving)
    for command in ("history", "show"):
        assert main([command, "m", "--store", str(store.root)]) == 0
        said = capsys.readouterr().out
        assert not {"\x1b", "\x07", "\r"} & set(said)
        assert "\\x1b[2J" in said.replace("\n", "")


def test_a_pointer_can_not_lead_out_of_the_store(store: Store, tmp_path: Path) -> None:
    promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)
    pointer = store.folder("m") / "champion"
    record = {**json.loads(pointer.read_bytes()), "previous": "../../../bundle1"}
    pointer.write_text(json.dumps(record))
    with pytest.raises(StoreRefused, match="its digest is no digest"):
        store.resolve("m@previous")
