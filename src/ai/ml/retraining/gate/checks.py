"""The gate's checks: each makes one comparison and reports it in one sentence with figures and the first difference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ai.ml.core.bundle_dir import METRICS_NAME, Manifest, check_files
from ai.ml.core.contract import InputContract, target_values
from ai.ml.retraining.evidence.answers import AnswerSet
from ai.ml.retraining.evidence.compare import compare_answers
from ai.ml.retraining.evidence.evidence import Evidence
from ai.ml.retraining.gate.environments import Fault
from ai.ml.retraining.gate.verdict import CheckResult

RMSE_TOLERANCE = 1e-9
"""Relative. A sum of squares depends on the order it is taken in; everything else is compared exactly."""


@dataclass(frozen=True)
class Finding:
    """The report of one fresh process on one bundle directory."""

    environment: str
    report: Mapping[str, Any] | None
    """None where the process died; `failure` has the reason."""
    answers: AnswerSet | None
    failure: str = ""
    fault: Fault | None = None
    """The cause of a missing report: bundle, machine or installation."""

    @property
    def inconclusive(self) -> bool:
        """Whether the process ended without a word about the bundle, for a reason that isn't the bundle's."""
        return self.fault in ("machine", "installation")

    @property
    def trouble(self) -> str:
        """Why not every step was taken, in one sentence; empty if all were."""
        if self.report is None:
            return self.failure
        error = self.report["error"]
        return "" if error is None else f"{error['step']} stopped with {error['type']}: {error['message']}"


def check_integrity(bundle_dir: Path, manifest: Manifest, digest: str, expect_digest: str | None) -> CheckResult:
    """Every file is there, plain, with the manifest's sha-256; none is extra; the manifest has the expected digest."""
    faults = check_files(bundle_dir, manifest)
    if expect_digest is not None and expect_digest != digest:
        faults.insert(0, f"the manifest's digest is {digest}, expected {expect_digest}")
    figures = {"files": len(manifest.files), "faults": len(faults)}
    if faults:
        difference = _difference("files", "as the manifest says", faults[0])
        return CheckResult("integrity", "current", False, figures, faults[0], difference)
    return CheckResult("integrity", "current", True, figures, f"{len(manifest.files)} files are what the manifest says")


def check_manifest(manifest: Manifest, evidence: Evidence) -> CheckResult:
    """The manifest's sections on model and scoring are those of the model that answered."""
    stated = {"model": manifest.model, "scoring": manifest.scoring}
    wrong = [name for name, section in stated.items() if section != evidence.sections.get(name)]
    figures = {"sections": len(stated), "sections_differing": wrong}
    if not wrong:
        return CheckResult("manifest", "current", True, figures, "the manifest describes the model that answered")
    first = wrong[0]
    pair = json.dumps(evidence.sections.get(first), sort_keys=True), json.dumps(stated[first], sort_keys=True)
    difference = _difference(first, *pair)
    message = f"the manifest's section `{first}` isn't that of the model that answered the probes"
    return CheckResult("manifest", "current", False, figures, message, difference)


def check_loading(finding: Finding) -> CheckResult:
    """The closed loader reads the bundle in a fresh process."""
    report = finding.report
    error = None if report is None else report["error"]
    loaded = report is not None and (error is None or error["step"] != "load")
    if not loaded:
        return CheckResult("loading", finding.environment, False, {}, finding.trouble)
    return CheckResult("loading", finding.environment, True, {}, "a fresh process loaded the bundle")


def check_replay(finding: Finding, evidence: Evidence) -> CheckResult:
    """The fresh process gave the trained model's raw outputs byte for byte, and its decoded answers."""
    environment = finding.environment
    if finding.answers is None:
        if finding.inconclusive:
            return CheckResult("replay", environment, False, {"rows": 0}, finding.trouble, None, applies=False)
        figures = {"rows": evidence.rows}
        return CheckResult("replay", environment, False, figures, finding.trouble or "no answers came back")
    expected, got = evidence.answers, finding.answers
    comparison = compare_answers(expected.raw, expected.decoded, got.raw, got.decoded)
    stage = next((name for name, sha in expected.stages.items() if got.stages.get(name) != sha), None)
    margin = (finding.report or {}).get("replay", {}).get("rounding_margin")
    figures = {**comparison.figures(), "first_stage": stage, "rounding_margin": margin}
    if comparison.difference is None:
        return CheckResult("replay", environment, True, figures, f"{comparison.rows} rows are equal bit for bit")
    difference = {**comparison.difference, "probe": _probe_kind(evidence, comparison.difference["row"])}
    message = (
        f"{comparison.rows_differing} of {comparison.rows} rows differ from the trained model's answers and "
        f"{comparison.label_flips} decoded answers with them; first at row {difference['row']}, "
        f"{difference['column']}: expected {difference['expected']}, got {difference['got']}"
    )
    return CheckResult("replay", environment, False, figures, message, difference)


