"""`load_bundle`: a bundle file back into memory, by the closed loader of `safe_load`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ai.ml.core.bundle_dir import Manifest, read_manifest
from ai.ml.core.errors import BundleNotFound, BundleRefused, Busy
from ai.ml.core.types import ModelBundle
from ai.ml.frameworks.pytorch.serialization.commit import committed_files
from ai.ml.frameworks.pytorch.serialization.reader import Loaded, load_checked

_TRIES = 50


def load_bundle(path: str | Path, map_location: Any = None) -> ModelBundle:
    """Read a bundle that `save_bundle`, or the format's original writer, wrote.

    Nothing that the file names is imported or called. The model comes back in `eval()`. Where a manifest beside the
    file names this very content, the input contract in it is attached as `bundle.contract`.

    Args:
        path: the `.pt` file.
        map_location: as in `torch.load`: a device, a text, a dict of texts, or a function; `"cpu"` loads what was
            saved on a GPU where there is none.

    Returns:
        A bundle; `class_names`, `feature_medians`, `label_encoder` and `target_scaler` are None where the file lacks
        them, and `model_config` is complete even where the file's isn't.

    Raises:
        BundleNotFound: there is no such file.
        BundleRefused: the file is damaged, forged, for another device, not a bundle, or not the one that the manifest
            beside it describes; the message names the record and the reason.
        Busy: other processes kept saving into the directory.
    """
    path = Path(path)
    loaded, manifest = _load_with_manifest(path, map_location)
    payload = loaded.payload
    bundle = ModelBundle(
        model=loaded.model,
        task=payload.task,  # pyright: ignore[reportArgumentType] - checked
        vectorizer=payload.vectorizer,
        scaler=payload.scaler,
        feature_medians=payload.feature_medians,
        label_encoder=payload.label_encoder,
        target_scaler=payload.target_scaler,
        target_column=payload.target_column,
        input_dim=payload.input_dim,
        output_dim=payload.output_dim,
        class_names=payload.class_names,
        model_config=loaded.model_config,
    )
    if manifest is not None and manifest.contract is not None:
        from ai.ml.core.contract import InputContract

        bundle.contract = InputContract.from_json(manifest.contract)  # pyright: ignore[reportAttributeAccessIssue]
    return bundle


def _load_with_manifest(path: Path, map_location: Any) -> tuple[Loaded, Manifest | None]:
    """The file, and the manifest beside it where there is one that describes it.

    Without its contract a bundle reads cells by other rules, so a manifest that describes another content is never
    passed over in silence. A save may be under way, though: then the pair is new, or its manifest is about to go.
    """
    for _ in range(_TRIES):
        manifest = _manifest_beside(path)
        # A save that was cut off after its commit is finished by the next writer; until then its files are read in
        # place.
        committed = committed_files(path.parent)
        loaded = load_checked(committed.get(path.name, path), map_location)
        entry = None if manifest is None else manifest.files.get(path.name)
        if entry is None or entry.sha256 == loaded.sha256:
            return loaded, manifest if entry is not None else None
        if path.name in committed:
            return loaded, None
        if _manifest_beside(path) == manifest and not committed_files(path.parent):
            raise BundleRefused(
                f"{path} isn't the file that manifest.json beside it describes: sha-256 {loaded.sha256[:12]}…, the "
                f"manifest says {entry.sha256[:12]}…; it was damaged or exchanged (if on purpose, remove the manifest)"
            )
    raise Busy(f"{path.parent} was written to {_TRIES} times while it was read; try again")


def _manifest_beside(path: Path) -> Manifest | None:
    try:
        return read_manifest(path.parent)
    except BundleNotFound:
        return None
