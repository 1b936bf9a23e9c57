"""What is saved over what in the crash tests, and what must hold wherever the save was cut off."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pair_reader import open_pair

from ai.ml.core.bundle_dir import write_manifest
from ai.ml.core.errors import BundleNotFound
from ai.ml.core.files.atomic import make_dirs, sha256_bytes, write_atomic, write_new
from ai.ml.core.files.lock import locked
from ai.ml.frameworks.pytorch.serialization import commit as redo

if TYPE_CHECKING:
    from crash_harness import Report


class Pair(NamedTuple):
    """What a reader finds; all None where there is no bundle."""

    bundle: bytes | None
    metrics: bytes | None


NOTHING = Pair(None, None)
OLD = Pair(b"old bundle " * 40, b'{"old": 1}')
NEW = Pair(b"new bundle, longer " * 40, b'{"new": 2}')
THIRD = Pair(b"third bundle " * 40, b'{"third": 3}')
SEAL = ("evidence/answers.npz", "evidence/probes.parquet", "manifest.json")


@dataclass(frozen=True)
class Scenario:
    """One save into one kind of directory."""

    name: str
    prepare: Callable[[Path], None]
    """Makes the directory as it is before; makes nothing for a save into a directory that isn't there."""
    save: Callable[[Path], None]
    old: Pair
    new: Pair
    sealed: bool = False
    """A manifest and evidence describe the old pair."""
    leftovers: bool = False
    """A killed save's files lie there before."""


def replace(directory: Path, pair: Pair) -> None:
    """Save ready bytes by the protocol that `save_bundle` uses, without torch."""
    make_dirs(directory)
    redo.replace_pair(directory, lambda temp: _write(temp, pair), pair.metrics)


def _write(temp: Path, pair: Pair) -> str:
    assert pair.bundle is not None
    write_new(temp, pair.bundle)
    return sha256_bytes(pair.bundle)


def seal(directory: Path) -> None:
    """Put evidence and a manifest beside the pair."""
    (directory / "evidence").mkdir()
    for name in SEAL[:2]:
        (directory / name).write_bytes(b"evidence of the old pair")
    write_manifest(directory, model={}, scoring={}, contract=None, evidence={}, lineage={})


def scenarios_of(weight: str) -> list[Scenario]:
    """`light`: ready bytes, no torch; `real`: `save_bundle`; `naive`: ways to save that must be found out."""
    if weight == "real":
        return _real_scenarios()
    if weight == "naive":
        return _naive_scenarios()

    def prepare_old(directory: Path) -> None:
        replace(directory, OLD)

    def prepare_sealed(directory: Path) -> None:
        replace(directory, OLD)
        seal(directory)

    def prepare_committed(directory: Path) -> None:
        replace(directory, THIRD)
        seal(directory)
        # A save that was killed right behind its commit, and beside it one that was killed before.
        (directory / f".{redo.BUNDLE_NAME}.1.0123456789abcdef.tmp").write_bytes(b"half a bun")
        redo._commit(directory, lambda temp: _write(temp, OLD), OLD.metrics)

    bare = NEW._replace(metrics=None)
    return [
        Scenario("fresh", lambda _: None, lambda path: replace(path, NEW), NOTHING, NEW),
        Scenario("fresh, no metrics", lambda _: None, lambda path: replace(path, bare), NOTHING, bare),
        Scenario("over a pair", prepare_old, lambda path: replace(path, NEW), OLD, NEW),
        Scenario("over a sealed pair", prepare_sealed, lambda path: replace(path, NEW), OLD, NEW, sealed=True),
        Scenario("no metrics over a pair", prepare_old, lambda path: replace(path, bare), OLD, bare),
        Scenario("over a killed save", prepare_committed, lambda path: replace(path, NEW), OLD, NEW, leftovers=True),
    ]


def _naive_scenarios() -> list[Scenario]:
    def in_place(directory: Path) -> None:
        (directory / redo.BUNDLE_NAME).write_bytes(NEW.bundle or b"")
        (directory / redo.METRICS_NAME).write_bytes(NEW.metrics or b"")

    def file_by_file(directory: Path) -> None:
        write_atomic(directory / redo.BUNDLE_NAME, NEW.bundle or b"")
        write_atomic(directory / redo.METRICS_NAME, NEW.metrics or b"")

    def unsynced(directory: Path) -> None:
        for name, content in ((redo.BUNDLE_NAME, NEW.bundle), (redo.METRICS_NAME, NEW.metrics)):
            (directory / f".{name}.1.0123456789abcdef.tmp").write_bytes(content or b"")
            (directory / f".{name}.1.0123456789abcdef.tmp").replace(directory / name)

    return [
        Scenario(save.__name__, lambda directory: replace(directory, OLD), save, OLD, NEW)
        for save in (in_place, file_by_file, unsynced)
    ]


