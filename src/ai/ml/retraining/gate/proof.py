"""The gate: prove that a saved bundle is the model that was trained, or say where it isn't.

The bundle's files are hashed and its evidence is read here; loading, scoring and saving it again happen in fresh
processes that get the directory and nothing else, one per environment. This process only compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai.ml.core.bundle_dir import BUNDLE_NAME, MANIFEST_NAME, Manifest, bundle_digest, read_manifest
from ai.ml.core.contract import InputContract
from ai.ml.core.errors import BundlegateError, BundleNotFound, BundleRefused, NothingChecked, Unproved
from ai.ml.core.files.scratch import scratch_folder
from ai.ml.retraining.evidence.answers import read_answers
from ai.ml.retraining.evidence.evidence import Evidence, read_evidence
from ai.ml.retraining.gate import checks
from ai.ml.retraining.gate.checks import Finding
from ai.ml.retraining.gate.environments import (
    CURRENT,
    EnvironmentSpec,
    JobOutcome,
    JobRequest,
    cpu_environments,
    current_environment,
    python_environments,
    run_jobs,
)
from ai.ml.retraining.gate.verdict import VERDICT_FORMAT, CheckResult, Environment, Verdict
from ai.ml.retraining.settings.gate import GatePolicy

ALL_STEPS = ("replay", "structure", "fixpoint", "invariance")


@dataclass(frozen=True)
class Precheck:
    """The checks of this process on a bundle directory, before a fresh process is started."""

    bundle_dir: Path
    digest: str
    manifest: Manifest | None
    evidence: Evidence | None
    checks: tuple[CheckResult, ...]

    @property
    def replayable(self) -> bool:
        """Whether the files are those of the manifest and there is evidence to replay."""
        return self.evidence is not None and not any(check.refused for check in self.checks)


def prove(bundle_dir: Path, policy: GatePolicy | None = None, *, expect_digest: str | None = None) -> Verdict:
    """Run every check on a bundle directory.

    Args:
        bundle_dir: as `stage_candidate` or `make_evidence` left it; only read.
        policy: which environments to replay in; none but this one by default.
        expect_digest: the digest that the bundle directory must have.

    Returns:
        A verdict, also for a bundle that is damaged or has no evidence.

    Raises:
        BundleNotFound: there is no bundle in that directory.
        UsageError: an interpreter of the policy can't be started or lacks bundlegate.
        StorageFailed: the disk failed, or there is no room for what the processes write.
        Unproved: a process was killed, or found no time, memory or room; and no other check saw a difference.
        NothingChecked: an installation in which no process got so far as to look at the bundle; the same.
    """
    policy = policy or GatePolicy()
    others = python_environments(policy.pythons)
    recorded = _recorded(policy, expect_digest)
    prechecked = precheck(bundle_dir, expect_digest)
    if not prechecked.replayable:
        return Verdict(VERDICT_FORMAT, prechecked.digest, recorded, (), prechecked.checks)
    with scratch_folder() as work_dir:
        current = _replay_in(prechecked, current_environment(), ALL_STEPS, work_dir / "current", policy)
        if current.inconclusive:
            raise inconclusive_error(current)
        results = [*prechecked.checks, *compare(prechecked, current)]
        environments = [_environment(current_environment(), current)]
        if policy.cpu_matrix:
            others = (*cpu_environments(_capability(current)), *others)
        unproved: list[Finding] = []
        for index, spec in enumerate(others):
            finding = _replay_in(prechecked, spec, ("replay",), work_dir / f"other{index}", policy)
            environments.append(_environment(spec, finding))
            results.append(checks.check_replay(finding, _evidence_of(prechecked)))
            unproved += [finding] if finding.inconclusive else []
    verdict = Verdict(VERDICT_FORMAT, prechecked.digest, recorded, tuple(environments), tuple(results))
    if unproved and not verdict.failures:
        raise inconclusive_error(unproved[0])
    return verdict


def precheck(bundle_dir: Path, expect_digest: str | None = None) -> Precheck:
    """Hash the files of a bundle directory, read its evidence and compare its metrics with it.

    Raises:
        BundleNotFound: there is no bundle in that directory.
    """
    if not bundle_dir.is_dir() or not any((bundle_dir / name).exists() for name in (BUNDLE_NAME, MANIFEST_NAME)):
        raise BundleNotFound(
            f"expected a bundle directory with {BUNDLE_NAME} and {MANIFEST_NAME}, found none: {bundle_dir}"
        )
    try:
        manifest = read_manifest(bundle_dir)
        digest = bundle_digest(bundle_dir)
    except BundleNotFound:
        message = "there is no manifest.json, so nothing says what the files should be: run `bundlegate evidence` first"
        absent = CheckResult("integrity", CURRENT, False, {}, message, None, False)
        return Precheck(bundle_dir, "", None, None, (absent,))
    except BundleRefused as refusal:
        return Precheck(bundle_dir, "", None, None, (CheckResult("integrity", CURRENT, False, {}, str(refusal)),))
    integrity = checks.check_integrity(bundle_dir, manifest, digest, expect_digest)
    if integrity.refused:
        return Precheck(bundle_dir, digest, manifest, None, (integrity,))
    try:
        evidence = read_evidence(bundle_dir)
        contract = None if manifest.contract is None else InputContract.from_json(manifest.contract)
        described = checks.check_manifest(manifest, evidence)
        metrics = checks.check_metrics(bundle_dir, evidence, contract)
    except NothingChecked as nothing:
        idle = CheckResult("replay", CURRENT, False, {"rows": 0}, str(nothing), None, False)
        return Precheck(bundle_dir, digest, manifest, None, (integrity, idle))
    except (ValueError, KeyError, TypeError) as error:
        broken = CheckResult("evidence", CURRENT, False, {}, str(error))
        return Precheck(bundle_dir, digest, manifest, None, (integrity, broken))
    return Precheck(bundle_dir, digest, manifest, evidence, (integrity, described, metrics))


def compare(prechecked: Precheck, finding: Finding, steps: tuple[str, ...] = ALL_STEPS) -> list[CheckResult]:
    """Compare what a fresh process found with the evidence, for the requested steps."""
    evidence = _evidence_of(prechecked)
    results = [checks.check_loading(finding)]
    if "structure" in steps:
        results.append(checks.check_structure(finding, evidence.structure))
    if "replay" in steps:
        results.append(checks.check_replay(finding, evidence))
    if "invariance" in steps:
        results.append(checks.check_invariance(finding))
    if "fixpoint" in steps:
        results.append(checks.check_fixpoint(finding, evidence))
    return results


def inconclusive_error(finding: Finding) -> BundlegateError:
    """The error for a process that ended without a word about the bundle, so that there is no verdict on it."""
    message = f"nothing was proved in {finding.environment}: {finding.trouble}"
    if finding.fault == "installation":
        return NothingChecked(f"{message}; that says nothing of the bundle: mend the installation there")
    return Unproved(f"{message}; that says nothing of the bundle: try again (--gate-timeout gives it more seconds)")


def finding_of(name: str, outcome: JobOutcome, digest: str) -> Finding:
    """The report and answers of a process, if they are of the bundle with this digest."""
    found = (outcome.report or {}).get("digest", digest)
    if found != digest:
        return Finding(name, None, None, f"the process found bundle {found[:12]} there, not {digest[:12]}", "bundle")
    answers = None
    if outcome.report is not None and "replay" in outcome.report:
        answers = read_answers(outcome.answers)
    return Finding(name, outcome.report, answers, outcome.failure, outcome.fault)


def _replay_in(
    prechecked: Precheck, spec: EnvironmentSpec, steps: tuple[str, ...], work_dir: Path, policy: GatePolicy
) -> Finding:
    outcome = run_jobs(spec, [JobRequest(prechecked.bundle_dir, steps)], work_dir, policy.timeout_seconds)[0]
    return finding_of(spec.name, outcome, prechecked.digest)


def _recorded(policy: GatePolicy, expect_digest: str | None) -> dict[str, Any]:
    """The policy as a verdict of format 1 holds it."""
    return {
        "pythons": list(policy.pythons),
        "cpu_matrix": policy.cpu_matrix,
        "expect_digest": expect_digest,
        "timeout_s": policy.timeout_seconds,
    }


def _environment(spec: EnvironmentSpec, finding: Finding) -> Environment:
    process: Mapping[str, Any] = {} if finding.report is None else finding.report["environment"]
    return Environment(spec.name, dict(process.get("versions", {})), dict(spec.variables))


def _capability(finding: Finding) -> str:
    return "" if finding.report is None else str(finding.report["environment"]["versions"].get("cpu_capability", ""))


def _evidence_of(prechecked: Precheck) -> Evidence:
    if prechecked.evidence is None:
        raise NothingChecked(f"{prechecked.bundle_dir.name} holds no evidence that could be read")
    return prechecked.evidence
