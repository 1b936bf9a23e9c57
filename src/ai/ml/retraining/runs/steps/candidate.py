"""The candidate of a run: trained, then sealed with its evidence into a bundle directory."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ai.ml.core.bundle_dir import METRICS_NAME, bundle_digest
from ai.ml.core.contract.target_record import target_sentence
from ai.ml.core.files.atomic import dump_json, publish_dir, write_atomic
from ai.ml.core.tables import read_table, write_table
from ai.ml.retraining.console.progress import epoch_bar, logger
from ai.ml.retraining.records import (
    BundleRef,
    CandidateRef,
    DataRef,
    FileRef,
    code_version,
    content_key,
)
from ai.ml.retraining.runs.continuity import with_task
from ai.ml.retraining.runs.plan import TrainingPlan, pinned, plan_training, trials_path
from ai.ml.retraining.runs.summary import metrics_line
from ai.ml.retraining.runs.work_folder import (
    EPOCHS_SUFFIX,
    HISTORY_NAME,
    HOLDOUT_NAME,
    KEY_PATTERN,
    keep_latest,
    work_dir,
)
from ai.ml.retraining.settings.retrain import RetrainConfig

if TYPE_CHECKING:
    from ai.ml.frameworks.pytorch.inference.scorer import ScoringSettings
    from ai.ml.frameworks.pytorch.trainer.loop import EpochReport
    from ai.ml.frameworks.pytorch.trainer.training import TrainingResult
    from ai.ml.retraining.decision.baselines import Baseline

BASELINES_NAME, TRIALS_NAME = "baselines.json", "trials.json"


def candidate_key(config: RetrainConfig, data: DataRef) -> str:
    """The key of a candidate: a hash of everything that decides its bits, except for the machine."""
    settings = (config.data.target, config.split, with_task(pinned(config), data).training, config.gate.precision)
    # The contract keeps the configured reading options.
    reading = (data.reading,) if data.reading else ()
    return content_key(data.fingerprint, *settings, *reading, code_version())


def train_candidate(
    config: RetrainConfig, data: DataRef, progress: Callable[[EpochReport], None] | None = None
) -> CandidateRef:
    """Train, then seal weights, evidence and manifest into a bundle directory.

    An interrupted training goes on from its last epoch checkpoint in the same place. That stays until the proof begins:
    then the candidate's own checkpoint is stored.

    Args:
        config: of the run.
        data: the table that was read.
        progress: called after each epoch, beside the bar on a terminal.

    Raises:
        DataRefused: the table can't be trained on.
        UsageError: the settings don't fit together.
    """
    with epoch_bar() as bar:

        def report(epoch: EpochReport) -> None:
            bar(epoch)
            if progress is not None:
                progress(epoch)

        candidate = _train(with_task(pinned(config), data), data, report)
    logger.info("target    %s", candidate.target)
    for finding in candidate.findings:
        logger.info("note      %s", finding)
    logger.info("trained   %s", metrics_line(candidate.metrics))
    return candidate


def _train(config: RetrainConfig, data: DataRef, progress: Callable[[EpochReport], None]) -> CandidateRef:
    from ai.ml.frameworks.pytorch.inference.scorer import ScoringSettings
    from ai.ml.frameworks.pytorch.trainer.training import train
    from ai.ml.retraining.decision.overlap import remember_rows

    work = work_dir(config)
    target = work / f"candidate-{candidate_key(config, data)[:16]}"
    table = read_table(data.file.path)
    epochs = target.with_suffix(EPOCHS_SUFFIX)
    scoring = ScoringSettings(precision=config.gate.precision)
    trials = trials_path(config, data, work)
    plan = plan_training(config, data, table, trials)
    result = train(table, plan.training, scoring=scoring, progress=progress, checkpoint=epochs, teacher=plan.teacher)

    building = target.with_suffix(".building")
    for leftover in (building, target):
        shutil.rmtree(leftover, ignore_errors=True)
    building.mkdir(parents=True)
    learned: pa.Table = table.take(pa.array(result.train_rows))
    rule = remember_rows(building / "bundle", result.rule, learned, salt=data.fingerprint)
    lineage = _lineage(config, data, plan) | {"split": rule.to_json()}
    baselines = _seal(building, table, result, scoring, lineage, config.training.num_threads)
    write_atomic(building / TRIALS_NAME, dump_json(plan.trials))
    publish_dir(building, target)
    keep_latest(target, f"candidate-{KEY_PATTERN}")
    keep_latest(epochs, f"candidate-{KEY_PATTERN}{EPOCHS_SUFFIX}")
    for checkpoint in (trials, trials.with_suffix(EPOCHS_SUFFIX)):
        keep_latest(checkpoint, f"search-{KEY_PATTERN}{checkpoint.suffix}")
    losing = [baseline.sentence for baseline in baselines if baseline.wins]
    findings = [finding.message for finding in result.findings]
    contract = result.bundle.contract
    target_text = "" if contract is None else target_sentence(contract)
    return candidate_record(target, [*plan.findings(config), *findings, *losing], target_text)


def _seal(
    building: Path,
    table: pa.Table,
    result: TrainingResult,
    scoring: ScoringSettings,
    lineage: dict[str, Any],
    threads: int,
) -> list[Baseline]:
    """Write bundle, holdout rows, history and the baselines' scores, which are returned as well."""
    from ai.ml.frameworks.pytorch.inference.scorer import Scorer
    from ai.ml.retraining.decision.baselines import measure_baselines
    from ai.ml.retraining.evidence.seal import stage_candidate

    holdout: pa.Table = table.take(pa.array(result.holdout_rows))
    stage_candidate(building / "bundle", result, holdout, settings=scoring, lineage=lineage)
    write_table(holdout, building / HOLDOUT_NAME)
    history = [dataclasses.asdict(report) for report in result.history]
    write_atomic(building / HISTORY_NAME, dump_json(history))
    scorer = Scorer(result.bundle, scoring, "cpu")
    rows = result.train_rows, result.holdout_rows
    groups = result.rule.groups_of(holdout)
    baselines = measure_baselines(scorer, table, *rows, threads=threads, groups=groups)
    write_atomic(building / BASELINES_NAME, dump_json([dataclasses.asdict(baseline) for baseline in baselines]))
    return baselines


def candidate_record(folder: Path, findings: list[str], target: str = "") -> CandidateRef:
    """The record of the candidate that `train_candidate` wrote into `folder`."""
    bundle_dir = folder / "bundle"
    return CandidateRef(
        bundle=BundleRef(path=str(bundle_dir), digest=bundle_digest(bundle_dir)),
        holdout=FileRef.of(folder / HOLDOUT_NAME),
        history=FileRef.of(folder / HISTORY_NAME),
        metrics=json.loads((bundle_dir / METRICS_NAME).read_text(encoding="utf-8")),
        findings=tuple(findings),
        baselines=tuple(json.loads((folder / BASELINES_NAME).read_text(encoding="utf-8"))),
        trials=tuple(json.loads((folder / TRIALS_NAME).read_text(encoding="utf-8"))),
        target=target,
    )


def _lineage(config: RetrainConfig, data: DataRef, plan: TrainingPlan) -> dict[str, Any]:
    """The manifest's lineage; only values that the content decides, so that equal runs give equal digests."""
    return plan.lineage(config) | {
        "data_fingerprint": data.fingerprint,
        "rows": data.rows,
        "target": config.data.target,
        "code_version": code_version(),
    }
