"""The steps of a retraining run as plain functions; the flow's tasks wrap exactly these.

Each takes what the one before it returned, writes below the model's work folder, and returns a small record of what it
wrote. Working files are written beside and renamed, so a step that was killed leaves nothing that a later run could
mistake for a result.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ai.ml.core.files import dump_json, publish_dir, write_atomic
from ai.ml.core.tables import ReadOptions, fingerprint, read_table, write_table
from ai.ml.retraining.checkpoints import (
    BundleRef,
    CandidateRef,
    DataRef,
    FileRef,
    code_version,
    content_key,
)
from ai.ml.retraining.config import DataSettings, RetrainConfig

if TYPE_CHECKING:
    from ai.ml.frameworks.pytorch.trainer import EpochReport

KEEP_RUNS = 3
"""Snapshots and candidates of the latest runs that stay in the work folder as checkpoints."""


def work_dir(config: RetrainConfig) -> Path:
    """The folder of a model's checkpoints: losing it costs time and nothing else."""
    return Path(config.store).absolute() / config.name / "work"


def source_key(data: DataSettings) -> str:
    """What decides the content of a read: the file's bytes and how to read them; the database answers afresh."""
    source = Path(data.source)
    if source.is_file():
        return content_key(data, FileRef.of(source).sha256)
    if source.is_dir():
        parts = sorted(path for path in source.rglob("*") if path.is_file())
        return content_key(data, [(str(path.relative_to(source)), FileRef.of(path).sha256) for path in parts])
    return content_key(data, os.urandom(16).hex())


def snapshot_data(config: RetrainConfig) -> DataRef:
    """Read the source once and keep the table as it arrived, so that every later step sees the same rows.

    Raises:
        DataRefused: there is no such file, or no table can be read from it.
    """
    data = config.data
    options = ReadOptions(
        delimiter=data.delimiter,
        encoding=data.encoding,
        decimal=data.decimal,
        thousands=data.thousands,
        sheet=data.sheet,
        query=data.query,
    )
    table = read_table(data.source, options)
    content = fingerprint(table)
    path = work_dir(config) / f"data-{content[:16]}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, path)
    keep_latest(path.parent, "data-*.parquet")
    return DataRef(
        file=FileRef.of(path),
        source=data.source,
        rows=table.num_rows,
        columns=tuple(table.column_names),
        fingerprint=content,
    )


def candidate_key(config: RetrainConfig, data: DataRef) -> str:
    """What decides a candidate's bits, the machine aside."""
    return content_key(data.fingerprint, config.data.target, config.training, config.gate.precision, code_version())


def build_candidate(
    config: RetrainConfig, data: DataRef, progress: Callable[[EpochReport], None] | None = None
) -> CandidateRef:
    """Train, then seal weights, evidence and manifest into a bundle directory.

    An interrupted training goes on from its last epoch checkpoint in the same place.

    Raises:
        DataRefused: the table can't be trained on.
        UsageError: the settings don't fit together.
    """
    from ai.ml.frameworks.pytorch.inference import ScoringSettings
    from ai.ml.frameworks.pytorch.trainer import train
    from ai.ml.retraining.candidate import stage_candidate

    key = candidate_key(config, data)
    target = work_dir(config) / f"candidate-{key[:16]}"
    table = read_table(data.file.path)
    epochs = target.with_suffix(".epochs")
    result = train(table, config.training.for_target(config.data.target), progress=progress, checkpoint=epochs)

    building = target.with_suffix(".building")
    for leftover in (building, target):
        shutil.rmtree(leftover, ignore_errors=True)
    building.mkdir(parents=True)
    holdout: pa.Table = table.take(pa.array(result.holdout_rows))
    stage_candidate(
        building / "bundle",
        result,
        holdout,
        settings=ScoringSettings(precision=config.gate.precision),
        lineage=_lineage(config, data),
    )
    write_table(holdout, building / "holdout.parquet")
    history = [dataclasses.asdict(report) for report in result.history]
    write_atomic(building / "history.json", dump_json(history))
    publish_dir(building, target)
    epochs.unlink(missing_ok=True)
    keep_latest(target.parent, "candidate-*")
    return candidate_record(target, [finding.message for finding in result.findings])


def candidate_record(folder: Path, findings: list[str]) -> CandidateRef:
    """Describe what `build_candidate` left in `folder`."""
    from ai.ml.core.manifest import bundle_digest

    metrics = (folder / "bundle" / "metrics.json").read_text(encoding="utf-8")
    import json

    return CandidateRef(
        bundle=BundleRef(path=str(folder / "bundle"), digest=bundle_digest(folder / "bundle")),
        holdout=FileRef.of(folder / "holdout.parquet"),
        history=FileRef.of(folder / "history.json"),
        metrics=json.loads(metrics),
        findings=tuple(findings),
    )


def _lineage(config: RetrainConfig, data: DataRef) -> dict[str, Any]:
    """What the bundle says of its origin: only what the content decides, so that equal runs give equal digests."""
    return {
        "data_fingerprint": data.fingerprint,
        "rows": data.rows,
        "training": config.training.model_dump(mode="json"),
        "target": config.data.target,
        "code_version": code_version(),
    }


def keep_latest(folder: Path, pattern: str, keep: int = KEEP_RUNS) -> None:
    """Remove all but the `keep` newest matches of `pattern` in `folder`."""
    for old in sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)[:-keep]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
