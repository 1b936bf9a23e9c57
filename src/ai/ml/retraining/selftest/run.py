"""The gate tried on itself: known defects are seeded into copies of a bundle, and each must be refused.

A check that can't fail proves nothing, and which checks can fail depends on the bundle: on its columns, its medians,
its task. So this runs on the user's own. A defect that leaves the very bytes as they were (medians rounded to float32
that were float32 numbers already) is no defect there; that it did nothing is shown by the sha-256. Undamaged copies,
made in the same ways, must pass: a gate that refuses everything would catch every defect.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ai.ml.core.bundle_dir import bundle_digest, read_manifest
from ai.ml.core.errors import BundlegateError, BundleRefused, ExitCode, GateRefused, NothingChecked
from ai.ml.core.files.scratch import scratch_folder
from ai.ml.retraining.gate.checks import Finding
from ai.ml.retraining.gate.environments import JobRequest, current_environment, run_jobs
from ai.ml.retraining.gate.proof import Precheck, compare, finding_of, inconclusive_error, precheck, prove
from ai.ml.retraining.gate.verdict import CheckResult
from ai.ml.retraining.selftest.defect import CONTROLS, Copy, Defect, NotApplicable
from ai.ml.retraining.selftest.directory import DIRECTORY_DEFECTS
from ai.ml.retraining.selftest.preprocessing import PREPROCESSING_DEFECTS
from ai.ml.retraining.selftest.weights import WEIGHT_DEFECTS
from ai.ml.retraining.settings.defaults import GATE_TIMEOUT_S
from ai.ml.retraining.settings.gate import GatePolicy

CATALOGUE = (*CONTROLS, *WEIGHT_DEFECTS, *PREPROCESSING_DEFECTS, *DIRECTORY_DEFECTS)
STEPS = ("structure", "replay", "fixpoint")
"""The steps that can catch a defect in the saved content; variants of the input can't."""

Fate = Literal["caught", "passed", "no change", "not applicable"]


@dataclass(frozen=True)
class DefectResult:
    """The outcome of one defect: caught, let through, or not applicable."""

    name: str
    family: str
    fate: Fate
    checks: tuple[str, ...]
    """The checks that refused it, in the order they ran; any one of them is enough."""
    message: str
    """The first check's sentence; why the defect changes nothing; or which part the bundle lacks."""
    difference: Mapping[str, Any] | None = None
    """The first difference that those checks saw: row, column, expected, got, ulp."""

    @property
    def wrong(self) -> bool:
        """The gate let a defect through, or refused an undamaged copy."""
        return self.fate == ("caught" if self.family == "control" else "passed")


@dataclass(frozen=True)
class SelftestReport:
    """The outcomes of all defects and controls."""

    digest: str
    results: tuple[DefectResult, ...]

    @property
    def defects(self) -> tuple[DefectResult, ...]:
        """The results of all damaged copies, without those of the undamaged controls."""
        return tuple(result for result in self.results if result.family != "control")

    @property
    def passed(self) -> tuple[DefectResult, ...]:
        """The defects that the gate let through."""
        return tuple(result for result in self.defects if result.wrong)

    @property
    def refused_controls(self) -> tuple[DefectResult, ...]:
        """The undamaged copies that the gate refused."""
        return tuple(result for result in self.results if result.wrong and result.family == "control")

    @property
    def exit_code(self) -> ExitCode:
        """1 if a defect got through or an undamaged copy didn't, 5 if no defect could be tried."""
        if any(result.wrong for result in self.results):
            return ExitCode.REFUSED
        return ExitCode.OK if any(result.fate == "caught" for result in self.defects) else ExitCode.NOTHING_CHECKED

    @property
    def sentence(self) -> str:
        """The outcome in a sentence: refused, let through, not applicable."""
        counts = {fate: sum(result.fate == fate for result in self.defects) for fate in ("caught", "passed")}
        tried = sum(counts.values())
        alone = sum(_by_answers(result) for result in self.defects)
        sentence = (
            f"{counts['caught']} of {tried} defects were refused, {alone} of them for their answers too; "
            f"{len(self.defects) - tried} don't apply to this bundle"
        )
        if self.passed:
            sentence = f"{sentence}; THE GATE LET THROUGH: {', '.join(result.name for result in self.passed)}"
        if self.refused_controls:
            names = ", ".join(result.name for result in self.refused_controls)
            sentence = f"{sentence}; THE GATE REFUSED UNDAMAGED COPIES: {names}"
        return sentence

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return {
            "digest": self.digest,
            "sentence": self.sentence,
            "results": [asdict(result) for result in self.results],
        }


@dataclass(frozen=True)
class _Seeded:
    """A copy with a defect in it, and the gate's precheck."""

    defect: Defect
    prechecked: Precheck


