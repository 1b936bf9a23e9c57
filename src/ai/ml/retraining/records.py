"""What a finished step leaves behind: small records of paths with the sha-256 that makes them believable.

A record is never taken at its word: `problems` hashes what it points to, and a step whose record has problems is done
again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from ai.ml.core.bundle_dir import bundle_digest, check_files, current_versions, read_manifest
from ai.ml.core.errors import BundlegateError, ExitCode
from ai.ml.core.files.atomic import dump_json, sha256_bytes, sha256_file

if TYPE_CHECKING:
    from ai.ml.core.contract.drift import DriftReport


class Record(BaseModel):
    """A frozen record that Prefect stores as JSON."""

    model_config = ConfigDict(frozen=True)


class FileRef(Record):
    """A file with its sha-256."""

    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRef:
        """Hash the file as it is now."""
        path = path.absolute()
        return cls(path=str(path), size=path.stat().st_size, sha256=sha256_file(path))

    def problems(self) -> Iterator[str]:
        """One sentence if the file is missing or has other content."""
        path = Path(self.path)
        if not path.is_file():
            yield f"{path} is gone"
        elif path.stat().st_size != self.size or sha256_file(path) != self.sha256:
            yield f"{path} has changed"


class BundleRef(Record):
    """A bundle directory with its digest."""

    path: str
    digest: str

    def problems(self) -> Iterator[str]:
        """One sentence per file that is missing or changed; every file of the bundle is hashed."""
        path = Path(self.path)
        try:
            if bundle_digest(path) != self.digest:
                yield f"{path} holds another bundle"
            else:
                yield from check_files(path, read_manifest(path))
        except BundlegateError as error:
            yield str(error)


class DataRef(Record):
    """The table of a run, as it was read."""

    file: FileRef
    """Parquet, every cell as it arrived."""
    source: str
    rows: int
    columns: tuple[str, ...]
    fingerprint: str
    reading: dict[str, Any] = {}
    """`Reading.to_json` of the configured reading options."""


class CandidateRef(Record):
    """A trained, sealed, not yet proven bundle."""

    bundle: BundleRef
    holdout: FileRef
    """Parquet: the rows that the model has not seen, target included."""
    history: FileRef
    """JSON: one record per epoch."""
    metrics: dict[str, Any]
    findings: tuple[str, ...]
    baselines: tuple[dict[str, Any], ...] = ()
    """Simpler models on the same split: name, metric, value, the candidate's own, the gain and its interval."""
    trials: tuple[dict[str, Any], ...] = ()
    """Of a search: number, settings, validation loss, epochs, seconds."""
    target: str = ""
    """What is predicted: column, task, and the classes with their counts or the range."""


class VerdictRef(Record):
    """The gate's verdict on a bundle, and its file."""

    digest: str
    outcome: str
    reason: str
    file: FileRef


class ScoredRef(Record):
    """A file of answers."""

    file: FileRef
    rows: int


class DecisionRecord(Record):
    """PROMOTE, HOLD or REJECT, and why."""

    outcome: Literal["PROMOTE", "HOLD", "REJECT"]
    reason: str
    champion: str | None
    """Digest of the champion that the challenger was compared with."""
    document: dict[str, Any]
    """Metrics and intervals, as the ledger keeps them."""


class Approval(Record):
    """What a person answered; who it was is their own word, as the ledger keeps it."""

    approved: bool
    approver: str
    reason: str


class PromotionRecord(Record):
    """What became of the candidate in the store."""

    outcome: Literal["PROMOTED", "HELD", "REJECTED"]
    digest: str
    path: str
    """Path of the champion after this run; empty where there is none."""
    sentence: str


class RollbackRecord(Record):
    """A former champion that is live again."""

    digest: str
    previous: str | None
    """Digest of the champion that it replaced."""
    sentence: str


class ReportRef(Record):
    """A candidate's card and report."""

    card: FileRef
    """Markdown."""
    page: FileRef
    """One HTML file that fetches nothing."""


class DriftRecord(Record):
    """How far a table has moved from the one that a bundle was trained on."""

    against: str
    """Digest of that bundle."""
    severity: Literal["stable", "moderate", "major"] | None
    """None: the table doesn't meet the bundle's contract, so it can't be compared."""
    sentence: str
    document: dict[str, Any]
    """`DriftReport.to_json`; empty where it can't be compared."""

    @classmethod
    def of(cls, report: DriftReport, against: str) -> DriftRecord:
        """Keep a report with the digest of the bundle that it is about."""
        return cls(against=against, severity=report.severity, sentence=report.sentence, document=report.to_json())


class RetrainSummary(Record):
    """A whole run in one record."""

    name: str
    data: DataRef
    drift: DriftRecord | None = None
    """From the champion's training table; None without a champion, or if it isn't configured."""
    candidate: CandidateRef
    verdict: VerdictRef
    decision: DecisionRecord
    approval: Approval | None = None
    """None where no person was asked."""
    promotion: PromotionRecord
    scored: ScoredRef
    report: ReportRef | None = None
    """None where it wasn't wanted or couldn't be made."""

    @property
    def exit_code(self) -> ExitCode:
        """Exit code: 0 promoted, 3 held, 1 rejected."""
        outcomes = {"PROMOTED": ExitCode.OK, "HELD": ExitCode.HOLD, "REJECTED": ExitCode.REFUSED}
        return outcomes[self.promotion.outcome]


def problems(record: object) -> list[str]:
    """Everything that a record, or a structure with records in it, points to and that is no longer so."""
    match record:
        case FileRef() | BundleRef():
            return list(record.problems())
        case BaseModel():
            return [sentence for name in type(record).model_fields for sentence in problems(getattr(record, name))]
        case dict():
            return [sentence for value in record.values() for sentence in problems(value)]
        case list() | tuple():
            return [sentence for value in record for sentence in problems(value)]
        case _:
            return []


def content_key(*parts: object) -> str:
    """A sha-256 over JSON-able parts, pydantic models included: the same content gives the same key anywhere."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    return sha256_bytes(dump_json(plain))


@cache
def code_version() -> str:
    """A sha-256 over our own sources and the versions of the libraries that decide the bits."""
    # The CPU's capability counts, and only torch knows it: the same for who has imported it by now and who hasn't.
    import_module("torch")
    spec = find_spec("ai.ml")
    digest = hashlib.sha256(dump_json(current_versions()))
    for root in sorted(spec.submodule_search_locations or []) if spec else []:
        for source in sorted(Path(root).rglob("*.py")):
            digest.update(f"{source.relative_to(root).as_posix()} {sha256_file(source)}\n".encode())
    return digest.hexdigest()