def check_structure(finding: Finding, expected: Mapping[str, str]) -> CheckResult:
    """Every weight and preprocessing attribute has the trained model's type, dtype, shape and bytes.

    Args:
        finding: with the step `structure`.
        expected: `describe_structure` of the trained model, as the evidence keeps it.
    """
    environment, got = finding.environment, _step(finding, "structure")
    if got is None:
        return CheckResult("structure", environment, False, {"parts": len(expected)}, finding.trouble)
    parts = (*expected, *(part for part in got if part not in expected))
    differing = [part for part in parts if expected.get(part) != got.get(part)]
    figures = {"parts": len(parts), "parts_differing": len(differing)}
    if not differing:
        return CheckResult("structure", environment, True, figures, f"{len(parts)} parts are those of the evidence")
    first = differing[0]
    pair = expected.get(first, "absent"), got.get(first, "absent")
    difference = _difference(first, *pair)
    message = (
        f"{len(differing)} of {len(parts)} parts aren't those of the evidence; first {first}: {pair[0]} → {pair[1]}"
    )
    return CheckResult("structure", environment, False, figures, message, difference)


def check_fixpoint(finding: Finding, evidence: Evidence) -> CheckResult:
    """Saving what was loaded gives the same file; a file that another writer made settles after one saving."""
    environment, digests = finding.environment, _step(finding, "fixpoint")
    if digests is None:
        return CheckResult("fixpoint", environment, False, {}, finding.trouble)
    # A bundle from elsewhere needn't be in our canonical form, but what we save of it must be.
    first = "file" if evidence.origin == "training" else "saved"
    stages = [first, *(name for name in ("saved", "saved_again") if name != first)]
    figures = {"sha256": digests[first], "foreign": first != "file"}
    changed = next((name for name in stages if digests[name] != digests[first]), None)
    if changed is None:
        return CheckResult("fixpoint", environment, True, figures, "load and save give back the same bytes")
    message = f"save(load(file)) isn't the file: expected sha-256 {digests[first]}, got {digests[changed]}"
    difference = _difference(changed, digests[first], digests[changed])
    return CheckResult("fixpoint", environment, False, figures, message, difference)


def check_invariance(finding: Finding) -> CheckResult:
    """Other batches, orders, input forms and thread counts gave the same bits."""
    environment, variants = finding.environment, _step(finding, "invariance")
    if variants is None:
        return CheckResult("invariance", environment, False, {"variants": 0}, finding.trouble)
    broken = [variant for variant in variants if variant["error"] or variant["difference"]]
    figures = {
        "variants": [variant["variant"] for variant in variants],
        "variants_differing": [variant["variant"] for variant in broken],
    }
    if not broken:
        message = f"{len(variants)} variants give the same bits"
        return CheckResult("invariance", environment, bool(variants), figures, message)
    first = broken[0]
    message = first["error"] or f"{first['rows_differing']} of {first['rows']} rows differ"
    return CheckResult("invariance", environment, False, figures, f"{first['variant']}: {message}", first["difference"])


def check_metrics(bundle_dir: Path, evidence: Evidence, contract: InputContract | None) -> CheckResult:
    """`metrics.json` has the training's metrics, and those of the answers where the evidence is complete."""
    path = bundle_dir / METRICS_NAME
    if not path.exists() and evidence.metrics is None:
        return CheckResult("metrics", "current", False, {}, f"there is no {METRICS_NAME}", None, False)
    try:
        stored = json.loads(path.read_bytes())
        name, value = str(stored["test_metric_name"]), float(stored["test_metric_value"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return CheckResult("metrics", "current", False, {}, f"{METRICS_NAME} can't be read: {error!r}")
    recomputed = recompute_metric(evidence, contract, name)
    figures = {"stored": stored, "recomputed": recomputed}
    if evidence.metrics is not None and stored != evidence.metrics:
        return _wrong_metrics(figures, json.dumps(evidence.metrics), json.dumps(stored), "the training measured")
    tolerance = RMSE_TOLERANCE * abs(value) if name == "rmse" else 0.0
    if recomputed is not None and not abs(recomputed - value) <= tolerance:
        return _wrong_metrics(figures, repr(recomputed), repr(value), f"the evidence gives {name}")
    if recomputed is None and evidence.metrics is None:
        return CheckResult("metrics", "current", False, figures, f"nothing to hold {METRICS_NAME} against", None, False)
    return CheckResult("metrics", "current", True, figures, f"{name} {value:g} is what the training measured")


def recompute_metric(evidence: Evidence, contract: InputContract | None, name: str) -> float | None:
    """The holdout metric from the evidence's own answers; None where the sample isn't the whole holdout."""
    holdout = evidence.holdout
    if contract is None or evidence.holdout_rows != holdout.num_rows or name not in ("accuracy", "rmse"):
        return None
    if contract.target_column not in holdout.column_names or holdout[contract.target_column].null_count:
        return None
    target = target_values(contract, holdout)
    decoded = evidence.answers.decoded[: holdout.num_rows]
    if name == "accuracy":
        return float(np.mean(decoded.astype(str) == target.astype(str)))
    return float(np.sqrt(np.mean(np.square(decoded.astype(np.float64) - target))))


def _wrong_metrics(figures: dict[str, Any], expected: str, got: str, what: str) -> CheckResult:
    difference = _difference(METRICS_NAME, expected, got)
    message = f"{what} {expected}, {METRICS_NAME} says {got}"
    return CheckResult("metrics", "current", False, figures, message, difference)


def _difference(column: str, expected: str, got: str) -> dict[str, Any]:
    """A difference without a row and without a distance in ulp."""
    return {"row": None, "column": column, "expected": expected, "got": got, "ulp": None}


def _step(finding: Finding, name: str) -> Any:
    return None if finding.report is None else finding.report.get(name)


def _probe_kind(evidence: Evidence, row: int) -> str:
    inside = evidence.holdout.num_rows
    return "holdout row" if row < inside else evidence.generated.probes[row - inside].kind
