"""Killed at any moment, overtaken, or on a disk that refuses: the store stays whole and readers never notice."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import sealed_tiny
from conftest import PATIENCE_S, SUPPORT
from soak import Effort, Total
from store_samples import DECISION, promoted, verdict_on

from ai.ml.core.errors import StorageFailed
from ai.ml.retraining.store.audit import audit
from ai.ml.retraining.store.state import moves
from ai.ml.retraining.store.store import Store

pytestmark = pytest.mark.usefixtures("warm_processes")


class Script:
    """A script of the tests as a process that answers line by line."""

    def __init__(self, name: str, *arguments: Path | str, environment: dict[str, str] | None = None) -> None:
        command = [sys.executable, str(SUPPORT / name), *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        )
        assert self.read() == "ready"

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.kill()
        self.process.wait(PATIENCE_S)


def check_linear(store: Store) -> None:
    """One history, in which every decision was taken on the champion that it replaced."""
    for before, after in itertools.pairwise(moves(store.history("m"))):
        assert after.body["champion_before"] == before.body["digest"], "a decision was lost"


@pytest.mark.slow
def test_killed_at_random_moments_readers_never_fail_and_the_next_run_recovers(
    tmp_path: Path, effort: Effort, total: Total
) -> None:
    kills = effort(ci=40, soak=300)
    root, work = tmp_path / "store", tmp_path / "work"
    work.mkdir()
    store = Store(root, lock_timeout_s=5)
    first = promoted(store, tmp_path, 1)
    reader, template = Script("store_reader.py", root), Script("store_worker.py", root, work)
    draw, longest_s, champion = random.Random(6), 0.2, first
    try:
        for kill in range(1, kills + 1):
            template.ask(str(kill))
            worker = int(template.read())
            time.sleep(draw.uniform(0.0, longest_s))
            os.kill(worker, signal.SIGKILL)
            assert reader.process.poll() is None, "the reader failed"
            # On a machine of any speed, about half of the kills come after a promotion.
            before, champion = champion, store.champion("m")
            longest_s *= 1.15 if champion == before else 0.87
        reader.process.send_signal(signal.SIGTERM)
        seen = json.loads(reader.read())
        assert reader.process.wait(PATIENCE_S) == 0
    finally:
        reader.close()
        template.close()
    promoted_ever = {entry.body["digest"] for entry in moves(store.history("m"))}
    assert set(seen["digests"]) <= promoted_ever, "a reader got a bundle that was never promoted"
    last = promoted(store, tmp_path, 2)
    assert store.champion("m") == last != first
    assert audit(store, "m") == []
    check_linear(store)
    assert not [path for path in store.folder("m").rglob(".*") if path.name != ".lock"], "leftovers"
    assert len(promoted_ever) > kills / 10, "the kills came too early for any promotion"
    assert len(seen["digests"]) > 3
    total("kills of a store's writer", kills)


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store that two processes fight for."""
    if request.param == "folder":
        yield str(tmp_path / "store")
        return
    environment: dict[str, str] = request.getfixturevalue("s3_bucket")
    for name, value in {**environment, "BUNDLEGATE_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    yield f"s3://{environment['BUCKET']}/twins-{tmp_path.name}"


@pytest.mark.slow
def test_two_processes_at_the_same_second_make_one_linear_history(
    root: str, tmp_path: Path, effort: Effort, total: Total
) -> None:
    rounds, most, meetings = effort(ci=10, soak=200), effort(ci=300, soak=2_000), effort(ci=1, soak=20)
    store = Store(root)
    promoted(store, tmp_path, 0)
    racers = [Script("store_racer.py", root, sealed_tiny(tmp_path / f"b{seed}", seed)[0]) for seed in (1, 2)]
    outcomes: list[tuple[str, str]] = []
    try:
        # On one processor they meet when one is stopped in the middle, so go on until they have met.
        for number in range(most):
            if number >= rounds and sum(said.startswith("busy") for pair in outcomes for said in pair) >= meetings:
                break
            for racer in racers:
                racer.ask("promote" if number % 2 == 0 or racer is racers[0] else "rollback")
            outcomes.append((racers[0].read(), racers[1].read()))
    finally:
        for racer in racers:
            racer.close()
    assert audit(store, "m") == []
    check_linear(store)
    told = [outcome for pair in outcomes for outcome in pair]
    assert all(outcome.startswith(("won", "already", "busy")) for outcome in told), told
    assert len(moves(store.history("m"))) == 1 + sum(outcome.startswith("won") for outcome in told)
    busy = [outcome for outcome in told if outcome.startswith("busy")]
    assert len(busy) >= meetings, "the two never met"
    pids = {f"process {racer.process.pid} of" for racer in racers}
    assert all("busy 75" in outcome and any(pid in outcome for pid in pids) for outcome in busy)
    total("rounds of two writers of a store", len(outcomes))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.needs("root")
def test_a_full_disk_leaves_everything_as_it_was(small_disk: Path, tmp_path: Path) -> None:
    store = Store(small_disk / "store")
    first = promoted(store, tmp_path, 1)
    bundle, digest = sealed_tiny(tmp_path / "next", 2)
    before = content_of(small_disk)
    filler, disk = small_disk / "filler", os.statvfs(small_disk)
    refusals: list[str] = []
    for left in range(60):
        # The disk has room for `left` pages, from none to enough: each write of a promotion is refused once.
        filler.write_bytes(b"~" * (disk.f_bsize * (disk.f_bavail - left)))
        try:
            store.promote("m", bundle, verdict_on(digest), decision=DECISION)
            break
        except StorageFailed as failure:
            refusals.append(str(failure))
        finally:
            filler.unlink()
        now = content_of(small_disk)
        assert {path: data for path, data in now.items() if path in before} == before
        # A version and a verdict that no line names yet may be there.
        assert all("/versions/" in path or "/verdicts/" in path for path in set(now) - set(before)), set(now)
        assert store.champion("m") == first
        assert audit(store, "m") == []
    assert store.champion("m") == digest
    assert audit(store, "m") == []
    assert all("No space left on device" in sentence and "\n" not in sentence for sentence in refusals)
    said = "\n".join(refusals)
    for state in ("nothing was published", "the old file is as it was", "nothing was decided"):
        assert state in said, said


@pytest.mark.needs("root")
def test_a_read_only_store_is_read_and_says_that_it_is_read_only(small_disk: Path, tmp_path: Path) -> None:
    store = Store(small_disk / "store")
    first = promoted(store, tmp_path, 1)
    bundle, digest = sealed_tiny(tmp_path / "next", 2)
    before = content_of(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageFailed, match="Read-only file system; nothing was changed") as refused:
        store.promote("m", bundle, verdict_on(digest), decision=DECISION)
    assert refused.value.exit_code == 74
    assert store.resolve("m@champion").name == first
    assert audit(store, "m") == []
    assert content_of(small_disk) == before
