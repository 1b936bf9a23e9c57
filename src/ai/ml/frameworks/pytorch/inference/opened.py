"""A saved bundle as this process opened it: manifest, model, scoring settings and scorer, each read once."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from ai.ml.core.bundle_dir import BUNDLE_NAME, Manifest, read_manifest
from ai.ml.core.errors import BundleNotFound
from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.inference.scorer import Scorer, ScoringSettings
from ai.ml.frameworks.pytorch.serialization import load_bundle


class OpenedBundle:
    """A bundle directory, or a `.pt` file alone; the manifest is read at once, the model on first use.

    No file is held against the manifest's hashes: whoever must trust them calls `check_files`.
    """

    def __init__(self, path: Path, device: str = "cpu"):
        """Read the manifest, if there is to be one.

        Args:
            path: a sealed directory with `manifest.json` and `model_bundle.pt`, or a `.pt` file, which is scored by
                the default settings.
            device: where the scorers compute.

        Raises:
            BundleNotFound: `path` is a directory without a manifest.
            BundleRefused: the manifest is damaged, or of a newer format.
        """
        self.path = path
        self.device = device
        self._manifest = read_manifest(path) if path.is_dir() else None
        scoring = None if self._manifest is None else self._manifest.scoring
        self.settings = ScoringSettings() if scoring is None else ScoringSettings.from_manifest(scoring)

    @property
    def manifest(self) -> Manifest:
        """The directory's `manifest.json`.

        Raises:
            BundleNotFound: a file alone has none.
        """
        if self._manifest is None:
            raise BundleNotFound(f"{self.path} isn't a sealed bundle directory: it has no manifest")
        return self._manifest

    @cached_property
    def bundle(self) -> ModelBundle:
        """The loaded bundle, on the CPU.

        Raises:
            BundleNotFound: there is none.
            BundleRefused: it can't be read safely.
        """
        file = self.path if self._manifest is None else self.path / BUNDLE_NAME
        return load_bundle(file, map_location="cpu")

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer of this bundle; its counts sum over every table that it scores."""
        return self.new_scorer()

    def new_scorer(self) -> Scorer:
        """A scorer with counts of its own, over the same loaded bundle."""
        return Scorer(self.bundle, self.settings, self.device)
