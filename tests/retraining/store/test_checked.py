"""Nothing forged is shown or served: the ledger's chain, its head, the pointer and what this machine remembers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import sealed_tiny
from store_samples import DECISION, BucketPlace, FolderPlace, Place, make_place, promoted, proving, verdict_on

from ai.ml.core.errors import BundlegateError, ExitCode, StoreRefused
from ai.ml.core.files.atomic import sha256_bytes
from ai.ml.retraining.commands.cli import main
from ai.ml.retraining.store.anchor import anchor_file, forget
from ai.ml.retraining.store.audit import audit
from ai.ml.retraining.store.ledger import read_line
from ai.ml.retraining.store.mend import mend
from ai.ml.retraining.store.store import Store


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ai.ml.retraining.store.checked.LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr("ai.ml.retraining.store.audit.RETRY_AFTER_S", 0.0)
    monkeypatch.setenv("BUNDLEGATE_STATE", str(tmp_path / "state"))


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return make_place(request, tmp_path, monkeypatch)


def address(place: Place) -> str:
    return place.url if isinstance(place, BucketPlace) else str(place.root)


def rewritten(lines: list[bytes], before: bytes, after: bytes) -> list[bytes]:
    """Lines with a text exchanged, and every `previous` made to fit."""
    previous, made = "0" * 64, list[bytes]()
    for line in lines:
        record = {**json.loads(line.replace(before, after)), "previous": previous}
        made.append(json.dumps(record, sort_keys=True).encode() + b"\n")
        previous = sha256_bytes(made[-1])
    return made


def forged_head(place: Place) -> bytes:
    lines = place.lines()
    return json.dumps({"sequence": len(lines), "sha256": sha256_bytes(lines[-1])}).encode()


def edit(place: Place) -> None:
    lines = place.lines()
    place.set_lines([lines[0].replace(b"better", b"poorer"), *lines[1:]])


def edit_last(place: Place) -> None:
    lines = place.lines()
    place.set_lines([*lines[:-1], lines[-1].replace(b"better", b"poorer")])


def swap(place: Place) -> None:
    first, second, *rest = place.lines()
    place.set_lines([second, first, *rest])


def rewrite(place: Place) -> None:
    place.set_lines(rewritten(place.lines(), b"better", b"poorer"))


def older_pointer(place: Place) -> None:
    """The pointer as the first line made it."""
    entry = read_line(place.lines()[0])
    assert entry is not None
    record = json.loads(place.read("m/champion"))
    record |= {"digest": entry.digest, "previous": None, "sequence": 1, "line": entry.sha256}
    place.write("m/champion", json.dumps({**record, "since": entry.body["time"]}).encode())


def other_kind(place: Place) -> None:
    lines = place.lines()
    place.set_lines([lines[0].replace(b'"sequence": 1', b'"sequence": true'), *lines[1:]])


FORGERIES: dict[str, tuple[Callable[[Place], None], str]] = {
    "an edited line": (edit, "line 2 doesn't follow"),
    "the last line edited": (edit_last, "isn't the one that tip names"),
    "a removed line": (lambda place: place.set_lines(place.lines()[1:]), "line 1 doesn't follow"),
    "a cut ledger": (lambda place: place.set_lines(place.lines()[:-1]), "ends with line 2, but line 3 was written"),
    "two lines swapped": (swap, "line 1 doesn't follow"),
    "a chain made to fit": (rewrite, "isn't the one that tip names"),
    "a line of another kind": (other_kind, "line 1 is damaged"),
    "no head": (lambda place: place.delete("m/tip"), "tip is gone"),
    "a head that is none": (lambda place: place.write("m/tip", b"3"), "tip.* is damaged"),
    "an older pointer": (older_pointer, "champion was moved by hand"),
    "no pointer": (lambda place: place.delete("m/champion"), "champion was moved by hand: it is gone"),
}


def with_(place: Place, name: str) -> None:
    FORGERIES[name][0](place)


@pytest.fixture(params=[True, False], ids=["a machine that knows it", "a new machine"])
def known(request: pytest.FixtureRequest) -> bool:
    return request.param


def reads(store: Store) -> Iterator[Callable[[], object]]:
    yield lambda: store.champion("m")
    yield lambda: store.history("m")
    for alias in ("champion", "previous", store.backend("m").names("versions")[0]):
        yield lambda alias=alias: store.resolve(f"m@{alias}")
    yield lambda: store.retirement("m")
    yield lambda: store.rollback("m", reason="x", prove=proving)
    yield lambda: store.prunable("m", 1)


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_named_before_anything_is_served(place: Place, tmp_path: Path, name: str, known: bool) -> None:
    store = place.store
    for seed in range(3):
        promoted(store, tmp_path, seed)
    if known:
        store.champion("m")
    else:
        shutil.rmtree(tmp_path / "state")
    with_(place, name)
    for read in reads(store):
        with pytest.raises(StoreRefused, match=FORGERIES[name][1]) as refused:
            read()
        assert refused.value.exit_code == ExitCode.INTEGRITY
    assert audit(store, "m")


def test_every_command_that_shows_or_serves_ends_with_6(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = FolderPlace(tmp_path / "store")
    digest, *_ = [promoted(place.store, tmp_path, seed) for seed in range(3)]
    (tmp_path / "rows.csv").write_text("a\n1\n")
    edit(place)
    at = ["--store", str(place.root)]
    scored = [str(tmp_path / "rows.csv"), str(tmp_path / "out.csv")]
    for command in (
        ["show", "m"],
        ["history", "m", "--json"],
        ["list"],
        ["verify", "m@champion"],
        ["verify", f"m@{digest}"],
        ["predict", "m@champion", *scored],
        ["rollback", "m", "--reason", "x", "--dry-run"],
        ["retire", "m", "--reason", "x"],
        ["prune", "m"],
        ["audit", "m"],
        ["audit", "m", "--mend", "x"],
    ):
        assert main([*command, *at]) == 6, command
        said = capsys.readouterr()
        assert "line 2 doesn't follow" in (said.out + said.err).replace("\n", " "), said
        assert not (tmp_path / "out.csv").exists()


def test_a_machine_that_knows_the_ledger_never_goes_back(place: Place, tmp_path: Path) -> None:
    """Somebody who can write everything in the store makes all of it fit; only what lies elsewhere tells."""
    store = place.store
    promoted(store, tmp_path, 0)
    old = {key: place.read(key) for key in place.keys("m")}
    promoted(store, tmp_path, 1)
    store.champion("m")
    now = {key: place.read(key) for key in place.keys("m")}

    def restore(content: dict[str, bytes]) -> None:
        place.delete("m")
        for key, data in content.items():
            place.write(key, data)

    restore(old)
    with pytest.raises(
        StoreRefused, match=r"went back: this machine has seen it with 2 lines.* now it has 1; .*delete"
    ):
        store.champion("m")
    assert any("went back" in problem for problem in audit(store, "m"))
    restore(now)
    place.set_lines(rewritten(place.lines(), b"better", b"poorer"))
    place.write("m/tip", forged_head(place))
    last = read_line(place.lines()[-1])
    assert last is not None
    place.write("m/champion", json.dumps({**json.loads(now["m/champion"]), "line": last.sha256}).encode())
    with pytest.raises(StoreRefused, match="now those are others"):
        store.champion("m")
    with pytest.raises(StoreRefused, match="went back"):
        store.record("m", "held", verdict_on("ab" * 32), decision=DECISION)
    place.delete("m")
    with pytest.raises(StoreRefused, match="now it has 0"):
        store.champion("m")
    path = anchor_file(store.backend("m").location).path
    assert path is not None
    path.unlink()
    assert store.champion("m") is None, "that the store was made anew was meant"


def test_a_pointer_and_a_head_put_back_are_found_by_who_has_seen_the_newer_ones(place: Place, tmp_path: Path) -> None:
    store = place.store
    promoted(store, tmp_path, 0)
    old = {key: place.read(key) for key in ("m/champion", "m/tip")}
    promoted(store, tmp_path, 1)
    store.champion("m")
    for key, data in old.items():
        place.write(key, data)
    with pytest.raises(StoreRefused, match="champion went back: this machine has seen it as line 2"):
        store.champion("m")


def test_a_damaged_memory_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    promoted(store, tmp_path, 0)
    store.champion("m")
    path = anchor_file(store.backend("m").location).path
    assert path is not None
    for content in ("{", "[]", "{}", '{"format": 2}'):
        path.write_text(content)
        with pytest.raises(StoreRefused, match=r"what this machine remembers .* is damaged"):
            store.champion("m")


def test_without_a_place_to_remember_everything_is_still_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BUNDLEGATE_STATE", str(tmp_path / "file" / "no folder"))
    place = FolderPlace(tmp_path / "store")
    digest = promoted(place.store, tmp_path, 0)
    promoted(place.store, tmp_path, 1)
    assert place.store.digest_of("m", "previous") == digest
    edit(place)
    with pytest.raises(StoreRefused, match="line 2 doesn't follow"):
        place.store.champion("m")


def test_a_version_that_no_line_knows_is_not_served(place: Place, tmp_path: Path) -> None:
    promoted(place.store, tmp_path, 0)
    bundle, digest = sealed_tiny(tmp_path / "planted", 7)
    place.store.backend("m").publish("versions", digest, bundle, {})
    with pytest.raises(StoreRefused, match=f"no line of the ledger made {digest[:12]} the champion"):
        place.store.resolve(f"m@{digest}")


def test_only_new_lines_are_looked_at_closely(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.store
    for seed in range(4):
        promoted(store, tmp_path, seed)
    store.champion("m")
    looked: list[bytes] = []

    def counted(line: bytes) -> object:
        looked.append(line)
        return read_line(line)

    monkeypatch.setattr("ai.ml.retraining.store.checked.read_line", counted)
    lines = place.lines()
    store.champion("m")
    assert looked == lines[-2:], "those that made the pointer"
    monkeypatch.setattr("ai.ml.retraining.store.checked.read_line", read_line)
    last = promoted(store, tmp_path, 5)
    assert store.champion("m") == last
    if isinstance(place, BucketPlace):
        shutil.rmtree(tmp_path / "cache")
        assert store.champion("m") == last, "what was kept of the bucket's lines is only kept to save time"


@pytest.mark.parametrize("name", ["no head", "a head that is none", "an older pointer", "no pointer"])
def test_mending_puts_pointer_and_head_right_and_says_so_in_the_ledger(place: Place, tmp_path: Path, name: str) -> None:
    store = place.store
    *_, last = [promoted(store, tmp_path, seed) for seed in range(3)]
    assert mend(store, "m", reason="x") is None
    with_(place, name)
    assert main(["audit", "m", "--store", address(place), "--mend", "somebody moved it"]) == 0
    entry = store.history("m")[-1]
    assert (entry.action, entry.body["reason"], store.champion("m")) == ("mended", "somebody moved it", last)
    assert audit(store, "m") == []
    assert promoted(store, tmp_path, 4) == store.champion("m")


@pytest.mark.parametrize("name", ["an edited line", "a cut ledger", "the last line edited"])
def test_a_ledger_that_was_changed_is_never_mended(place: Place, tmp_path: Path, name: str) -> None:
    for seed in range(3):
        promoted(place.store, tmp_path, seed)
    with_(place, name)
    before = place.lines()
    with pytest.raises(BundlegateError, match="backup") as refused:
        mend(place.store, "m", reason="x")
    assert refused.value.exit_code == ExitCode.INTEGRITY
    assert place.lines() == before


def test_the_audit_holds_the_ledger_against_a_head_that_was_kept_elsewhere(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = place.store
    promoted(store, tmp_path, 0)
    promoted(store, tmp_path, 1)
    kept, at = tmp_path / "kept", ["audit", "m", "--store", address(place), "--head", str(tmp_path / "kept")]
    kept.write_bytes(place.read("m/tip"))
    promoted(store, tmp_path, 2)
    assert main(at) == 0
    monkeypatch.setenv("BUNDLEGATE_STATE", str(tmp_path / "a new machine"))
    for key in ("m/tip", "m/champion"):
        place.delete(key)
    place.set_lines(rewritten(place.lines(), b"better", b"poorer"))
    capsys.readouterr()
    assert main(at) == 6
    assert "line 2 isn't that of the kept head" in capsys.readouterr().out
    place.set_lines(place.lines()[:1])
    assert main(at) == 6
    assert "ends with line 1, the kept head is of line 2" in capsys.readouterr().out
    for content in ("{", '{"sequence": "2", "sha256": ""}', '{"sequence": 0, "sha256": ""}'):
        kept.write_text(content)
        assert main(at) == 2
        assert "expected a copy of a model's `tip`" in capsys.readouterr().err
    kept.unlink()
    assert main(at) == 2
    assert "No such file" in capsys.readouterr().err


def test_pruning_a_model_whose_every_candidate_was_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for seed in range(2):
        bundle, digest = sealed_tiny(tmp_path / f"refused{seed}", seed)
        store.quarantine("m", bundle, verdict_on(digest, passed=False))
    assert len(store.prune("m", 1, keep_quarantine=1)) == 1
    assert len(store.backend("m").names("quarantine")) == 1


def test_a_store_made_anew_is_refused_until_it_is_forgotten(tmp_path: Path) -> None:
    """An empty folder may be a disk that isn't mounted: a first bundle would be promoted there without a comparison."""
    store = Store(tmp_path / "store")
    promoted(store, tmp_path, 1)
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(StoreRefused, match=r"now it has 0.*the store was made anew, delete"):
        promoted(store, tmp_path, 2)
    forget(str(tmp_path / "store" / "m"))
    assert promoted(store, tmp_path, 2) == store.champion("m")
    forget(str(tmp_path / "never" / "m"))
