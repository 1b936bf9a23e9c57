"""The steps of a retraining run as plain functions; the flow's tasks wrap exactly these.

Each takes what the one before it returned, writes below the model's work folder, and returns a small record of what it
wrote. Files are written beside and renamed: a killed step leaves nothing that a later run could mistake for a result.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ai.ml.core.bundle_dir import bundle_digest
from ai.ml.core.contract.target import with_known_target
from ai.ml.core.errors import BundleRefused, Busy, DataRefused, Unproved
from ai.ml.core.files.atomic import dump_json, publish_dir, sha256_bytes, write_atomic
from ai.ml.core.tables import ReadOptions, fingerprint, read_table, write_table
from ai.ml.core.tables.locations import source_name
from ai.ml.retraining.console.progress import logger
from ai.ml.retraining.gate.verdict import Verdict
from ai.ml.retraining.records import (
    Approval,
    BundleRef,
    CandidateRef,
    DataRef,
    DecisionRecord,
    FileRef,
    PromotionRecord,
    RollbackRecord,
    ScoredRef,
    VerdictRef,
    code_version,
    content_key,
    problems,
)
from ai.ml.retraining.runs.inconclusive import count_unproved, forget_unproved
from ai.ml.retraining.runs.plan import TrainingPlan, pinned, plan_training, trials_path
from ai.ml.retraining.runs.resume import remove_run, write_run
from ai.ml.retraining.runs.source_stamp import source_stamps
from ai.ml.retraining.runs.work_folder import KEY_PATTERN, held, keep_latest
from ai.ml.retraining.settings.proof import RollbackConfig
from ai.ml.retraining.settings.retrain import DataSettings, RetrainConfig
from ai.ml.retraining.store.location import work_folder
from ai.ml.retraining.store.store import Store

if TYPE_CHECKING:
    from ai.ml.frameworks.pytorch.trainer.training import EpochReport
    from ai.ml.retraining.decision.decision import Scored


def work_dir(config: RetrainConfig) -> Path:
    """The folder of a model's checkpoints: losing it costs time and nothing else."""
    return work_folder(config.store, config.name)


@contextmanager
def workplace(config: RetrainConfig, timeout_s: float = 0.0) -> Generator[None]:
    """Hold the model's work folder while a run lasts; its settings lie there until `end_run`.

    Raises:
        Busy: another run of the same name holds it, and did so for `timeout_s` seconds.
        BundleNotFound, UsageError: as `pinned`.
    """
    work = work_dir(config)
    with held(work, config.name, timeout_s):
        write_run(work, pinned(config))
        yield


def end_run(config: RetrainConfig) -> None:
    """The run came to its end: there is nothing to resume."""
    remove_run(work_dir(config))


def read_source(data: DataSettings) -> pa.Table:
    """The whole table as it arrives, without the rows that the settings leave out.

    Raises:
        DataRefused: there is no such file, or no table can be read from it, or no row has a target.
        Busy: somebody wrote to it meanwhile.
    """
    stamps = source_stamps(data.source)
    options = ReadOptions(data.delimiter, data.encoding, data.decimal, data.thousands, data.sheet, data.query)
    table = read_table(data.source, options)
    if source_stamps(data.source) != stamps:
        # Half of it may be the old table, and the checkpoint would go by a name that is neither's.
        raise Busy(f"{data.source} changed while it was read: try again when nobody writes to it")
    if data.missing_target == "refuse":
        return table
    known = with_known_target(table, data.target)
    if known.num_rows < table.num_rows:
        logger.info("left out  %s rows without %r", f"{table.num_rows - known.num_rows:,}", data.target)
    return known


def snapshot_data(config: RetrainConfig) -> DataRef:
    """Read the source once and keep the table as it arrived, so that every later step sees the same rows.

    Raises:
        DataRefused: there is no such file, or no table can be read from it.
        Busy: somebody wrote to it meanwhile.
    """
    data = config.data
    table = read_source(data)
    content = fingerprint(table)
    path = work_dir(config) / f"data-{content[:16]}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, path)
    keep_latest(path, "data-*.parquet")
    return DataRef(
        file=FileRef.of(path),
        source=source_name(data.source),
        rows=table.num_rows,
        columns=tuple(table.column_names),
        fingerprint=content,
    )


