"""The gate's proof of a run's candidate."""

from __future__ import annotations

from pathlib import Path

from ai.ml.core.errors import Unproved
from ai.ml.core.files.atomic import write_atomic
from ai.ml.retraining.console.progress import PROVING, logger, working
from ai.ml.retraining.records import (
    CandidateRef,
    FileRef,
    VerdictRef,
)
from ai.ml.retraining.runs.inconclusive import count_unproved, forget_unproved
from ai.ml.retraining.runs.work_folder import EPOCHS_SUFFIX, keep_latest, work_dir
from ai.ml.retraining.settings.retrain import RetrainConfig


def prove_candidate(config: RetrainConfig, candidate: CandidateRef) -> VerdictRef:
    """Run the gate on the sealed bundle, in fresh processes; the verdict is kept in the work folder.

    Raises:
        UsageError: an interpreter of the gate's settings can't be used.
        Unproved: the machine had no time, memory or room for it; the candidate stays for the next run.
        NothingChecked: so it was in the last runs, too, or the installation is broken; it stays as well.
    """
    from ai.ml.retraining.gate.proof import prove

    Path(candidate.bundle.path).parent.with_suffix(EPOCHS_SUFFIX).unlink(missing_ok=True)
    work, bundle_dir = work_dir(config), Path(candidate.bundle.path)
    try:
        with working(PROVING):
            verdict = prove(bundle_dir, config.gate, expect_digest=candidate.bundle.digest)
    except Unproved as error:
        raise count_unproved(work, bundle_dir, error) from None
    forget_unproved(work)
    path = work / f"verdict-{candidate.bundle.digest[:16]}.json"
    write_atomic(path, verdict.to_json())
    keep_latest(path, "verdict-*.json")
    logger.info("proved    %s: %s", verdict.outcome, verdict.reason)
    return VerdictRef(digest=verdict.digest, outcome=verdict.outcome, reason=verdict.reason, file=FileRef.of(path))