def _real_scenarios() -> list[Scenario]:
    import builders

    from ai.ml.core.types import Metrics
    from ai.ml.frameworks.pytorch.serialization.save import _encode_metrics, encode_bundle, save_bundle

    bundles = [builders.tiny_bundle(training_mode="linear_glm_baseline", seed=seed) for seed in (1, 2)]
    metrics = [Metrics("classification", 0.5, 0.6, "accuracy", 0.1 * seed) for seed in (1, 2)]
    old, new = (Pair(encode_bundle(b), _encode_metrics(m)) for b, m in zip(bundles, metrics, strict=True))

    with tempfile.TemporaryDirectory() as anywhere:
        save_bundle(bundles[0], anywhere)  # torch imports a module or two at the first save

    def prepare_old(directory: Path) -> None:
        save_bundle(bundles[0], directory, metrics[0])

    def save_new(directory: Path) -> None:
        save_bundle(bundles[1], directory, metrics[1])

    def save_bare(directory: Path) -> None:
        save_bundle(bundles[1], directory)

    return [
        Scenario("save_bundle, fresh", lambda _: None, save_new, NOTHING, new),
        Scenario("save_bundle over a pair", prepare_old, save_new, old, new),
        Scenario("save_bundle, no metrics over a pair", prepare_old, save_bare, old, new._replace(metrics=None)),
    ]


def judge(scenario: Scenario, directory: Path, report: Report, where: str, *, clean: bool) -> str:
    """Check a directory in which a save was cut off, and count what the readers found.

    Args:
        scenario: what was played.
        directory: where.
        report: problems and counts go here.
        where: begins each sentence about a problem.
        clean: nothing killed the writer and nothing is pending, so no temporary file may be there.

    Returns:
        `old` or `new`: the pair that a reader finds; `torn` if neither.
    """

    def complain(what: str) -> None:
        report.problems.append(f"{where}: {what}")

    before = listing(directory)
    found = which(scenario, read(directory))
    report.outcomes[found] += 1
    if found == "torn":
        complain("torn")
    if listing(directory) != before:
        complain("the reader wrote")
    if clean and any(name.startswith(".") for name in before):
        complain(f"left behind: {sorted(before)}")
    _judge_plain_reader(scenario, directory, report, complain)
    _judge_next_save(directory, complain)
    if directory.exists():
        _judge_recovery(scenario, directory, found, complain)
    return found


def _judge_plain_reader(scenario: Scenario, directory: Path, report: Report, complain: Callable[[str], None]) -> None:
    """A reader that knows only the two names may miss the metrics for an instant, and nothing worse."""
    pair = Pair(*(_content(directory / name) for name in (redo.BUNDLE_NAME, redo.METRICS_NAME)))
    if scenario.leftovers and pair.bundle == THIRD.bundle and pair.metrics in (None, THIRD.metrics):
        return
    if pair in (scenario.old, scenario.new):
        return
    if pair.metrics is None and pair.bundle in (None, scenario.old.bundle, scenario.new.bundle):
        report.outcomes["plain reader misses metrics"] += 1
    else:
        complain("a reader of the two names meets a mismatch")


def _judge_next_save(directory: Path, complain: Callable[[str], None]) -> None:
    copy = directory.parent / "copy"
    if directory.exists():
        shutil.copytree(directory, copy)
    replace(copy, THIRD)
    if read(copy) != THIRD or set(listing(copy)) != {redo.BUNDLE_NAME, redo.METRICS_NAME}:
        complain(f"the next save leaves {sorted(listing(copy))}")
    shutil.rmtree(copy)


def _judge_recovery(scenario: Scenario, directory: Path, found: str, complain: Callable[[str], None]) -> None:
    """Finishing alone must bring about the pair that the reader saw, and nothing else."""
    with locked(directory):
        redo.finish_pending(directory)
    if which(scenario, read(directory)) != found:
        complain(f"recovery turned the {found} pair into another")
    if found == "torn":
        return
    pair = scenario.old if found == "old" else scenario.new
    expected = {
        name
        for name, content in ((redo.BUNDLE_NAME, pair.bundle), (redo.METRICS_NAME, pair.metrics))
        if content is not None
    }
    if scenario.sealed and found == "old":
        expected |= set(SEAL)
    if set(listing(directory)) != expected:
        complain(f"recovery leaves {sorted(listing(directory))}")


def read(directory: Path) -> Pair:
    """The pair as a reader of ours finds it."""
    try:
        stream, metrics = open_pair(directory)
    except BundleNotFound:
        return NOTHING
    with stream:
        return Pair(stream.read(), metrics)


def which(scenario: Scenario, pair: Pair) -> str:
    """`old`, `new` or `torn`."""
    return {scenario.old: "old", scenario.new: "new"}.get(pair, "torn")


def listing(directory: Path) -> dict[str, bytes]:
    """Every file below, with its content."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