def candidate_key(config: RetrainConfig, data: DataRef) -> str:
    """What decides a candidate's bits, the machine aside."""
    settings = (config.data.target, config.split, pinned(config).training, config.gate.precision)
    return content_key(data.fingerprint, *settings, code_version())


def build_candidate(
    config: RetrainConfig, data: DataRef, progress: Callable[[EpochReport], None] | None = None
) -> CandidateRef:
    """Train, then seal weights, evidence and manifest into a bundle directory.

    An interrupted training goes on from its last epoch checkpoint in the same place. That stays until the proof begins:
    then the candidate's own checkpoint is stored.

    Raises:
        DataRefused: the table can't be trained on.
        UsageError: the settings don't fit together.
    """
    from ai.ml.frameworks.pytorch.inference.scorer import Scorer, ScoringSettings
    from ai.ml.frameworks.pytorch.trainer.training import train
    from ai.ml.retraining.decision.baselines import measure_baselines
    from ai.ml.retraining.evidence.seal import stage_candidate

    config = pinned(config)
    key = candidate_key(config, data)
    target = work_dir(config) / f"candidate-{key[:16]}"
    table = read_table(data.file.path)
    epochs = target.with_suffix(".epochs")
    scoring = ScoringSettings(precision=config.gate.precision)
    trials = trials_path(config, data, work_dir(config))
    plan = plan_training(config, data, table, trials)
    result = train(table, plan.training, scoring=scoring, progress=progress, checkpoint=epochs, teacher=plan.teacher)

    building = target.with_suffix(".building")
    for leftover in (building, target):
        shutil.rmtree(leftover, ignore_errors=True)
    building.mkdir(parents=True)
    holdout: pa.Table = table.take(pa.array(result.holdout_rows))
    lineage = _lineage(config, data, plan) | {"split": result.rule.to_json()}
    stage_candidate(building / "bundle", result, holdout, settings=scoring, lineage=lineage)
    write_table(holdout, building / "holdout.parquet")
    history = [dataclasses.asdict(report) for report in result.history]
    write_atomic(building / "history.json", dump_json(history))
    write_atomic(building / "trials.json", dump_json(plan.trials))
    scorer = Scorer(result.bundle, scoring, "cpu")
    rows = result.train_rows, result.holdout_rows
    baselines = measure_baselines(scorer, table, *rows, threads=config.training.num_threads)
    write_atomic(building / "baselines.json", dump_json([dataclasses.asdict(baseline) for baseline in baselines]))
    publish_dir(building, target)
    keep_latest(target, f"candidate-{KEY_PATTERN}")
    keep_latest(epochs, f"candidate-{KEY_PATTERN}.epochs")
    for made in (trials, trials.with_suffix(".epochs")):
        keep_latest(made, f"search-{KEY_PATTERN}{made.suffix}")
    losing = [baseline.sentence for baseline in baselines if baseline.wins]
    found = [finding.message for finding in result.findings]
    return candidate_record(target, [*plan.findings(config), *found, *losing])


def candidate_record(folder: Path, findings: list[str]) -> CandidateRef:
    """Describe what `build_candidate` left in `folder`."""
    bundle_dir = folder / "bundle"
    return CandidateRef(
        bundle=BundleRef(path=str(bundle_dir), digest=bundle_digest(bundle_dir)),
        holdout=FileRef.of(folder / "holdout.parquet"),
        history=FileRef.of(folder / "history.json"),
        metrics=json.loads((bundle_dir / "metrics.json").read_text(encoding="utf-8")),
        findings=tuple(findings),
        baselines=tuple(json.loads((folder / "baselines.json").read_text(encoding="utf-8"))),
        trials=tuple(json.loads((folder / "trials.json").read_text(encoding="utf-8"))),
    )


