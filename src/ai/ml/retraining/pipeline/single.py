"""One retraining from its settings to the champion, as plain function calls."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from ai.ml.core.errors import UsageError
from ai.ml.core.files.atomic import write_atomic
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.records import CandidateRef, DataRef, RetrainSummary, problems
from ai.ml.retraining.reporting.sources import report_or_warn
from ai.ml.retraining.runs import retrain as steps
from ai.ml.retraining.runs.steps.candidate import candidate_key
from ai.ml.retraining.runs.work_folder import KEY_PATTERN, keep_latest, work_dir
from ai.ml.retraining.settings.retrain import RetrainConfig


def retrain(config: RetrainConfig) -> RetrainSummary:
    """Read → measure drift → train and seal → prove in a fresh process → decide → promote or hold → score → report.

    Run again after a crash with the same settings, and a candidate that is whole is proved without training.

    Raises:
        UsageError: the settings ask for a person's approval, which takes a Prefect server.
        GateRefused: the saved bundle doesn't answer as the trained model did; it is in quarantine.
        DataRefused: the table can't be trained on, or has drifted and the settings refuse that.
        Busy: another run is retraining this model, or promoted a champion meanwhile.
        Unproved, NothingChecked: the proof couldn't be made here and now; the candidate is kept for the next run.
        KeyboardInterrupt: by Ctrl-C; after the promotion it says what became of it.
    """
    require_no_person(config)
    with steps.open_run(config) as config:
        data = steps.read_data(config)
        drift = steps.check_drift(config, data)
        candidate = train_or_keep(config, data)
        verdict = steps.prove_candidate(config, candidate)
        if verdict.outcome != "PASSED":
            report_or_warn(config, candidate, verdict)
            raise steps.refusal(verdict, steps.quarantine(config, candidate, verdict))
        decision = steps.decide(config, candidate, data)
        promotion = steps.promote(config, candidate, verdict, decision)
        try:
            scored = steps.score_holdout(config, candidate)
            report = report_or_warn(config, candidate, verdict, decision)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(promotion.sentence) from None
        steps.end_run(config)
    return RetrainSummary(
        name=config.name,
        data=data,
        drift=drift,
        candidate=candidate,
        verdict=verdict,
        decision=decision,
        promotion=promotion,
        scored=scored,
        report=report,
    )


def require_no_person(config: RetrainConfig) -> None:
    """Refuse settings that ask for a person's approval.

    Raises:
        UsageError: the settings ask for a person's approval.
    """
    approval = config.approval.approve
    if approval != "auto" and not config.dry_run:
        raise UsageError(
            f"--approve {approval} asks a person through a Prefect server: run it with Prefect, or with --approve auto"
        )


def train_or_keep(config: RetrainConfig, data: DataRef) -> CandidateRef:
    """Train, unless a run that was stopped later has left this very candidate whole."""
    record = work_dir(config) / f"candidate-{candidate_key(config, data)[:16]}.json"
    kept = _read_unchanged(record)
    if kept is not None:
        logger.info("kept      the candidate of an earlier run, %s", kept.bundle.digest[:12])
        return kept
    candidate = steps.train_candidate(config, data)
    write_atomic(record, candidate.model_dump_json(indent=2).encode())
    keep_latest(record, f"candidate-{KEY_PATTERN}.json")
    return candidate


def _read_unchanged(record: Path) -> CandidateRef | None:
    """The candidate of a record, if its files are unchanged; else None."""
    try:
        candidate = CandidateRef.model_validate_json(record.read_bytes())
    except (OSError, ValidationError):
        return None
    return None if problems(candidate) else candidate
