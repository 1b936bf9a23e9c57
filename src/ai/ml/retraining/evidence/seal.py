"""Sealing a bundle directory: the saved bundle, its evidence, and last the manifest that binds them by its digest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ai.ml.core.bundle_dir import BUNDLE_NAME, MANIFEST_NAME, Manifest, read_manifest, write_manifest
from ai.ml.core.errors import BundleNotFound, UsageError
from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.inference.opened import OpenedBundle
from ai.ml.frameworks.pytorch.inference.scorer import Scorer, ScoringSettings
from ai.ml.frameworks.pytorch.serialization import save_bundle
from ai.ml.retraining.evidence.evidence import Evidence, collect_evidence, write_evidence
from ai.ml.retraining.evidence.fingerprints import describe_model

if TYPE_CHECKING:
    from ai.ml.frameworks.pytorch.trainer.training import TrainingResult


def stage_candidate(
    bundle_dir: Path,
    result: TrainingResult,
    table_holdout: pa.Table,
    *,
    settings: ScoringSettings | None = None,
    lineage: dict[str, Any] | None = None,
) -> str:
    """Save a trained bundle, the live model's answers as evidence, and the manifest, in that order.

    Args:
        bundle_dir: a folder of its own; a manifest already there is removed first, so that an interrupted call leaves
            a directory without one and never a sealed mixture.
        result: of `train`; its bundle is the live model that answers the probes.
        table_holdout: raw rows that the training didn't see, as they arrived.
        settings: of scoring; kept in the manifest.
        lineage: nothing volatile (the same run gives the same digest): data fingerprint, config, seed, git commit.

    Returns:
        The directory's digest.

    Raises:
        DataRefused: no holdout rows.
        StorageFailed: the disk is full, read-only or gone; then there is no manifest.
    """
    settings = settings or ScoringSettings()
    evidence = collect_evidence(Scorer(result.bundle, settings, "cpu"), table_holdout, metrics=result.metrics)
    (bundle_dir / MANIFEST_NAME).unlink(missing_ok=True)
    save_bundle(result.bundle, bundle_dir, result.metrics)
    return _seal(bundle_dir, result.bundle, evidence, settings, lineage or {})


def make_evidence(
    bundle_dir: Path,
    rows: pa.Table,
    *,
    settings: ScoringSettings | None = None,
    seed: int = 0,
    replace: bool = False,
    lineage: dict[str, Any] | None = None,
) -> str:
    """Make evidence for a bundle trained elsewhere: its answers here and now, to hold later environments against.

    It proves those environments and not the training: the manifest says `origin: environment`.

    Args:
        bundle_dir: with a `model_bundle.pt`; a manifest there keeps its contract, scoring settings and lineage.
        rows: raw rows to score; a target column is kept.
        settings: of scoring; the manifest's if it has one, else the default.
        seed: of the sample and the generated probes.
        replace: whether evidence from the training may be replaced by this weaker one.
        lineage: goes beside what its manifest says of its origin.

    Returns:
        The directory's new digest.

    Raises:
        BundleRefused: the bundle can't be read.
        DataRefused: no rows.
        UsageError: it has evidence from its training already and `replace` isn't set.
    """
    before = _manifest_of(bundle_dir)
    if not replace:
        refuse_trained_evidence(bundle_dir)
    opened = OpenedBundle(bundle_dir / BUNDLE_NAME if before is None else bundle_dir)
    settings = settings or opened.settings
    evidence = collect_evidence(Scorer(opened.bundle, settings, "cpu"), rows, seed=seed, origin="environment")
    origin = ({} if before is None else before.lineage) | (lineage or {})
    return _seal(bundle_dir, opened.bundle, evidence, settings, origin)


def refuse_trained_evidence(bundle_dir: Path) -> None:
    """Refuse to weaken what is there.

    Raises:
        UsageError: the bundle has evidence from its training.
    """
    manifest = _manifest_of(bundle_dir)
    if manifest is not None and (manifest.evidence or {}).get("origin") == "training":
        raise UsageError(
            f"{bundle_dir.name} has evidence from its training, which proves more than this would: pass replace=True "
            "to give it up"
        )


def _manifest_of(bundle_dir: Path) -> Manifest | None:
    try:
        return read_manifest(bundle_dir)
    except BundleNotFound:
        return None


def _seal(
    bundle_dir: Path, bundle: ModelBundle, evidence: Evidence, settings: ScoringSettings, lineage: dict[str, Any]
) -> str:
    return write_manifest(
        bundle_dir,
        model=describe_model(bundle),
        scoring=settings.to_manifest(),
        contract=None if bundle.contract is None else bundle.contract.to_json(),
        evidence=write_evidence(bundle_dir, evidence),
        lineage=lineage,
    )
