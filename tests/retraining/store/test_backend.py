"""What a store promises, the same in a folder and in a bucket on a real S3 server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from builders import sealed_tiny
from store_samples import DECISION, BucketPlace, Place, make_place, promoted, proving, verdict_on

from ai.ml.core.bundle_dir import bundle_digest
from ai.ml.core.errors import BundleNotFound, BundleRefused, Busy, GateRefused, StoreRefused, UsageError
from ai.ml.core.files.atomic import sha256_bytes
from ai.ml.retraining.store.audit import audit
from ai.ml.retraining.store.retention import REMOVAL_S
from ai.ml.retraining.store.store import Store


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return make_place(request, tmp_path, monkeypatch)


@pytest.fixture
def store(place: Place) -> Store:
    return place.store


def test_aliases_follow_the_promotions(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="nothing was promoted"):
        store.resolve("m@champion")
    first, second = promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)
    for reference, digest in (("m@champion", second), ("m@previous", first), (f"m@{first[:8]}", first)):
        assert bundle_digest(store.resolve(reference)) == digest
    with pytest.raises(UsageError, match="at least 6 characters"):
        store.resolve("m@abc")
    with pytest.raises(BundleNotFound, match="no version begins like that"):
        store.resolve("m@abcdef")
    assert audit(store, "m") == []


def test_promotion_takes_a_passing_verdict_on_this_very_bundle(store: Store, tmp_path: Path) -> None:
    bundle, digest = sealed_tiny(tmp_path / "b")
    with pytest.raises(GateRefused, match="REFUSED"):
        store.promote("m", bundle, verdict_on(digest, passed=False), decision=DECISION)
    with pytest.raises(GateRefused, match="the verdict is about"):
        store.promote("m", bundle, verdict_on("0" * 64), decision=DECISION)
    file = bundle / "model_bundle.pt"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BundleRefused, match="changed since its verdict"):
        store.promote("m", bundle, verdict_on(digest), decision=DECISION)
    assert (store.champion("m"), store.history("m"), store.backend("m").names("versions")) == (None, [], [])


def test_what_is_published_is_hashed_where_it_lies(store: Store, tmp_path: Path) -> None:
    bundle, digest = sealed_tiny(tmp_path / "b")
    file = bundle / "model_bundle.pt"
    file.write_bytes(file.read_bytes()[:-1] + b"~")
    with pytest.raises(BundleRefused, match=r"changed while it was published: model_bundle\.pt has changed"):
        store.backend("m").publish("versions", digest, bundle, {})
    assert store.backend("m").names("versions") == []


def test_promoting_twice_is_one_decision_and_one_version(store: Store, tmp_path: Path) -> None:
    bundle, digest = sealed_tiny(tmp_path / "b")
    first = store.promote("m", bundle, verdict_on(digest), decision=DECISION)
    second = store.promote("m", bundle, verdict_on(digest), decision=DECISION)
    assert (first.already, second.already) == (False, True)
    assert len(store.history("m")) == 1
    assert store.backend("m").names("versions") == [digest]


def test_a_decision_against_another_champion_is_busy_and_says_who_won(store: Store, tmp_path: Path) -> None:
    first = promoted(store, tmp_path, 1)
    second = promoted(store, tmp_path, 2)
    bundle, digest = sealed_tiny(tmp_path / "late", 3)
    note = {"flow_run": "run-7"}
    with pytest.raises(Busy, match=f"process .* made {second[:12]} the champion at .*: decide again"):
        store.promote("m", bundle, verdict_on(digest), decision=DECISION, expected_champion=first)
    store.promote("m", bundle, verdict_on(digest), decision=DECISION, expected_champion=second, note=note)
    with pytest.raises(Busy, match="in flow run run-7 made"):
        store.promote("m", tmp_path / "bundle1", verdict_on(first), decision=DECISION, expected_champion=None)


def test_a_refused_bundle_is_kept_apart_with_its_verdict(place: Place, tmp_path: Path) -> None:
    bundle, digest = sealed_tiny(tmp_path / "b")
    (bundle / "evil").symlink_to("/etc/passwd")
    for _ in range(2):
        where = place.store.quarantine("m", bundle, verdict_on(digest, passed=False))
    assert where.endswith(f"m/quarantine/{digest}")
    assert json.loads(place.read(f"m/quarantine/{digest}/verdict.json"))["outcome"] == "REFUSED"
    assert not any(key.endswith("evil") for key in place.keys("m/quarantine"))
    assert [entry.action for entry in place.store.history("m")] == ["refused"]
    assert place.store.champion("m") is None
    assert audit(place.store, "m") == []


def test_rollback_proves_first(store: Store, tmp_path: Path) -> None:
    first, second = promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)
    with pytest.raises(GateRefused):
        store.rollback("m", reason="x", prove=lambda path: verdict_on(bundle_digest(path), passed=False))
    with pytest.raises(GateRefused, match="the verdict is about"):
        store.rollback("m", reason="x", prove=lambda _: verdict_on(second))
    assert store.champion("m") == second
    store.rollback("m", reason="x", prove=proving)
    assert (store.champion("m"), store.digest_of("m", "previous")) == (first, second)
    with pytest.raises(UsageError, match="is the champion already"):
        store.rollback("m", to=first, reason="x", prove=proving)
    assert audit(store, "m") == []


def test_a_promotion_during_the_proof_is_not_undone_by_the_rollback(store: Store, tmp_path: Path) -> None:
    promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)

    def prove_slowly(path: Path) -> object:
        promoted(store, tmp_path, 3)
        return proving(path)

    with pytest.raises(Busy, match="decide again"):
        store.rollback("m", reason="x", prove=prove_slowly)
    assert [entry.action for entry in store.history("m")] == ["promoted"] * 3


def test_only_a_former_champion_comes_back(store: Store, tmp_path: Path) -> None:
    promoted(store, tmp_path, 1)
    bundle, digest = sealed_tiny(tmp_path / "b", 5)
    store.backend("m").publish("versions", digest, bundle, {})
    with pytest.raises(UsageError, match="was never the champion"):
        store.rollback("m", to=digest, reason="x", prove=proving)
    with pytest.raises(UsageError, match=r"there was no champion before [0-9a-f]{12}: nothing to go back to"):
        store.rollback("m", reason="x", prove=proving)
    with pytest.raises(BundleNotFound, match="nothing was promoted"):
        store.rollback("other", reason="x", prove=proving)


def test_held_and_rejected_are_recorded_once_with_their_verdict(store: Store, tmp_path: Path) -> None:
    promoted(store, tmp_path, 1)
    _, digest = sealed_tiny(tmp_path / "b", 5)
    for _ in range(2):
        store.record("m", "held", verdict_on(digest), decision=DECISION)
    store.record("m", "rejected", verdict_on(digest), decision=DECISION)
    assert [entry.action for entry in store.history("m")] == ["promoted", "held", "rejected"]
    with pytest.raises(StoreRefused, match="use promote or rollback"):
        store.record("m", "promoted", verdict_on(digest))
    assert audit(store, "m") == []


def test_killed_between_ledger_and_pointer_the_next_writer_goes_on(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place.store
    first = promoted(store, tmp_path, 1)
    before = {key: place.read(key) for key in ("m/champion", "m/tip")}
    second = promoted(store, tmp_path, 2)
    for key, content in before.items():
        place.write(key, content)
    monkeypatch.setenv("BUNDLEGATE_STATE", str(tmp_path / "the killed writer remembers nothing"))
    assert store.champion("m") == first, "a reader sees the old champion"
    assert any("older than the ledger" in problem for problem in audit(store, "m"))
    bundle, digest = sealed_tiny(tmp_path / "c", 3)
    with pytest.raises(Busy):
        store.promote("m", bundle, verdict_on(digest), decision=DECISION, expected_champion=first)
    assert store.champion("m") == second
    assert audit(store, "m") == []


class Three(NamedTuple):
    """Digests of three champions that followed each other."""

    oldest: str
    previous: str
    champion: str


Damage = Callable[[Place, Three], None]


def _edit(place: Place, _: Three) -> None:
    lines = place.lines()
    place.set_lines([lines[0].replace(b"better", b"poorer"), *lines[1:]])


def _rewrite_whole_chain(place: Place, _: Three) -> None:
    """An edit with every later hash made to fit: the pointer still names the line that was."""
    before, lines = "0" * 64, list[bytes]()
    for line in place.lines():
        record = {**json.loads(line.replace(b"better", b"poorer")), "previous": before}
        lines.append(json.dumps(record, sort_keys=True).encode() + b"\n")
        before = sha256_bytes(lines[-1])
    place.set_lines(lines)


def _add(place: Place, _: Three) -> None:
    lines = place.lines()
    place.set_lines([*lines, json.dumps({**json.loads(lines[-1]), "sequence": len(lines) + 1}).encode() + b"\n"])


def _swap(place: Place, _: Three) -> None:
    first, second, *rest = place.lines()
    place.set_lines([second, first, *rest])


def _garble(place: Place, _: Three) -> None:
    place.set_lines([b"{}\n", *place.lines()[1:]])


def _repoint(before: str, after: str) -> Damage:
    def damage(place: Place, three: Three) -> None:
        names = three._asdict()
        place.write("m/champion", place.read("m/champion").replace(names[before].encode(), names[after].encode()))

    return damage


def flip(place: Place, digest: str) -> None:
    key = f"m/versions/{digest}/model_bundle.pt"
    content = bytearray(place.read(key))
    content[len(content) // 2] ^= 1
    place.write(key, bytes(content))


def _spoil_verdict(place: Place, _: Three) -> None:
    key = place.keys("m/verdicts")[0]
    place.write(key, place.read(key) + b" ")


DAMAGES: dict[str, tuple[Damage, str]] = {
    "an edited line": (_edit, "doesn't follow from the line before"),
    "a removed line": (lambda place, _: place.set_lines(place.lines()[1:]), "doesn't follow|line 1 is gone"),
    "a removed last line": (
        lambda place, _: place.set_lines(place.lines()[:-1]),
        "line 4 was written once and is gone",
    ),
    "two lines swapped": (_swap, "doesn't follow"),
    "an appended line": (_add, "doesn't follow"),
    "all lines removed": (lambda place, _: place.set_lines([]), "line 4 was written once and is gone"),
    "a chain made to fit": (_rewrite_whole_chain, "moved by hand"),
    "a line that is none": (_garble, "behind its last whole line"),
    "a pointer moved by hand": (_repoint("champion", "oldest"), "moved by hand"),
    "a pointer edited": (_repoint("previous", "oldest"), "it doesn't say what its ledger line says"),
    "a pointer that is none": (lambda place, _: place.write("m/champion", b"{}"), "is damaged"),
    "no pointer": (lambda place, _: place.delete("m/champion"), "pointer is gone"),
    "a changed byte": (lambda place, three: flip(place, three.oldest), r"model_bundle\.pt has changed"),
    "a file too many": (
        lambda place, three: place.write(f"m/versions/{three.previous}/more", b"x"),
        "more is not in the manifest",
    ),
    "a file too few": (
        lambda place, three: place.delete(f"m/versions/{three.champion}/evidence/rows.txt"),
        r"evidence/rows\.txt is missing",
    ),
    "a version removed by hand": (lambda place, three: place.delete(f"m/versions/{three.oldest}"), "and is gone"),
    "a verdict removed": (lambda place, _: place.delete(place.keys("m/verdicts")[0]), "the verdict of line .* is gone"),
    "a verdict edited": (_spoil_verdict, "the verdict of line .* has changed"),
}


def test_the_audit_says_what_is_not_as_it_was_written(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai.ml.retraining.store.audit.RETRY_AFTER_S", 0.0)
    store = place.store
    three = Three(*(promoted(store, tmp_path, seed) for seed in range(3)))
    store.record("m", "held", verdict_on("ab" * 32), decision=DECISION)
    before = {key: place.read(key) for key in place.keys("m")}
    for name, (damage, sentence) in DAMAGES.items():
        assert audit(store, "m") == []
        damage(place, three)
        found = audit(store, "m")
        assert any(re.search(sentence, problem) for problem in found), f"{name}: {found}"
        for key in set(place.keys("m")) - set(before):
            place.delete(key)
        for key, content in before.items():
            place.write(key, content)


def test_writers_refuse_to_go_on_from_what_was_tampered_with(place: Place, tmp_path: Path) -> None:
    store = place.store
    first, second = promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)
    bundle, digest = sealed_tiny(tmp_path / "c", 3)
    lines, pointer = place.lines(), place.read("m/champion")

    def refused(sentence: str) -> None:
        with pytest.raises(StoreRefused, match=sentence):
            store.promote("m", bundle, verdict_on(digest), decision=DECISION)

    place.set_lines(lines[:-1])
    refused("ends with line 1, but line 2 was written once")
    place.set_lines([b"~" + lines[0][1:], lines[1]])
    refused("line 1 is damaged, 1 lines are behind it")
    place.set_lines(lines)
    place.write("m/champion", pointer.replace(second.encode(), first.encode()))
    refused("says what no line of the ledger made")
    place.delete("m/champion")
    store.promote("m", bundle, verdict_on(digest), decision=DECISION)
    assert store.digest_of("m", "previous") == second
    assert audit(store, "m") == []


def test_a_damaged_version_is_neither_promoted_again_nor_rolled_back_to(place: Place, tmp_path: Path) -> None:
    store = place.store
    first, second = promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)
    for digest in (first, second):
        flip(place, digest)
    for seed, digest in ((1, first), (2, second)):
        with pytest.raises(BundleRefused, match="in the store but damaged"):
            store.promote("m", tmp_path / f"bundle{seed}", verdict_on(digest), decision=DECISION)
    with pytest.raises(BundleRefused):
        store.rollback("m", reason="x", prove=proving)


def test_prune_keeps_what_somebody_may_need(place: Place, tmp_path: Path) -> None:
    store = place.store
    digests = [promoted(store, tmp_path, seed) for seed in range(5)]
    for seed in range(5, 8):
        bundle, digest = sealed_tiny(tmp_path / f"refused{seed}", seed)
        store.quarantine("m", bundle, verdict_on(digest, passed=False))
    assert store.prune("m", 1, grace_s=3600) == [], "all were live within the hour"
    store.rollback("m", to=digests[0], reason="x", prove=proving)
    gone = store.prune("m", 1, keep_quarantine=2, grace_s=0)
    assert sorted(store.backend("m").names("versions")) == sorted([digests[0], digests[4]])
    assert len(store.backend("m").names("quarantine")) == 2
    assert len(gone) == 4
    assert store.history("m")[-1].action == "pruned"
    assert store.prune("m", 1, keep_quarantine=2, grace_s=0) == []
    assert bundle_digest(store.resolve("m@previous")) == digests[4]
    assert audit(store, "m") == []
    for keep in (0, -1):
        with pytest.raises(UsageError, match="--keep must be at least 1"):
            store.prune("m", keep)


def test_what_was_pruned_can_be_promoted_again(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.store
    digests = [promoted(store, tmp_path, seed) for seed in range(3)]
    store.prune("m", 1, grace_s=0)
    verdict = verdict_on(digests[0])
    if isinstance(place, BucketPlace):
        with pytest.raises(Busy, match=f"again {REMOVAL_S / 60:.0f} minutes after"):
            store.promote("m", tmp_path / "bundle0", verdict, decision=DECISION)
        monkeypatch.setattr("ai.ml.retraining.store.retention.REMOVAL_S", 0.0)
    store.promote("m", tmp_path / "bundle0", verdict, decision=DECISION)
    assert bundle_digest(store.resolve("m@champion")) == digests[0]
    assert audit(store, "m") == []


def test_a_version_that_was_exchanged_is_never_handed_out(place: Place, tmp_path: Path) -> None:
    """Whole in itself, but another bundle than its name says; and one without the manifest that binds its files."""
    store = place.store
    first, second = promoted(store, tmp_path, 1), promoted(store, tmp_path, 2)
    for key in place.keys(f"m/versions/{second}"):
        other = key.replace(second, first)
        place.write(key, place.read(other))
    with pytest.raises(BundleRefused, match=rf"version {second[:12]} .*{first[:12]}"):
        store.resolve("m@champion")
    place.delete(f"m/versions/{first}/manifest.json")
    with pytest.raises((BundleRefused, BundleNotFound), match=first[:12]):
        store.resolve("m@previous")