def selftest(
    bundle_dir: Path, catalogue: Sequence[Defect] = CATALOGUE, *, processes: int = 2, timeout_s: float = GATE_TIMEOUT_S
) -> SelftestReport:
    """Seed every defect of a catalogue into a copy of its own, and let the gate judge them all.

    Args:
        bundle_dir: sealed, with evidence; only read.
        catalogue: what to try.
        processes: how many judge at once, each many copies.
        timeout_s: seconds that one of them may take.

    Raises:
        GateRefused, NothingChecked, BundleRefused: the bundle as it is doesn't pass the gate, so that a refusal of a
            copy would prove nothing; with the exit code of its verdict.
        BundleNotFound: there is no bundle in that directory.
        Unproved: a judging process was killed, or found no time, memory or room: that isn't a defect caught.
    """
    whole = prove(bundle_dir, GatePolicy(timeout_seconds=timeout_s))
    if not whole.passed:
        raise _REFUSALS[whole.exit_code](
            f"{bundle_dir} must pass the gate before defects are tried on it: {whole.reason}"
        )
    digest = bundle_digest(bundle_dir)
    results: dict[str, DefectResult] = {}
    waiting: list[_Seeded] = []
    with scratch_folder() as folder:
        for index, defect in enumerate(catalogue):
            copy = Copy(folder / str(index) / "bundle")
            shutil.copytree(bundle_dir, copy.bundle_dir)
            seeded = _seed(defect, copy, bundle_dir, digest)
            if isinstance(seeded, DefectResult):
                results[defect.name] = seeded
            else:
                waiting.append(seeded)
        for result in _compare_all(waiting, folder, processes, timeout_s):
            results[result.name] = result
    return SelftestReport(digest, tuple(results[defect.name] for defect in catalogue))


_REFUSALS: dict[int, type[BundlegateError]] = {
    kind.exit_code: kind for kind in (GateRefused, NothingChecked, BundleRefused)
}


def _by_answers(result: DefectResult) -> bool:
    return result.fate == "caught" and "replay" in result.checks and "loading" not in result.checks


def _content(bundle_dir: Path) -> Any:
    """All that a manifest binds but the versions of who wrote it; None where it can't be read."""
    try:
        manifest = read_manifest(bundle_dir)
    except BundleRefused:
        return None
    sections = (manifest.model, manifest.scoring, manifest.contract, manifest.evidence, manifest.lineage)
    return manifest.files, sections


def _seed(defect: Defect, copy: Copy, whole: Path, digest: str) -> DefectResult | _Seeded:
    """Damage a copy; returns the result of the precheck, or the copy for a fresh process."""
    try:
        defect.seed(copy)
    except NotApplicable as reason:
        return DefectResult(defect.name, defect.family, "not applicable", (), str(reason))
    if defect.family not in ("control", "files") and _content(copy.bundle_dir) == _content(whole):
        proof = "every file has the sha-256 and every section of the manifest the content that it had"
        return DefectResult(defect.name, defect.family, "no change", (), proof)
    # A damaged directory is expected to have the original digest; a wrongly built one has its own.
    prechecked = precheck(copy.bundle_dir, digest if defect.family == "files" else None)
    if prechecked.evidence is not None:
        return _Seeded(defect, prechecked)
    # Also where nothing was left to check: that never passes.
    return _result(defect, [check for check in prechecked.checks if not check.passed])


def _compare_all(waiting: list[_Seeded], folder: Path, processes: int, timeout_s: float) -> list[DefectResult]:
    """Distribute the copies over fresh processes and compare their reports."""
    shares = [waiting[start::processes] for start in range(processes) if waiting[start::processes]]

    def replay(index: int) -> list[DefectResult]:
        requests = [JobRequest(seeded.prechecked.bundle_dir, STEPS) for seeded in shares[index]]
        outcomes = run_jobs(current_environment(), requests, folder / f"work{index}", timeout_s)
        findings = [
            finding_of("current", outcome, seeded.prechecked.digest)
            for seeded, outcome in zip(shares[index], outcomes, strict=True)
        ]
        for finding in findings:
            if finding.inconclusive:
                raise inconclusive_error(finding)
        return [
            _result(seeded.defect, [check for check in _checks(seeded, finding) if check.refused])
            for seeded, finding in zip(shares[index], findings, strict=True)
        ]

    with ThreadPoolExecutor(max(1, len(shares))) as pool:
        return [result for results in pool.map(replay, range(len(shares))) for result in results]


def _checks(seeded: _Seeded, finding: Finding) -> list[CheckResult]:
    return [*seeded.prechecked.checks, *compare(seeded.prechecked, finding, STEPS)]


def _result(defect: Defect, refusals: list[CheckResult]) -> DefectResult:
    if not refusals:
        sentence = "undamaged, and every check agrees" if defect.family == "control" else "no check saw it"
        return DefectResult(defect.name, defect.family, "passed", (), sentence)
    names = tuple(dict.fromkeys(check.name for check in refusals))
    difference = next((check.difference for check in refusals if check.difference is not None), None)
    return DefectResult(defect.name, defect.family, "caught", names, refusals[0].message, difference)