def prove_candidate(config: RetrainConfig, candidate: CandidateRef) -> VerdictRef:
    """Run the gate on the sealed bundle, in fresh processes; the verdict is kept in the work folder.

    Raises:
        UsageError: an interpreter of the gate's settings can't be used.
        Unproved: the machine had no time, memory or room for it; the candidate stays for the next run.
        NothingChecked: so it was in the last runs, too, or the installation is broken; it stays as well.
    """
    from ai.ml.retraining.gate.proof import GatePolicy, prove

    Path(candidate.bundle.path).parent.with_suffix(".epochs").unlink(missing_ok=True)
    gate = config.gate
    policy = GatePolicy(gate.pythons, gate.cpu_matrix, candidate.bundle.digest, gate.timeout_seconds)
    work, bundle_dir = work_dir(config), Path(candidate.bundle.path)
    try:
        verdict = prove(bundle_dir, policy)
    except Unproved as error:
        raise count_unproved(work, bundle_dir, error) from None
    forget_unproved(work)
    path = work / f"verdict-{candidate.bundle.digest[:16]}.json"
    write_atomic(path, verdict.to_json())
    keep_latest(path, "verdict-*.json")
    return VerdictRef(digest=verdict.digest, outcome=verdict.outcome, reason=verdict.reason, file=FileRef.of(path))


def decide(config: RetrainConfig, candidate: CandidateRef) -> DecisionRecord:
    """Score challenger and champion on the same holdout rows and weigh them.

    The champion is scored on rows that it may have been trained on, which can only favour it.

    Raises:
        BundleRefused: candidate or holdout rows have changed since they were made, or the champion is damaged.
    """
    from ai.ml.retraining.decision import decision as rules

    changed = problems(candidate)
    if changed:
        raise BundleRefused(f"what was trained isn't there as it was made: {changed[0]}; nothing is decided")

    settings = config.decision
    policy = rules.DecisionPolicy(
        margin=settings.margin,
        confidence=settings.confidence,
        resamples=settings.resamples,
        floors=settings.floors,
        slice_floors=settings.slice_floors,
        incomparable=settings.incomparable,
        beaten_by=_beaten_by(candidate),
        baselines=settings.baselines,
    )
    store = Store(config.store)
    digest = store.champion(config.name)
    holdout = read_table(candidate.holdout.path)
    challenger = score_known(Path(candidate.bundle.path), holdout, settings.slice_column)
    champion, unfit = None, None
    if digest == candidate.bundle.digest:
        decision = rules.decide(challenger, None, policy)
        reason = "this very bundle is the champion already"
        return DecisionRecord(outcome="PROMOTE", reason=reason, champion=digest, document=decision.to_dict())
    if digest is not None:
        try:
            champion = score_known(store.resolve(f"{config.name}@{digest}"), holdout, settings.slice_column)
            unfit = rules.incomparable(challenger, champion)
        except DataRefused as error:
            unfit = str(error)
    outcome = rules.decide(challenger, None if unfit else champion, policy, unfit=unfit)
    return DecisionRecord(outcome=outcome.outcome, reason=outcome.reason, champion=digest, document=outcome.to_dict())


def _beaten_by(candidate: CandidateRef) -> str | None:
    """Which simpler model surely does better, in a sentence."""
    from ai.ml.retraining.decision.baselines import Baseline

    baselines = [Baseline(**record) for record in candidate.baselines]
    return next((baseline.sentence for baseline in baselines if baseline.surely_wins), None)


def score_known(bundle_dir: Path, table: pa.Table, slice_column: str | None = None) -> Scored:
    """A bundle's answers to rows whose truth is in the table, as the decision takes them.

    Raises:
        DataRefused: the rows don't meet the bundle's contract, or there is no such slice column.
    """
    import numpy as np

    from ai.ml.retraining.decision.evaluation import EvaluatedBundle

    subject = EvaluatedBundle(bundle_dir)
    if slice_column is not None and slice_column not in table.column_names:
        raise DataRefused(f"slice column {slice_column!r} is not in the table")
    slices = None if slice_column is None else np.array([str(value) for value in table[slice_column].to_pylist()])
    return dataclasses.replace(subject.scored(table), slices=slices)


