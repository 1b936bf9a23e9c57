"""A candidate that waits for a person: kept apart until the answer, and verified again then.

The answer may take days, and other runs of the same model go on meanwhile. So the candidate is copied into a folder of
its own, `work/awaiting-RUN`, which no later run prunes while the time to answer lasts.
"""

from __future__ import annotations

import secrets
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ai.ml.core.errors import BundleNotFound, BundleRefused, Busy
from ai.ml.core.files.atomic import dump_json, publish_dir, write_atomic
from ai.ml.retraining.decision.borderline import borderline_reason
from ai.ml.retraining.records import (
    Approval,
    BundleRef,
    CandidateRef,
    DataRef,
    DecisionRecord,
    DriftRecord,
    FileRef,
    Record,
    VerdictRef,
    problems,
)
from ai.ml.retraining.runs.work_folder import HISTORY_NAME, HOLDOUT_NAME, KEEP_RUNS, work_dir
from ai.ml.retraining.settings.retrain import RetrainConfig
from ai.ml.retraining.store.backend import VERDICT_NAME
from ai.ml.retraining.store.store import Store

REQUEST, ANSWER = "request.json", "answer.json"


class Proposal(Record):
    """What a run has made and would promote."""

    data: DataRef
    drift: DriftRecord | None
    candidate: CandidateRef
    verdict: VerdictRef
    decision: DecisionRecord


class ApprovalRequest(Record):
    """A question to a person: the candidate, the champion and the decision."""

    key: str
    """Digest of the candidate, digest of the champion it would replace, and a number drawn by chance: an answer is
    given to this very question or to none."""
    until: str
    """ISO time, UTC: the end of the time to answer."""
    draft: Proposal

    @property
    def expired(self) -> bool:
        """Whether the time to answer is over."""
        return datetime.now(UTC) > datetime.fromisoformat(self.until)


def needs_person(config: RetrainConfig, draft: Proposal) -> bool:
    """Whether a person must be asked: only where the champion would be replaced."""
    decision, asks = draft.decision, config.approval.approve
    if config.dry_run or decision.outcome != "PROMOTE" or decision.champion == draft.candidate.bundle.digest:
        return False
    return asks == "human" or (asks == "borderline" and borderline_reason(decision.document) is not None)


def create_request(config: RetrainConfig, run: str, draft: Proposal, seconds: float) -> ApprovalRequest:
    """Copy the candidate and its verdict into the folder of waiting requests, and write the request beside them.

    Args:
        config: of the run.
        run: its id.
        draft: what it made.
        seconds: the time to answer.

    Raises:
        BundleRefused: the copy isn't what was proved.
    """
    folder = _folder(config, run)
    building = folder.with_suffix(".building")
    for leftover in (building, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    made = Path(draft.candidate.bundle.path).parent
    shutil.copytree(made, building, ignore=shutil.ignore_patterns("report"))
    shutil.copyfile(draft.verdict.file.path, building / VERDICT_NAME)
    key = request_key(draft.candidate.bundle.digest, draft.decision.champion)
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    request = ApprovalRequest(key=key, until=until.isoformat(), draft=_moved(draft, folder))
    write_atomic(building / REQUEST, dump_json(request.model_dump(mode="json")))
    publish_dir(building, folder)
    _refuse_changed(request)
    _prune(work_dir(config))
    return request


def request_key(digest: str, champion: str | None) -> str:
    """What binds an answer to a question."""
    return f"{digest}-{champion or 'none'}-{secrets.token_hex(8)}"


def load_request(config: RetrainConfig, run: str, keys: set[str]) -> ApprovalRequest:
    """The request of a resumed run, with all of its files hashed again.

    Args:
        config: of the run.
        run: its id.
        keys: those under which it has asked, as the server remembers them.

    Raises:
        BundleNotFound: what was asked about is gone, or isn't what this run asked about.
        BundleRefused: it has changed.
        Busy: another champion was made meanwhile.
    """
    file = _folder(config, run) / REQUEST
    try:
        request = ApprovalRequest.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise BundleNotFound(f"what approval was asked for is gone from {file.parent}: nothing is promoted") from None
    except ValueError:
        raise BundleRefused(f"{file} can't be read: nothing is promoted") from None
    draft = request.draft
    subject = f"{draft.candidate.bundle.digest}-{draft.decision.champion or 'none'}-"
    if request.key not in keys or not request.key.startswith(subject):
        raise BundleRefused(f"{file} isn't what this run asked approval for: nothing is promoted")
    verify_request(config, request)
    return request


def verify_request(config: RetrainConfig, request: ApprovalRequest) -> None:
    """Verify the request's files again after the answer.

    Raises:
        BundleRefused: the candidate or its verdict has changed, or is gone.
        Busy: another champion was made meanwhile, so the question is outdated.
    """
    _refuse_changed(request)
    champion = Store(config.store).champion(config.name)
    before = request.draft.decision.champion
    if champion != before:
        digest = request.draft.candidate.bundle.digest
        raise Busy(
            f"{config.name}: the approval asked for {digest[:12]} is outdated: the champion was {_short(before)} then "
            f"and is {_short(champion)} now; nothing is promoted, run it again to decide against that one"
        )


def mark_answered(config: RetrainConfig, run: str, approval: Approval) -> None:
    """Write down that it was answered: later runs may clear it away."""
    write_atomic(_folder(config, run) / ANSWER, dump_json(approval.model_dump(mode="json")))


def declined(decision: DecisionRecord, approval: Approval) -> DecisionRecord:
    """The decision after a person said no: HOLD, for their reason."""
    reason = f"declined by {approval.approver}: {approval.reason}"
    document = {**decision.document, "outcome": "HOLD", "reason": reason, "would_be": decision.reason}
    return decision.model_copy(update={"outcome": "HOLD", "reason": reason, "document": document})


def _folder(config: RetrainConfig, run: str) -> Path:
    return work_dir(config) / f"awaiting-{run}"


def _moved(draft: Proposal, folder: Path) -> Proposal:
    candidate, verdict = draft.candidate, draft.verdict

    def at(file: FileRef, name: str) -> FileRef:
        return file.model_copy(update={"path": str(folder / name)})

    moved = candidate.model_copy(
        update={
            "bundle": BundleRef(path=str(folder / "bundle"), digest=candidate.bundle.digest),
            "holdout": at(candidate.holdout, HOLDOUT_NAME),
            "history": at(candidate.history, HISTORY_NAME),
        }
    )
    proof = verdict.model_copy(update={"file": at(verdict.file, VERDICT_NAME)})
    return draft.model_copy(update={"candidate": moved, "verdict": proof})


def _refuse_changed(request: ApprovalRequest) -> None:
    changed = problems([request.draft.candidate, request.draft.verdict])
    if changed:
        raise BundleRefused(
            f"what approval was asked for isn't there as it was proved: {changed[0]}; nothing is promoted"
        )


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:12]


def _prune(work: Path) -> None:
    """Remove the requests that were answered or have expired, except the latest."""
    done = [folder for folder in work.glob("awaiting-*") if folder.is_dir() and _is_closed(folder)]
    for folder in sorted(done, key=lambda path: path.stat().st_mtime)[:-KEEP_RUNS]:
        shutil.rmtree(folder, ignore_errors=True)


def _is_closed(folder: Path) -> bool:
    if (folder / ANSWER).is_file():
        return True
    try:
        return ApprovalRequest.model_validate_json((folder / REQUEST).read_bytes()).expired
    except (OSError, ValueError):
        return True
