"""Where bundles live: immutable versions, one pointer to the champion, and the ledger of every decision.

::

    ROOT/NAME/versions/DIGEST/     a sealed bundle directory; never changed, published by one rename
    ROOT/NAME/champion             the pointer: JSON with the digest and the ledger line that put it there
    ROOT/NAME/ledger.jsonl         every decision, each line with the hash of the one before
    ROOT/NAME/verdicts/SHA.json    what the gate said, by the verdict's own sha-256
    ROOT/NAME/quarantine/DIGEST/   refused bundles with their verdict
    ROOT/NAME/work/                checkpoints of running retrains; losing it costs time only

Promotion, under the model's lock: check the verdict, hash the bundle, publish the version, keep the verdict, write the
ledger line, replace the pointer. The **ledger line is the commit**. A process killed before it has changed nothing that
counts; one killed between line and pointer leaves the old champion live, and the next writer puts the pointer where the
ledger says. Readers take no lock: they read the pointer, which is replaced by one rename, and find a version that was
whole before its name appeared.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ai.ml.core.errors import BundleNotFound, BundleRefused, Busy, GateRefused, StoreRefused, UsageError
from ai.ml.core.files import dump_json, publish_dir, storage_failed, write_atomic
from ai.ml.core.manifest import bundle_digest, check_files, read_manifest
from ai.ml.retraining.ledger import Entry, Ledger
from ai.ml.retraining.verdict import Verdict

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOCK_TIMEOUT_S = 30.0
LEAST_PREFIX = 6
CHAMPION_ACTIONS = ("promoted", "rolled-back")


@dataclass(frozen=True)
class Promotion:
    """What became of a candidate."""

    digest: str
    path: Path
    previous: str | None
    """Digest of the champion before."""
    entry: Entry
    already: bool
    """It was the champion before this call: nothing was written."""


@dataclass(frozen=True)
class Store:
    """A folder of models."""

    root: Path
    lock_timeout_s: float = LOCK_TIMEOUT_S

    def resolve(self, reference: str) -> Path:
        """The bundle directory that `NAME@champion`, `NAME@previous` or `NAME@DIGEST` names; takes no lock.

        Raises:
            BundleNotFound: there is none.
            UsageError: the reference isn't of that form, or a digest prefix is too short or ambiguous.
        """
        name, _, alias = reference.partition("@")
        digest = self._digest_of(checked_name(name), alias)
        path = self.versions(name) / digest
        if not path.is_dir():
            raise BundleNotFound(f"{reference}: version {digest[:12]} is not in {path.parent}")
        return path

    def champion(self, name: str) -> str | None:
        """Digest of the live bundle; None if nothing was promoted yet."""
        pointer = self._pointer(name)
        return None if pointer is None else str(pointer["digest"])

    def history(self, name: str) -> list[Entry]:
        """Every decision, oldest first; where a line is damaged, those before it."""
        return self._ledger(name).entries()

    def refuse_damage(self, name: str) -> None:
        """Check that the ledger can be read to its end.

        Raises:
            StoreRefused: a line is damaged.
        """
        self._ledger(name).refuse_damage()

    def promotion_of(self, name: str, digest: str) -> Entry:
        """The ledger's last line that made a bundle the champion.

        Raises:
            StoreRefused: there is none.
        """
        for entry in reversed(self.history(name)):
            if entry.body["action"] in CHAMPION_ACTIONS and entry.body["digest"] == digest:
                return entry
        raise StoreRefused(
            f"{name}: no line of the ledger made {digest[:12]} the champion; run `bundlegate audit {name}`"
        )

    def promote(
        self,
        name: str,
        bundle_dir: Path,
        verdict: Verdict,
        *,
        decision: dict[str, Any],
        actor: str | None = None,
        note: dict[str, Any] | None = None,
        expected_champion: Any = ...,
    ) -> Promotion:
        """Publish a proven bundle and make it the champion; once, however often it is called.

        Args:
            name: of the model.
            bundle_dir: sealed; it is copied and hashed on the way.
            verdict: must name this bundle's digest and have passed.
            decision: why it replaces the champion, as the ledger keeps it.
            actor: who asks; the user and host if None.
            note: volatile lineage, such as the flow run.
            expected_champion: what the decision was made against; another champion now means somebody was faster.

        Raises:
            GateRefused: the verdict didn't pass, or is about another bundle.
            BundleRefused: the bundle isn't what its manifest says.
            Busy: somebody else holds the lock, or promoted another champion since the decision.
            StorageFailed: the disk refused; the champion is as it was.
        """
        check_verdict(verdict, bundle_dir)
        with self._writing(name) as folder:
            before = self.champion(name)
            if before is not None and before == verdict.digest:
                entry = self.promotion_of(name, before)
                return Promotion(before, self.versions(name) / before, self._previous(name), entry, already=True)
            if expected_champion is not ... and expected_champion != before:
                raise Busy(self._who_won(name, before))
            path = self._publish(name, bundle_dir, verdict.digest)
            _keep_verdict(folder, verdict)
            body = {"verdict": verdict.sha256, "decision": decision, "champion_before": before}
            entry = self._ledger(name).append(_body("promoted", verdict.digest, actor, note, body))
            self._point(folder, entry)
        return Promotion(verdict.digest, path, before, entry, already=False)

    def record(
        self,
        name: str,
        action: str,
        digest: str,
        *,
        actor: str | None = None,
        note: dict[str, Any] | None = None,
        **body: Any,
    ) -> Entry:
        """Write a decision that leaves the champion as it is: `held`, `rejected`; once for the same digest in a row."""
        if action in CHAMPION_ACTIONS:
            raise StoreRefused(f"{action!r} moves the champion: use promote or rollback")
        with self._writing(name):
            last = next(iter(self.history(name)[-1:]), None)
            if last is not None and (last.body.get("action"), last.body.get("digest")) == (action, digest):
                return last
            return self._ledger(name).append(_body(action, digest, actor, note, body))

    def quarantine(
        self,
        name: str,
        bundle_dir: Path,
        verdict: Verdict,
        *,
        actor: str | None = None,
        note: dict[str, Any] | None = None,
    ) -> Path:
        """Keep a refused bundle apart, with its verdict, and write the refusal into the ledger."""
        digest = verdict.digest or "unsealed"
        with self._writing(name) as folder:
            place = folder / "quarantine" / digest
            if not place.exists():
                copy = _copy_beside(bundle_dir, place)
                write_atomic(copy / "verdict.json", verdict.to_json())
                publish_dir(copy, place)
            _keep_verdict(folder, verdict)
            last = next(iter(self.history(name)[-1:]), None)
            if last is None or (last.body.get("action"), last.body.get("digest")) != ("refused", digest):
                body = {"verdict": verdict.sha256, "reason": verdict.reason}
                self._ledger(name).append(_body("refused", digest, actor, note, body))
        return place

    def rollback(
        self,
        name: str,
        to: str | None = None,
        *,
        reason: str,
        prove: Callable[[Path], Verdict],
        actor: str | None = None,
    ) -> Promotion:
        """Make a former champion live again, after proving it again here and now.

        Raises:
            UsageError: nothing was promoted before, or `to` was never a champion.
            GateRefused: the former champion no longer passes the gate.
        """
        digest = self._digest_of(checked_name(name), to or "previous")
        if digest == self.champion(name):
            raise UsageError(f"{name}: {digest[:12]} is the champion already")
        former = {entry.body["digest"] for entry in self.history(name) if entry.body["action"] in CHAMPION_ACTIONS}
        if digest not in former:
            raise UsageError(f"{name}: {digest[:12]} was never the champion; only a former one can come back")
        path = self.resolve(f"{name}@{digest}")
        verdict = prove(path)
        check_verdict(verdict, path)
        with self._writing(name) as folder:
            before = self.champion(name)
            _keep_verdict(folder, verdict)
            body = {"verdict": verdict.sha256, "reason": reason, "champion_before": before}
            entry = self._ledger(name).append(_body("rolled-back", digest, actor, None, body))
            self._point(folder, entry)
        return Promotion(digest, path, before, entry, already=False)

    def audit(self, name: str) -> list[str]:
        """One sentence per thing that isn't as it was written: a ledger line, a version's byte, the pointer."""
        folder = self.folder(name)
        if not folder.is_dir():
            raise BundleNotFound(f"no model {name!r} in {self.root}")
        sentences = self._ledger(name).problems()
        sentences += _pointer_problems(self._pointer(name), self.history(name))
        for path in sorted(self.versions(name).glob("*")):
            sentences += [f"version {path.name[:12]}: {problem}" for problem in version_problems(path)]
        return sentences

    def prune(self, name: str, keep: int) -> list[Path]:
        """Remove all but the `keep` newest versions; champion and previous stay whatever their age."""
        if keep < 1:
            raise UsageError(f"--keep must be at least 1, got {keep}")
        with self._writing(name) as folder:
            order = [entry.body["digest"] for entry in self.history(name) if entry.body["action"] in CHAMPION_ACTIONS]
            newest = list(dict.fromkeys(reversed(order)))
            kept = {*newest[:keep], self.champion(name), self._previous(name)}
            gone = [path for path in sorted(self.versions(name).glob("*")) if path.name not in kept]
            gone += sorted(folder.joinpath("quarantine").glob("*"), key=lambda path: path.stat().st_mtime)[:-keep]
            for path in gone:
                shutil.rmtree(path)
        return gone

    def folder(self, name: str) -> Path:
        """Everything of one model."""
        return self.root / checked_name(name)

    def versions(self, name: str) -> Path:
        """The folder of its published bundles."""
        return self.folder(name) / "versions"

    def _digest_of(self, name: str, alias: str) -> str:
        match alias:
            case "champion" | "":
                digest = self.champion(name)
            case "previous":
                digest = self._previous(name)
            case _:
                return self._digest_from_prefix(name, alias)
        if digest is None:
            raise BundleNotFound(f"{name}@{alias or 'champion'}: nothing was promoted under that name in {self.root}")
        return digest

    def _digest_from_prefix(self, name: str, prefix: str) -> str:
        if len(prefix) < LEAST_PREFIX or not re.fullmatch(r"[0-9a-f]+", prefix):
            raise UsageError(
                f"{name}@{prefix}: expected champion, previous, or at least {LEAST_PREFIX} characters of a digest"
            )
        found = [path.name for path in self.versions(name).glob(f"{prefix}*")]
        if not found:
            raise BundleNotFound(f"{name}@{prefix}: no version begins like that in {self.versions(name)}")
        if len(found) > 1:
            raise UsageError(f"{name}@{prefix}: {len(found)} versions begin like that; give more of the digest")
        return found[0]

    def _previous(self, name: str) -> str | None:
        pointer = self._pointer(name)
        return None if pointer is None else pointer.get("previous")

    def _pointer(self, name: str) -> dict[str, Any] | None:
        path = self.folder(name) / "champion"
        try:
            record: Any = json.loads(path.read_bytes())
            if not re.fullmatch(r"[0-9a-f]{64}", record["digest"]):
                raise ValueError("its digest is no digest")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise StoreRefused(f"{path} is damaged ({error}): run `bundlegate audit {name}`") from None
        return record

    def _ledger(self, name: str) -> Ledger:
        return Ledger(self.folder(name) / "ledger.jsonl")

    @contextlib.contextmanager
    def _writing(self, name: str) -> Generator[Path]:
        """Hold the model's lock, with what a killed writer left already mended."""
        folder = self.folder(name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock", timeout=self.lock_timeout_s)
            lock.acquire()
        except Timeout:
            raise Busy(f"{name}: {_holder(folder)} has held the store's lock for {self.lock_timeout_s:.0f} s") from None
        except OSError as error:
            raise storage_failed(f"writing into {folder}", error, "nothing was changed") from error
        try:
            with contextlib.suppress(OSError):
                (folder / ".lock").write_text(_identity(), encoding="utf-8")
            self._recover(name, folder)
            yield folder
        finally:
            lock.release()

    def _recover(self, name: str, folder: Path) -> None:
        """Put the pointer where the ledger says, and remove copies that nobody finished."""
        self._ledger(name).refuse_damage()
        moves = [entry for entry in self.history(name) if entry.body["action"] in CHAMPION_ACTIONS]
        pointer = self._pointer(name)
        if moves and (pointer is None or pointer["sequence"] < moves[-1].sequence):
            self._point(folder, moves[-1])
        for parent in (folder / "versions", folder / "quarantine"):
            for leftover in parent.glob(".*.copy"):
                shutil.rmtree(leftover, ignore_errors=True)

    def _publish(self, name: str, bundle_dir: Path, digest: str) -> Path:
        path = self.versions(name) / digest
        if path.is_dir():
            problems = version_problems(path)
            if problems:
                raise BundleRefused(f"version {digest[:12]} is in the store but damaged: {problems[0]}")
            return path
        copy = _copy_beside(bundle_dir, path)
        try:
            problems = check_files(copy, read_manifest(copy))
            if bundle_digest(copy) != digest or problems:
                raise BundleRefused(f"{bundle_dir} changed while it was published: {', '.join(problems)}")
            publish_dir(copy, path)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        return path

    def _point(self, folder: Path, entry: Entry) -> None:
        record = {
            "digest": entry.body["digest"],
            "previous": entry.body.get("champion_before"),
            "sequence": entry.sequence,
            "line": entry.sha256,
            "since": entry.body["time"],
        }
        write_atomic(folder / "champion", dump_json(record))

    def _who_won(self, name: str, champion: str | None) -> str:
        last = self.history(name)[-1].body if self.history(name) else {}
        return (
            f"{name}: {last.get('actor', 'somebody')} made {str(champion)[:12]} the champion at {last.get('time')}, "
            "after this decision was made: decide again"
        )


def checked_name(name: str) -> str:
    """A model's name, which is also a folder's.

    Raises:
        UsageError: it has characters that a name can't have.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(f"model name {name!r}: letters, digits, dot, dash and underscore only, at most 64, none first")
    return name


def check_verdict(verdict: Verdict, bundle_dir: Path) -> None:
    """Refuse to act on a verdict that didn't pass, that is about another bundle, or whose bundle has changed since.

    Raises:
        GateRefused: the first two.
        BundleRefused: the last.
    """
    if not verdict.passed:
        raise GateRefused(f"the verdict on {verdict.digest[:12]} is {verdict.outcome}: {verdict.reason}")
    digest = bundle_digest(bundle_dir)
    if digest != verdict.digest:
        raise GateRefused(f"the verdict is about {verdict.digest[:12]}, the bundle at {bundle_dir} is {digest[:12]}")
    problems = check_files(bundle_dir, read_manifest(bundle_dir))
    if problems:
        raise BundleRefused(f"{bundle_dir} has changed since its verdict: {problems[0]}")


def version_problems(path: Path) -> list[str]:
    """What isn't so any more in a published version; its folder's name is its digest."""
    try:
        digest = bundle_digest(path)
        if digest != path.name:
            return [f"its manifest has the digest {digest[:12]}"]
        return check_files(path, read_manifest(path))
    except (BundleNotFound, BundleRefused) as error:
        return [str(error)]


def _pointer_problems(pointer: dict[str, Any] | None, entries: list[Entry]) -> list[str]:
    moves = [entry for entry in entries if entry.body.get("action") in CHAMPION_ACTIONS]
    if pointer is None:
        return ["the champion's pointer is gone"] if moves else []
    line = next((entry for entry in moves if entry.sha256 == pointer.get("line")), None)
    if line is None or line.body["digest"] != pointer["digest"]:
        return ["the champion's pointer names a bundle that no line of the ledger promoted: it was moved by hand"]
    if line is not moves[-1]:
        return ["the champion's pointer is older than the ledger's last promotion: the next write mends it"]
    return []


def _keep_verdict(folder: Path, verdict: Verdict) -> None:
    place = folder / "verdicts" / f"{verdict.sha256}.json"
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        write_atomic(place, verdict.to_json())


def _copy_beside(source: Path, target: Path) -> Path:
    """A copy in `target`'s folder under a name that readers don't look at."""
    target.parent.mkdir(exist_ok=True)
    copy = target.with_name(f".{target.name}.{secrets.token_hex(4)}.copy")
    try:
        shutil.copytree(source, copy, symlinks=True)
    except OSError as error:
        shutil.rmtree(copy, ignore_errors=True)
        raise storage_failed(f"copying {source} into the store", error, "nothing was published") from error
    return copy


def _body(
    action: str, digest: str, actor: str | None, note: dict[str, Any] | None, more: dict[str, Any]
) -> dict[str, Any]:
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"action": action, "time": time, "actor": actor or whoami(), "digest": digest, "note": note or {}, **more}


def whoami() -> str:
    """`user@host`, for the ledger."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _identity() -> str:
    return f"process {os.getpid()} of {whoami()}"


def _holder(folder: Path) -> str:
    try:
        return (folder / ".lock").read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"
