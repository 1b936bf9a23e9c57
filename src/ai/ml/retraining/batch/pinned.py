"""The bundle of a batch job: pinned by digest when the job starts, proven in every process that scores with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ai.ml.core.bundle_dir import (
    BUNDLE_NAME,
    MANIFEST_NAME,
    bundle_digest,
    check_files,
    current_versions,
    read_manifest,
)
from ai.ml.core.errors import BundleNotFound, BundleRefused, GateRefused, NothingChecked
from ai.ml.core.files.atomic import sha256_file
from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.inference.opened import OpenedBundle
from ai.ml.frameworks.pytorch.inference.scorer import Scorer
from ai.ml.retraining.evidence.compare import compare_answers
from ai.ml.retraining.evidence.evidence import answer_probes, read_evidence


@dataclass(frozen=True)
class BundlePin:
    """A bundle by path and digest: later reads of the path must find the same content."""

    path: str
    """A bundle directory, or a `.pt` file without a manifest."""
    digest: str
    """Of the manifest, or of the file where there is none."""

    @property
    def sealed(self) -> bool:
        """Whether there is a manifest with the files' hashes."""
        return Path(self.path).is_dir()


@dataclass(frozen=True)
class ProvenBundle:
    """A pinned bundle, loaded and proved by its evidence in this process."""

    pin: BundlePin
    opened: OpenedBundle
    proof: str
    """The result of the proof, as a phrase."""

    @property
    def bundle(self) -> ModelBundle:
        """The loaded bundle."""
        return self.opened.bundle

    def scorer(self) -> Scorer:
        """A scorer with counts of its own."""
        return self.opened.new_scorer()


def pin_bundle(path: Path) -> BundlePin:
    """Name the bundle at `path` by its content.

    Args:
        path: a bundle directory or a `.pt` file; a file with a manifest beside it that names it means the directory.

    Raises:
        BundleNotFound: there is none.
    """
    path = path.absolute()
    file = path / BUNDLE_NAME if path.is_dir() else path
    if not file.is_file():
        raise BundleNotFound(f"no bundle at {path}: expected a bundle directory or a .pt file")
    folder = file.parent
    if (folder / MANIFEST_NAME).is_file() and file.name in read_manifest(folder).files:
        return BundlePin(str(folder), bundle_digest(folder))
    return BundlePin(str(file), sha256_file(file))


@lru_cache(maxsize=2)
def prove_pinned(pin: BundlePin, device: str = "cpu") -> ProvenBundle:
    """Load a pinned bundle once per process, check its digest and every file, and replay its evidence.

    Raises:
        BundleRefused: another bundle lies there by now, or it is damaged.
        GateRefused: this environment gives other bits than the trained model did.
    """
    if not pin.sealed:
        _check_digest(pin, sha256_file(Path(pin.path)))
        alone = OpenedBundle(Path(pin.path), device)
        alone.new_scorer()  # reads the file now, as it was checked, and finds a device that isn't there
        return ProvenBundle(pin, alone, "nothing: the bundle has no manifest")
    folder = Path(pin.path)
    _check_digest(pin, bundle_digest(folder))
    opened = OpenedBundle(folder, device)
    problems = check_files(folder, opened.manifest)
    if problems:
        raise BundleRefused(f"{folder}: {'; '.join(problems)}")
    scorer = opened.new_scorer()
    # Again: the loader has read the manifest for itself, and the directory may have been exchanged meanwhile.
    _check_digest(pin, bundle_digest(folder))
    return ProvenBundle(pin, opened, _replay(folder, scorer))


def _check_digest(pin: BundlePin, found: str) -> None:
    if found != pin.digest:
        raise BundleRefused(
            f"{pin.path} holds bundle {found[:12]} by now, the job was started with {pin.digest[:12]}: "
            "put that one back, or start a new job"
        )


def _replay(folder: Path, scorer: Scorer) -> str:
    try:
        evidence = read_evidence(folder)
    except NothingChecked:
        return "nothing: the bundle has no evidence"
    answers = answer_probes(scorer, evidence.holdout, evidence.generated)
    expected = evidence.answers
    comparison = compare_answers(expected.raw, expected.decoded, answers.raw, answers.decoded)
    if not comparison.equal:
        versions = ", ".join(f"{name} {number}" for name, number in sorted(current_versions().items()))
        raise GateRefused(
            f"this environment gives other bits than the trained model for {comparison.rows_differing} of "
            f"{comparison.rows} rows of the evidence ({comparison.label_flips} other answers), so it doesn't score: "
            f"{versions}"
        )
    return f"{comparison.rows} rows of evidence, bit for bit"
