"""Where bundles live: immutable versions, one pointer to the champion, and the ledger of every decision.

Promotion: check the verdict, publish the version and hash what was published, keep the verdict, write the ledger line,
replace the pointer. The **ledger line is the commit**. A process killed before it has changed nothing that counts; one
killed between line and pointer leaves the old champion live, and the next writer puts the pointer where the ledger
says. Readers take no lock: they read the pointer, which is replaced whole, and find a version that was whole before its
name appeared.

Writers of a folder wait for each other's lock. A bucket has none: there a line is an object that is created only if
its number is free, so of two writers one is told to look again. Either way each decision is taken on the state that its
line follows.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ai.ml.core.errors import (
    BundlegateError,
    BundleNotFound,
    BundleRefused,
    Busy,
    GateRefused,
    StoreRefused,
    UsageError,
)
from ai.ml.core.tables.locations import is_url
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.store.backend import POINTER_ACTIONS, RETIRED, VERDICT_NAME, LineTaken, Pointer, StoreBackend
from ai.ml.retraining.store.checked import CheckedLedger, check
from ai.ml.retraining.store.ledger import Entry
from ai.ml.retraining.store.location import checked_name, model_names, open_backend
from ai.ml.retraining.store.promotion import Promotion
from ai.ml.retraining.store.retention import prunable, refuse_during_removal, remove_pruned
from ai.ml.retraining.store.state import (
    ModelState,
    as_it_is,
    champion_changes,
    check_verdict,
    last_promotion,
    line_body,
    recovered_state,
    refuse_damaged,
    refuse_overtaken,
)
from ai.ml.retraining.store.veto import further_back

LOCK_TIMEOUT_S = 30.0
MIN_PREFIX = 6
ALIASES = ("champion", "previous", "", None)
"""What `NAME@…` may be besides the beginning of a digest."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Store:
    """The models of one folder or bucket prefix."""

    root: Path | str
    """A folder, or `s3://BUCKET/PREFIX`."""
    lock_timeout_s: float = LOCK_TIMEOUT_S

    def models(self) -> list[str]:
        """Names of the models that anything was decided about, sorted. Raises as `model_names` does."""
        return [name for name in model_names(self.root) if self.backend(name).exists()]

    def resolve(self, reference: str) -> Path:
        """The bundle directory that `NAME@champion`, `NAME@previous` or `NAME@DIGEST` names; takes no lock.

        From a bucket it is downloaded into a cache on this machine, and hashed before it is believed.

        Raises:
            BundleNotFound: there is none.
            BundleRefused: what lies there isn't that bundle, or the champion's version is gone.
            UsageError: the reference isn't of that form, or a digest prefix is too short or ambiguous.
        """
        name, _, alias = reference.partition("@")
        digest = self.digest_of(name, alias)
        while True:
            try:
                return self.backend(name).fetch(digest)
            except BundleNotFound as gone:
                # Replaced and pruned between the look at the pointer and the look at the version.
                before, digest = digest, self.digest_of(name, alias)
                if digest == before and alias in ("champion", ""):
                    raise BundleRefused(str(gone)) from None
                if digest == before:
                    raise

    def pin(self, reference: str) -> str:
        """The same reference as `NAME@DIGEST`, whole: it names that bundle whatever is promoted later.

        Raises:
            BundleNotFound: there is none.
            UsageError: as of `resolve`.
        """
        name, _, alias = reference.partition("@")
        return f"{name}@{self.digest_of(name, alias)}"

    def digest_of(self, name: str, alias: str) -> str:
        """The digest that `champion`, `previous` or a prefix of it names."""
        if alias not in ALIASES:
            return self._promoted_once(name, self._digest_from_prefix(name, alias))
        pointer = self.pointer(name)
        digest = pointer and (pointer.previous if alias == "previous" else pointer.digest)
        if pointer is not None and digest is None and alias != "previous":
            raise BundleNotFound(
                f"{name}@champion: {str(pointer.previous)[:12]} was retired at {pointer.since}; `bundlegate rollback "
                f"{name}` brings it back, and {name}@previous names it as long as nothing is the champion"
            )
        if digest is None:
            raise BundleNotFound(f"{name}@{alias or 'champion'}: nothing was promoted under that name in {self.root}")
        return digest

    def champion(self, name: str) -> str | None:
        """Digest of the live bundle; None if nothing was promoted yet."""
        pointer = self.pointer(name)
        return None if pointer is None else pointer.digest

    def pointer(self, name: str) -> Pointer | None:
        """What the champion's pointer says; raises as `check`."""
        return self.checked(name).pointer

    def checked(self, name: str) -> CheckedLedger:
        """Ledger and pointer, once they are found to hold together; raises as `check`."""
        return check(self.backend(name), name)

    def history(self, name: str) -> list[Entry]:
        """Every decision, oldest first; raises as `check`."""
        return self.checked(name).entries

    def retirement(self, name: str) -> Entry | None:
        """The ledger's line that retired the champion; None unless that is how things are."""
        change = self.checked(name).change
        return change if change is not None and change.action == RETIRED else None

    def promotion_of(self, name: str, digest: str) -> Entry:
        """The ledger's last line that made a bundle the champion.

        Raises:
            StoreRefused: there is none.
        """
        return last_promotion(self.checked(name).about(digest), name, digest)

    def promote(
        self,
        name: str,
        bundle_dir: Path,
        verdict: Verdict,
        *,
        decision: dict[str, Any],
        note: dict[str, Any] | None = None,
        expected_champion: Any = ...,
    ) -> Promotion:
        """Publish a proven bundle and make it the champion; once, however often it is called.

        Args:
            name: of the model.
            bundle_dir: sealed; it is copied, and the copy is hashed.
            verdict: must name this bundle's digest and have passed.
            decision: why it replaces the champion, as the ledger keeps it.
            note: volatile lineage, such as the flow run.
            expected_champion: what the decision was made against; another champion now means somebody was faster.

        Raises:
            GateRefused: the verdict didn't pass, or is about another bundle.
            BundleRefused: the bundle isn't what its manifest says.
            Busy: somebody else holds the lock, or promoted another champion since the decision.
            StorageFailed: the disk refused; the champion is as it was.
        """
        check_verdict(verdict, bundle_dir)
        digest = verdict.digest

        def step(state: ModelState) -> Promotion:
            address = state.backend.address("versions", digest)
            if state.champion == digest:
                refuse_damaged(state.backend, digest)
                entry = last_promotion(state.snapshot.entries, name, digest)
                return Promotion(digest, address, state.previous, entry, already=True)
            refuse_overtaken(name, state, expected_champion)
            refuse_during_removal(name, state, digest)
            state.backend.publish("versions", digest, bundle_dir, {})
            refuse_damaged(state.backend, digest)
            state.backend.keep_verdict(verdict.sha256, verdict.to_json())
            before = state.before(digest)
            more = {"verdict": verdict.sha256, "decision": decision, "champion_before": before}
            entry = state.backend.append(state.snapshot, line_body("promoted", digest, note, more), point=True)
            return Promotion(digest, address, before, entry, already=False)

        return self._write(name, step)

    def retire(self, name: str, *, reason: str) -> Entry:
        """Take the champion out of service: `NAME@champion` names nothing until a rollback or a promotion.

        Raises:
            BundleNotFound: there is no champion.
        """

        def step(state: ModelState) -> Entry:
            if state.champion is None:
                raise BundleNotFound(f"{name}: there is no champion to retire")
            body = line_body(RETIRED, state.champion, None, {"reason": reason})
            return state.backend.append(state.snapshot, body, point=True)

        return self._write(name, step)

    def record(
        self,
        name: str,
        action: str,
        verdict: Verdict,
        *,
        note: dict[str, Any] | None = None,
        **body: Any,
    ) -> Entry:
        """Write a decision that leaves the champion as it is: `held`, `rejected`; once for the same digest in a row."""
        if action in POINTER_ACTIONS:
            raise StoreRefused(f"{action!r} moves the champion: use promote or rollback")

        def step(state: ModelState) -> Entry:
            last = state.is_last(action, verdict.digest)
            if last is not None:
                return last
            state.backend.keep_verdict(verdict.sha256, verdict.to_json())
            more = {"verdict": verdict.sha256, **body}
            return state.backend.append(state.snapshot, line_body(action, verdict.digest, note, more), point=False)

        return self._write(name, step)

    def quarantine(self, name: str, bundle_dir: Path, verdict: Verdict, *, note: dict[str, Any] | None = None) -> str:
        """Keep a refused bundle apart, with its verdict, and write the refusal into the ledger; returns where it is."""
        directory = verdict.digest or f"unsealed-{verdict.sha256[:16]}"

        def step(state: ModelState) -> str:
            state.backend.publish("quarantine", directory, bundle_dir, {VERDICT_NAME: verdict.to_json()})
            state.backend.keep_verdict(verdict.sha256, verdict.to_json())
            if state.is_last("refused", verdict.digest) is None:
                more = {"verdict": verdict.sha256, "reason": verdict.reason}
                state.backend.append(state.snapshot, line_body("refused", verdict.digest, note, more), point=False)
            return state.backend.address("quarantine", directory)

        return self._write(name, step)

    def former(self, name: str, to: str | None = None) -> str:
        """The digest of the former champion that a rollback would bring back; never what a rollback has left before.

        Raises:
            UsageError: nothing was promoted before, or `to` was never a champion or is it already.
        """
        checked = self.checked(name)
        if to or checked.pointer is None or checked.pointer.digest is None:  # what was retired comes back first
            digest = self.digest_of(name, to or "previous") if to in ALIASES else self._digest_from_prefix(name, to)
        else:
            digest = further_back(name, checked.entries, checked.pointer.digest)
        if checked.pointer is not None and digest == checked.pointer.digest:
            raise UsageError(f"{name}: {digest[:12]} is the champion already")
        if digest not in {entry.digest for entry in champion_changes(checked.entries)}:
            raise UsageError(f"{name}: {digest[:12]} was never the champion; only a former one can come back")
        return digest

    def rollback(self, name: str, to: str | None = None, *, reason: str, prove: Callable[[Path], Verdict]) -> Promotion:
        """Make a former champion live again, after proving it again here and now.

        Raises:
            UsageError: as `former`.
            GateRefused: the former champion no longer passes the gate.
            Busy: another champion was promoted while this one was proved.
        """
        champion, digest = self.champion(name), self.former(name, to)
        path = self.backend(name).fetch(digest)
        verdict = prove(path)
        check_verdict(verdict, path)
        if verdict.digest != digest:
            raise GateRefused(f"the verdict is about {verdict.digest[:12]}, not about {digest[:12]}")

        def step(state: ModelState) -> Promotion:
            refuse_overtaken(name, state, champion)
            refuse_during_removal(name, state, digest)
            refuse_damaged(state.backend, digest)
            state.backend.keep_verdict(verdict.sha256, verdict.to_json())
            before = state.before(digest)
            more = {"verdict": verdict.sha256, "reason": reason, "champion_before": before}
            entry = state.backend.append(state.snapshot, line_body("rolled-back", digest, None, more), point=True)
            return Promotion(digest, state.backend.address("versions", digest), before, entry, already=False)

        return self._write(name, step)

    def prunable(self, name: str, keep: int, *, keep_quarantine: int = 10, grace_s: float = 3600.0) -> list[str]:
        """What `prune` would remove; nothing is written."""
        state = as_it_is(self.backend(name), name)
        going = prunable(state, keep, keep_quarantine, grace_s)
        return [state.backend.address(section, digest) for section, digest in going]

    def prune(self, name: str, keep: int, *, keep_quarantine: int = 10, grace_s: float = 3600.0) -> list[str]:
        """Remove old versions and refused bundles; the ledger says which, before they go.

        Args:
            name: of the model.
            keep: versions that stay, counted by when they last became the champion. Champion and previous stay
                whatever their age.
            keep_quarantine: refused bundles that stay, the latest.
            grace_s: a version that was the champion within these seconds stays too, for a reader that has resolved it
                and is still loading.

        Returns:
            Where they were.
        """

        def step(state: ModelState) -> list[str]:
            removable = prunable(state, keep, keep_quarantine, grace_s)
            if not removable:
                return []
            removed = {section: [name for part, name in removable if part == section] for section, _ in removable}
            state.backend.append(
                state.snapshot, line_body("pruned", state.champion or "", None, {"removed": removed}), point=False
            )
            return remove_pruned(state, removable)

        return self._write(name, step)

    def recover(self, name: str) -> None:
        """Put the pointer where the ledger says and sweep what killed writers left, as the next writer would do first.

        Raises:
            StoreRefused: a line is damaged or gone, or the pointer says what no line made.
            Busy: somebody else holds the lock.
        """
        if self.backend(name).exists():
            self._write(name, lambda state: None)

    def backend(self, name: str) -> StoreBackend:
        """The storage of one model.

        Raises:
            UsageError: that is no name, or the store's address is none.
        """
        return open_backend(self.root, checked_name(name), self.lock_timeout_s)

    def folder(self, name: str) -> Path:
        """Everything of one model, where the store is a folder.

        Raises:
            UsageError: it is none.
        """
        if is_url(self.root):
            raise UsageError(f"{self.root} is no folder")
        return Path(self.root) / checked_name(name)

    def _promoted_once(self, name: str, digest: str) -> str:
        """A version by its digest is served only if the ledger knows it."""
        last_promotion(self.checked(name).about(digest), name, digest)
        return digest

    def _digest_from_prefix(self, name: str, prefix: str) -> str:
        if len(prefix) < MIN_PREFIX or not re.fullmatch(r"[0-9a-f]+", prefix):
            raise UsageError(
                f"{name}@{prefix}: expected champion, previous, or at least {MIN_PREFIX} characters of a digest"
            )
        found = [version for version in self.backend(name).names("versions") if version.startswith(prefix)]
        if not found:
            raise BundleNotFound(f"{name}@{prefix}: no version begins like that in {self.root}")
        if len(found) > 1:
            raise UsageError(f"{name}@{prefix}: {len(found)} versions begin like that; give more of the digest")
        return found[0]

    def _write(self, name: str, step: Callable[[ModelState], Result]) -> Result:
        """Take a step on the state as it is; again, if another writer's line came first."""
        backend = self.backend(name)
        deadline = time.monotonic() + self.lock_timeout_s
        while True:
            try:
                with backend.writing():
                    result = step(recovered_state(backend, name))
                # This machine remembers what it wrote; the decision stands if it can't.
                with contextlib.suppress(BundlegateError):
                    check(backend, name)
                return result
            except LineTaken:
                if time.monotonic() > deadline:
                    raise Busy(
                        f"{name}: other writers were faster for {self.lock_timeout_s:g} s; try again later"
                    ) from None