def promote(
    config: RetrainConfig,
    candidate: CandidateRef,
    verdict: VerdictRef,
    decision: DecisionRecord,
    flow_run_id: str | None,
    approval: Approval | None = None,
) -> PromotionRecord:
    """Put the decision into the store: publish and move the pointer, or record why not.

    Raises:
        GateRefused: the verdict didn't pass, or is about another bundle.
        Busy: somebody else promoted a champion since the decision.
    """
    store, name, digest = Store(config.store), config.name, candidate.bundle.digest
    note = _note(config, flow_run_id) | {"metrics": candidate.metrics}
    if approval is not None:
        note["approval"] = approval.model_dump()
    if decision.outcome != "PROMOTE":
        action = "held" if decision.outcome == "HOLD" else "rejected"
        store.record(name, action, _verdict(verdict), note=note, decision=decision.document)
        champion = store.champion(name)
        path = "" if champion is None else store.shelf(name).address("versions", champion)
        sentence = f"{name}: the champion stays {champion[:12]}" if champion else f"{name}: there is no champion"
        outcome = "HELD" if decision.outcome == "HOLD" else "REJECTED"
        return PromotionRecord(outcome=outcome, digest=digest, path=path, sentence=sentence)
    promotion = store.promote(
        name,
        Path(candidate.bundle.path),
        _verdict(verdict),
        decision=decision.document,
        note=note,
        expected_champion=decision.champion,
    )
    sentence = f"{name}: {digest[:12]} is the champion" + (" already" if promotion.already else "")
    return PromotionRecord(outcome="PROMOTED", digest=digest, path=promotion.path, sentence=sentence)


def quarantine(config: RetrainConfig, candidate: CandidateRef, verdict: VerdictRef, flow_run_id: str | None) -> str:
    """Keep a refused bundle apart with its verdict, and write the refusal into the ledger.

    The candidate in the work folder goes: a damaged checkpoint must not be found again.
    """
    folder = Path(candidate.bundle.path)
    note = _note(config, flow_run_id)
    place = Store(config.store).quarantine(config.name, folder, _verdict(verdict), note=note)
    shutil.rmtree(folder.parent, ignore_errors=True)
    return place


def roll_back(config: RollbackConfig) -> RollbackRecord:
    """Prove a former champion here and now, and make it live again.

    Raises:
        BundleNotFound: nothing was promoted under that name.
        UsageError: it was never the champion, or is it already.
        GateRefused: it no longer answers here as it did.
        Unproved: the machine had no time, memory or room to prove it; nothing moved.
        Busy: another champion was promoted while this one was proved.
    """
    from ai.ml.retraining.gate.proof import GatePolicy, prove

    proving = partial(prove, policy=GatePolicy(timeout_s=config.timeout_seconds))
    done = Store(config.store).rollback(config.name, config.to, reason=config.reason, prove=proving)
    return RollbackRecord(digest=done.digest, previous=done.previous, sentence=done.rolled_back(config.name))


def _note(config: RetrainConfig, flow_run_id: str | None) -> dict[str, Any]:
    """What a line in the ledger says of the run that made it; none of it decides a bundle's bits."""
    note: dict[str, Any] = {"flow_run": flow_run_id, "data": source_name(config.data.source)}
    return note | {"labels": dict(config.labels)} if config.labels else note


def score_holdout(config: RetrainConfig, candidate: CandidateRef) -> ScoredRef:
    """The holdout rows with the candidate's answers beside the known ones, for a person to look at."""
    from ai.ml.frameworks.pytorch.inference.opened import OpenedBundle

    folder = Path(candidate.bundle.path)
    opened = OpenedBundle(folder)
    bundle = opened.bundle
    table = read_table(candidate.holdout.path)
    answers = opened.scorer.score_table(table)
    decoded = answers.decoded.astype(str) if bundle.task == "classification" else answers.decoded
    scored = table.append_column(f"{bundle.target_column}_predicted", pa.array(decoded))
    path = folder.parent / "holdout-scored.parquet"
    write_table(scored, path)
    return ScoredRef(file=FileRef.of(path), rows=scored.num_rows)


def _verdict(reference: VerdictRef) -> Verdict:
    document = Path(reference.file.path).read_bytes()
    if sha256_bytes(document) != reference.file.sha256:
        raise BundleRefused(f"{reference.file.path} isn't the verdict of this run: nothing is promoted")
    return Verdict.from_json(document)


def _lineage(config: RetrainConfig, data: DataRef, plan: TrainingPlan) -> dict[str, Any]:
    """What the bundle says of its origin: only what the content decides, so that equal runs give equal digests."""
    return plan.lineage(config) | {
        "data_fingerprint": data.fingerprint,
        "rows": data.rows,
        "target": config.data.target,
        "code_version": code_version(),
    }
