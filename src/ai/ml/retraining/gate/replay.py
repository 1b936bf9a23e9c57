"""The fresh process: it gets bundle directories and nothing else, and writes a report on each.

    python -I -m ai.ml.retraining.gate.replay JOBS.json      {"jobs": [{"bundle_dir", "out_dir", "steps"}, …]}
    python -I -m ai.ml.retraining.gate.replay BUNDLE_DIR     replay alone, its report as JSON on the standard output

For each job `out_dir` gets `step`, the step it is at, `answers.npz` and, last, `report.json`; a job without a report is
where the process died, and one without a step is where it hadn't begun.
It judges nothing: comparing is the gate's part, in the process that holds the evidence. It needs neither Prefect nor
pandas; scikit-learn 1.9 imports pandas itself wherever it is installed.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import torch

from ai.ml.core.bundle_dir import BUNDLE_NAME, bundle_digest, current_versions
from ai.ml.core.environment_faults import is_environment_fault
from ai.ml.core.errors import BundlegateError, ExitCode, UsageError
from ai.ml.core.files.atomic import dump_json, sha256_bytes, write_atomic
from ai.ml.frameworks.pytorch.inference.opened import OpenedBundle
from ai.ml.frameworks.pytorch.inference.scorer import Scorer, rounding_margin
from ai.ml.frameworks.pytorch.serialization.load import load_bundle
from ai.ml.frameworks.pytorch.serialization.save import encode_bundle
from ai.ml.retraining.evidence.answers import ANSWERS_NAME, AnswerSet, encode_answers
from ai.ml.retraining.evidence.evidence import Evidence, answer_probes, read_evidence
from ai.ml.retraining.evidence.fingerprints import describe_structure
from ai.ml.retraining.gate.environments import REPORT_NAME
from ai.ml.retraining.gate.invariance import check_variants

SETTINGS = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """A bundle directory to examine, the steps to run, and the folder of the report."""

    bundle_dir: Path
    out_dir: Path
    steps: tuple[str, ...] = ("replay",)
    """Names of `STEPS`, in the order in which they run."""


@dataclass
class Replay:
    """A job whose bundle and evidence this process has loaded."""

    job: Job
    scorer: Scorer
    evidence: Evidence

    @classmethod
    def load(cls, job: Job) -> Replay:
        """Load them; raises whatever the loader, the manifest or the evidence raises."""
        return cls(job, OpenedBundle(job.bundle_dir).scorer, read_evidence(job.bundle_dir))

    @cached_property
    def answers(self) -> AnswerSet:
        """The answers to all probes of the bundle's own evidence."""
        return answer_probes(self.scorer, self.evidence.holdout, self.evidence.generated)


def run_job(job: Job) -> dict[str, Any]:
    """Load one bundle directory and run the requested steps.

    Returns:
        The report, as written to `out_dir/report.json`; `error` says in which step what stopped it, if anything did,
        and whether that tells of the machine rather than of the bundle.
    """
    report: dict[str, Any] = {"environment": describe_process(), "error": None}
    step = "load"
    job.out_dir.mkdir(parents=True, exist_ok=True)
    write_atomic(job.out_dir / "step", step.encode())
    try:
        replay = Replay.load(job)
        report["digest"] = bundle_digest(job.bundle_dir)
        for step in job.steps:
            write_atomic(job.out_dir / "step", step.encode())
            report[step] = STEPS[step](replay)
    # A damaged bundle may raise anything: the error is the finding.
    except Exception as error:
        failure = {"step": step, "type": type(error).__name__, "message": str(error)}
        report["error"] = failure | {"machine": is_environment_fault(error)}
    write_atomic(job.out_dir / REPORT_NAME, dump_json(report))
    return report


def _replay(replay: Replay) -> dict[str, Any]:
    write_atomic(replay.job.out_dir / ANSWERS_NAME, encode_answers(replay.answers))
    margin = rounding_margin(replay.scorer, replay.evidence.holdout)
    return {
        "rows": len(replay.answers.raw),
        # Of the holdout rows, in float32 ulp; None where nothing is rounded.
        "rounding_margin": margin if math.isfinite(margin) else None,
        "heavy_imports": sorted({"pandas", "prefect"} & {*sys.modules}),
    }


def _structure(replay: Replay) -> dict[str, str]:
    return describe_structure(replay.scorer.bundle)


def _fixpoint(replay: Replay) -> dict[str, str]:
    """SHA-256 of the file, of its copy by loading and saving, and of that copy's copy."""
    first = encode_bundle(replay.scorer.bundle)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / BUNDLE_NAME
        copy.write_bytes(first)
        second = encode_bundle(load_bundle(copy, map_location="cpu"))
    documents = {"file": (replay.job.bundle_dir / BUNDLE_NAME).read_bytes(), "saved": first, "saved_again": second}
    return {name: sha256_bytes(document) for name, document in documents.items()}


def _invariance(replay: Replay) -> list[dict[str, Any]]:
    return check_variants(replay.scorer, replay.evidence, replay.answers)


STEPS: dict[str, Callable[[Replay], Any]] = {
    "replay": _replay,
    "structure": _structure,
    "fixpoint": _fixpoint,
    "invariance": _invariance,
}


def describe_process() -> dict[str, Any]:
    """Library versions and the settings that decide which kernels run."""
    settings = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    return {"versions": current_versions(), "settings": settings, "threads": torch.get_num_threads()}


def main(arguments: list[str], out: TextIO = sys.stdout) -> int:
    """Run the jobs of a file, or the replay of one bundle directory; 0 unless the call itself is off."""
    if len(arguments) != 1:
        raise UsageError(f"expected one argument, BUNDLE_DIR or JOBS.json, got {arguments}")
    target = Path(arguments[0])
    if target.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            report = run_job(Job(target, Path(folder)))
        out.write(dump_json(report).decode())
        return ExitCode.OK if report["error"] is None else ExitCode.REFUSED
    for job in json.loads(target.read_bytes())["jobs"]:
        run_job(Job(Path(job["bundle_dir"]), Path(job["out_dir"]), tuple(job["steps"])))
    return ExitCode.OK


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BundlegateError as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(int(refusal.exit_code))
