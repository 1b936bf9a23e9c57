"""What the commands do, as functions that return records: without Prefect, and nothing is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ai.ml.retraining.gate.proof import prove
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.settings.gate import GatePolicy
from ai.ml.retraining.settings.predict import PredictConfig
from ai.ml.retraining.settings.proof import ValidateConfig
from ai.ml.retraining.store.references import bundle_directory

if TYPE_CHECKING:
    from ai.ml.retraining.batch.job import BatchReport
    from ai.ml.retraining.records import RetrainSummary
    from ai.ml.retraining.settings.retrain import RetrainConfig


def retrain(config: RetrainConfig) -> RetrainSummary:
    """Train, prove, decide and promote as `config` says: `bundlegate retrain --no-prefect` as a function.

    Run again after a crash with the same settings, what is done is hashed again and kept.

    Returns:
        The records of all steps; `exit_code` is 0 where the candidate became the champion, and 3 where it was held.

    Raises:
        GateRefused: the saved bundle doesn't answer as the trained model did; it is in quarantine.
        DataRefused: the table can't be trained on, or has drifted and the settings refuse that.
        Busy: another run is retraining this model, or promoted a champion meanwhile.
        Unproved: time or memory ran out, which says nothing of the candidate; it is kept for the next run.
        UsageError: the settings don't fit together, or ask for a person's approval, which takes a Prefect server.
    """
    from ai.ml.retraining.pipeline import retrain as run_steps

    return run_steps(config)


def verify(bundle: str | Path, policy: GatePolicy | None = None, *, store: str | Path | None = None) -> Verdict:
    """Prove that a bundle answers here, in a fresh process, as the trained model did, bit for bit.

    Args:
        bundle: a bundle directory, a `model_bundle.pt`, or a name in the store such as `churn@champion`.
        policy: other interpreters, CPU settings and the time allowed; none and 600 s if not given.
        store: where a name is looked up: a folder or `s3://BUCKET/PREFIX`; `.bundlegate/store` if not given.

    Returns:
        The verdict; `passed` is true only where there was evidence and every answer was the same.

    Raises:
        BundleNotFound: there is no such bundle.
        StoreRefused: the store's history, pointer and versions don't hold together.
        UsageError: an interpreter of the policy can't be used.
        NothingChecked: the fresh process can't even start.
        Unproved: time or memory ran out, which says nothing of the bundle.
    """
    location = ValidateConfig.model_fields["store"].default if store is None else store
    return prove(bundle_directory(str(bundle), location), policy)


def predict(config: PredictConfig) -> BatchReport:
    """Score a table or a folder of parts as `config` says; what is done already is hashed again and kept.

    Returns:
        The report: rows, parts, the bundle's digest, and parts that couldn't be scored (`failures`).

    Raises:
        BundleNotFound: there is no such bundle.
        GateRefused: this machine gives other bits than the trained model did.
        DataRefused: the input can't be read, or lacks columns of the contract.
        Busy: another process writes to the output.
        StorageFailed: the disk, bucket or database failed.
    """
    from ai.ml.retraining.batch.scoring_job import score

    return score(config)
