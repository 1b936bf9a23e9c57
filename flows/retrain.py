"""Retraining: a model gets through only after it has proved that what was saved is what was trained.

Run it from the root: `python -m flows.retrain --name churn --data churn.csv --target churned`. A run that was killed
goes on with `python -m flows.retrain --resume churn`, or when it is started again with the same settings.
"""

from __future__ import annotations

import sys

from prefect import flow

from ai.ml.retraining.records import RetrainSummary
from ai.ml.retraining.runs.approval import Proposal
from ai.ml.retraining.runs.resume import interrupted_run
from ai.ml.retraining.runs.summary import show_summary
from ai.ml.retraining.settings.deployment import SettingsOrFile
from tasks.approval.ask import require_server, retraining_run
from tasks.artifacts import report
from tasks.cleanup import clean_up
from tasks.command_line import run_from_command_line
from tasks.gate import prove_candidate
from tasks.prediction import score_holdout
from tasks.promotion import decide, promote, quarantine
from tasks.training import check_drift, read_data, train_candidate


@flow(
    flow_run_name="retrain-{config.name}",
    persist_result=True,
    result_serializer="json",
    # By the next night something hangs; what is done by then is kept. A suspended run's wait isn't counted.
    timeout_seconds=24 * 3600,
    on_failure=[clean_up],
    on_crashed=[clean_up],
    on_cancellation=[clean_up],
)
def retrain(config: SettingsOrFile) -> RetrainSummary:
    """Read → measure drift → train and seal → prove in a fresh process → decide → promote or hold → score → report.

    Every step leaves a small record of paths and sha-256; run again after a crash, and what is done is hashed again
    and kept, what isn't is done. With `--approve human` a person is asked before the champion is replaced.

    Raises:
        GateRefused: the saved bundle doesn't answer as the trained model did; it is in quarantine.
        DataRefused: the table can't be trained on, or has drifted and the settings refuse that.
        Busy: another run is retraining this model, or the approval is outdated or never came.
        BundleRefused: what approval was asked for has changed.
    """
    require_server(config)
    with retraining_run(config) as run:
        config = run.config
        if run.request is None:
            data = read_data(config)
            drift = check_drift(config, data)
            candidate = train_candidate(config, data)
        else:
            data, drift, candidate = run.request.draft.data, run.request.draft.drift, run.request.draft.candidate
        verdict = prove_candidate(config, candidate)
        if verdict.outcome != "PASSED":
            report(config, candidate, verdict)
            quarantine(config, candidate, verdict)
        decision = decide(config, candidate, data)
        proposal = Proposal(data=data, drift=drift, candidate=candidate, verdict=verdict, decision=decision)
        proposal, approval = run.ask(proposal)
        promotion = promote(config, proposal.candidate, proposal.verdict, proposal.decision, approval)
        scored = score_holdout(config, proposal.candidate)
        page = report(config, proposal.candidate, proposal.verdict, proposal.decision)
    return RetrainSummary(
        name=config.name, **dict(proposal), approval=approval, promotion=promotion, scored=scored, report=page
    )


def main(argv: list[str] | None = None) -> int:
    """Run the flow once from flags or a TOML file; the exit code is the result."""
    from ai.ml.retraining.settings.segments import SegmentsConfig
    from flows.retrain_segments import one_or_many

    return run_from_command_line(
        retrain, SegmentsConfig, show_summary, argv, choose=one_or_many, resume=interrupted_run
    )


if __name__ == "__main__":
    sys.exit(main())
